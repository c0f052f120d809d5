// A dialect is a wire format: its routes, what a request can use at most, where an answer says what was used, and how
// it says no. It knows no provider, no money and no socket. To add one: a file here and a line in index.ts.
import type { IncomingHttpHeaders } from "node:http";
import type { Conversation } from "./conversation.ts";
import type { KnownBy } from "./fields.ts";
import type { Call } from "./call.ts";
import type { JsonObject } from "./json.ts";
import type { UsageReader } from "./reading.ts";
import type { Refusal } from "./refusal.ts";
import type { Route, RouteMatch } from "./routes.ts";

export type DialectName = "openai" | "anthropic" | "google";

/** Numbers and switches that decide what a request costs: what one parser rounds, trims or takes for none, another
 *  refuses. */
export type Limits = {
  /** True or false. */
  readonly switches: readonly string[];
  /** Whole numbers. */
  readonly counts: readonly string[];
  /** Those of them that are text in JSON too. */
  readonly textCounts: readonly string[];
};

export type Dialect = {
  readonly name: DialectName;
  /** Version segments, and the one that stands when a client names none. */
  readonly version: { readonly pattern: RegExp; readonly default: string };
  readonly routes: readonly Route[];
  /** Paths that only this format has. */
  readonly likelyPath?: RegExp;
  /** The top-level members of a body that multiply or limit what is answered. */
  readonly limits: Limits;
  /** The subprotocol of a WebSocket that is a key: a browser cannot set headers on one. */
  readonly keyProtocol?: RegExp;
  /** Sign-ins of clients that may pay by the month, and what an answer says of that: its form says it of none. */
  readonly seat?: {
    mayPay(credential: string): boolean;
    /** Of an answer that was accepted, by the names and values of its headers. */
    hasPaid(headers: readonly string[]): boolean;
  };
  /** The header that carries a credential of ours to the provider. */
  readonly credentialHeader: "authorization" | "x-api-key" | "x-goog-api-key";
  /** Top-level fields of a JSON answer that `body` reads when it is too large to be parsed whole. */
  readonly bodyFields: readonly string[];
  /** Those that are read beside them of each object, where a stream comes as one JSON array. */
  readonly elementFields?: readonly string[];
  /** The name of what an answer made. */
  made?(answer: JsonObject): string | undefined;
  /** Why a query or a header of a metered request cannot be accepted (it would hide the usage), or undefined. */
  refuses(query: URLSearchParams, match: RouteMatch): string | undefined;
  describe(match: RouteMatch, body: JsonObject, headers: IncomingHttpHeaders, knownBy: KnownBy): Call;
  /** Headers of a request that `describe` reads. */
  readonly describingHeaders?: readonly string[];
  /** Names of things at the provider that a body refers to: files, caches, conversations, answers, skills. */
  references(body: JsonObject): string[];
  /** Of a `result` route: by which id its work is known. */
  workId(match: RouteMatch): string;
  /** The documented changes of a body, or undefined for none. `hides`: an event must then be hidden from the client. */
  rewrite(call: Call, body: Buffer, parsed: JsonObject): { readonly body: Buffer; readonly hides: boolean } | undefined;
  /** The documented change of an answer that names places at the provider which an SDK follows with the client's key:
   *  they are put at `base`. */
  placeUrls?(text: string, base: string): string;
  reader(call: Call, hides: boolean): UsageReader;
  /** Of a `socket` route: how its messages are read; undefined when this one cannot be metered. */
  converse?(match: RouteMatch, query: URLSearchParams, knownBy: KnownBy): Conversation | undefined;
  /** `userAgent`: some clients retry, wait or hide the reason unless they are told in a form of their own. */
  refusal(
    refusal: Refusal,
    requestId: string,
    userAgent: string,
  ): { readonly status: number; readonly body: string; readonly headers: readonly string[] };
  /** An error in the middle of a stream, in the form that SDKs throw. */
  errorEvent(kind: "unavailable" | "money", message: string, requestId: string): string;
};
