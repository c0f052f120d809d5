// A dialect is a wire format: its routes, what a request can use at most, where an answer says what was used, and how it
// says no. It knows no provider, no money and no socket. To add one: a file here and a line in index.ts.
import type { IncomingHttpHeaders } from "node:http";
import { addUsage, contextTokens, readCount } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import type { Conversation } from "./conversation.ts";
import type { KnownBy } from "./fields.ts";

export type DialectName = "openai" | "anthropic" | "google";

/** A JSON object as parsed; values are checked where they are read. */
export type JsonObject = { readonly [name: string]: unknown };

/** A path that reaches the provider. `path` is without version, each `{name}` one segment or a part of it.
 *  `free`: forwarded without booking, for it costs nothing. `metered`: has a bound and a usage reader. `result`: brings the
 *  result of work that was begun earlier, `{id}` in the path. `socket`: a WebSocket whose turns are metered. */
export type Route = {
  readonly method: "GET" | "POST" | "PATCH" | "DELETE";
  readonly path: string;
  readonly endpoint: string;
  readonly kind: "metered" | "free" | "result" | "socket";
  /** Whose things a path reaches. `work`: what `{id}` names, for a Keymeter key only if it made that. `account`: what all keys of
   *  the provider's account made, so it is not for Keymeter keys. */
  readonly scope?: "work" | "account";
  /** Free by this price list alone: elsewhere nobody knows. */
  readonly freeAt?: string;
  /** Its answer is a thing that it made, `id` or `name`: the key that asked may reach it. */
  readonly makes?: boolean;
  /** Its answer names places at the provider that an SDK follows. */
  readonly namesPlaces?: boolean;
  /** The body may be a form (multipart/form-data) too: its text fields are then the members of the object that is read. */
  readonly takesForm?: boolean;
};

export type RouteMatch = { readonly route: Route; readonly parameters: { readonly [name: string]: string } };

/** `openInput` of a request whose text and model lie at the provider. */
export const STORED_PROMPT = "a stored prompt";
export const BATCH_FILE = "a batch file";
/** Which model works is the provider's choice. */
export const UNNAMED_MODEL = "a model that the request does not name";
const NAMELESS: readonly (string | undefined)[] = [STORED_PROMPT, BATCH_FILE, UNNAMED_MODEL];

/** Whether a request may leave its model out, because the provider knows one. */
export function isNameless({ openInput }: Call): boolean {
  return NAMELESS.includes(openInput);
}

/** What a metered request asks for, in what matters to its price. */
export type Call = {
  readonly endpoint: string;
  readonly model: string;
  readonly stream: boolean;
  /** Price-changing tiers that the request asks for. The answer's word wins. */
  readonly tiers: readonly string[];
  /** What the place it goes to does to its price, whatever the answer says. */
  readonly placeTiers?: readonly string[];
  /** The most tokens of one answer; undefined: as much as the model can. 0: it answers no tokens. */
  readonly maxOutputTokens: number | undefined;
  /** How many answers are asked for. */
  readonly answers: number;
  /** Why the input is bounded by the model's context only, not by the body's bytes (a picture, a stored conversation). */
  readonly openInput: string | undefined;
  /** The answer that it goes on from, which is its input too. */
  readonly continues?: string | undefined;
  /** How many tokens that is, where it passed here. */
  readonly continuedTokens?: number;
  /** Why no bound exists at all (tools that run at the provider, work that goes on after the answer). */
  readonly unbounded: string | undefined;
  /** A name in it that nobody knows (a field, a beta): no bound is proven with it, but what it may add is not reckoned with. */
  readonly unknown?: string | undefined;
  /** Its work goes on at the provider after the answer. */
  readonly goesOn?: boolean;
  /** The provider keeps its answer, for who asked to fetch it again. */
  readonly isStored?: boolean;
  /** A turn of a WebSocket: it is not held up when what is held for it is used up. */
  readonly isTurn?: boolean;
  /** How many separate inputs it holds, each with a context of its own. Absent: one. */
  readonly inputs?: number;
  /** Why what is made cannot be told from what goes by: the most that it can cost is then what is expected. */
  readonly hidden?: string;
  /** Whether a model may think in it unseen; false only where that is known to be off. */
  readonly mayThink?: boolean;
  /** Text goes in and text comes out. Absent: sound, pictures or film may be among it. */
  readonly isText?: boolean;
  /** Whether its input may be written to a cache for money; undefined: the provider may do so by itself. */
  readonly writesCache?: boolean | undefined;
  /** Tokens that the provider adds to the input, beyond the bytes of the body: preambles of tools, pictures in a form. */
  readonly hiddenTokens?: number;
  /** Models beside `model` that the body names. One of `instead` may answer in its place; those `beside` it do a part of the work. */
  readonly otherModels?: { readonly instead: readonly string[]; readonly beside: readonly string[] };
  /** A turn of speech, of which only the usual length is known. */
  readonly isSpeech?: boolean;
  /** The longest context that one pass of the request can have, where that is less than the model's. */
  readonly longestContext?: number;
  /** Fees that the request fixes: pictures, seconds of film, characters to be spoken. */
  readonly fees?: Usage;
  /** The answer is the result of work: whole however large, and maybe one JSON object a line. */
  readonly isResult?: boolean;
  /** Tags that the body carries (`user`, `metadata.user_id`). */
  readonly bodyTags: { readonly [name: string]: string };
};

/** What an answer said about its use. */
export type Reading = {
  readonly usage: Usage | undefined;
  /** Of usage that sums up many answers: the input of the largest, by which long context is priced. */
  readonly context?: number | undefined;
  /** Nobody said how long each of them was: the price is inferred where one of them may have been longer than a step. */
  readonly isContextGuess?: boolean;
  /** How many passes of the model, each with the whole context, `usage` sums up: a tool that runs at the provider begins another one. */
  readonly passes?: number;
  /** Usage on top of `usage`, billed at another model's price where `model` is given. */
  readonly extra: readonly {
    readonly model: string | undefined;
    readonly usage: Usage;
    readonly context?: number | undefined;
    /** What picks its price: "variant:high/1024x1024". */
    readonly tiers?: readonly string[];
  }[];
  readonly reasoning: number | undefined;
  readonly servedModel: string | undefined;
  readonly tiers: readonly string[];
  /** Of pending work also what its result will be asked for by. */
  readonly responseId: string | undefined;
  /** The provider's own usage object as JSON text. */
  readonly raw: string | undefined;
  /** Whether `usage` is the last word on it: nothing that follows can change it. */
  readonly final: boolean;
  /** `usage` is worked out, for the provider states none in such an answer. */
  readonly isEstimate?: boolean;
  /** Counts in it do not fit together, or are no counts. */
  readonly isContradictory?: boolean;
  /** `usage` grows as the answer comes, what is thought unseen included. */
  readonly countsThoughts?: boolean;
  /** Whether the protocol's own end was seen: the last event of a stream, the whole of a JSON body. */
  readonly ended: boolean;
  /** The provider put an error where an answer should be. */
  readonly failed: boolean;
  /** What the provider says that it cost, in nano-USD. */
  readonly statedCostNanoUsd?: bigint | undefined;
  /** Numbers in the usage object that no reader knows, by path: counted and shown, so that a new fee is not lost in silence. */
  readonly unknownFields: readonly string[];
  /** Names of things at the provider that the answer made, or leads to: the key that asked may reach them. */
  readonly makes?: readonly string[];
  /** Where the result of work lies, when it is asked for by another name than the work. */
  readonly resultPlace?: string | undefined;
  /** The work goes on at the provider after this answer (background responses): its use is not known yet. */
  readonly pending: boolean;
};

/** A call of text that asks for nothing special: what others differ from. */
export const PLAIN_CALL: Omit<Call, "endpoint" | "model"> = Object.freeze({
  stream: false,
  tiers: [],
  maxOutputTokens: undefined,
  answers: 1,
  openInput: undefined,
  unbounded: undefined,
  bodyTags: {},
});

/** An answer that said nothing: what others differ from. */
export const NO_READING: Reading = Object.freeze({
  usage: undefined,
  extra: [],
  reasoning: undefined,
  servedModel: undefined,
  tiers: [],
  responseId: undefined,
  raw: undefined,
  unknownFields: [],
  final: false,
  ended: false,
  failed: false,
  pending: false,
});

/** What to do with a stream event on its way to the client. `last`: from here on, wait for the books. */
type EventVerdict = "pass" | "last" | "hide";

/** Reads one answer. Either `body` is called once, or `event` for each server-sent event. Never throws on odd input. */
export type UsageReader = {
  /** Whether `body` needs more than its top-level scalars and usage objects: then large bodies are parsed whole. */
  readonly needsWholeBody: boolean;
  body(body: JsonObject): void;
  /** A small answer that is no JSON. */
  text?(text: string): void;
  /** `data` is the event's payload, read as latin1: enough to look for names and to parse numbers from. */
  event(data: string): EventVerdict;
  /** How many bytes of the model's own words an event carries: what is left to go by when no usage comes. Absent: none can be told. */
  words?(data: string): number;
  /** Whether the model has said its last word, and only its counts may still come. Absent: the counts come with it. */
  isFinishing?(): boolean;
  reading(): Reading;
};

/** Why a request is not served, as data; each dialect has its own words for it. */
export type Refusal = {
  readonly kind:
    | "invalid"
    | "unauthorized"
    | "forbidden"
    | "not_found"
    | "too_large"
    | "unsupported_media"
    | "money"
    | "unpriced"
    | "rate"
    | "upstream"
    | "timeout"
    | "unavailable"
    | "upgrade";
  readonly status: number;
  readonly message: string;
  /** For `money`: when the window of the budget ends; undefined: never. */
  readonly resetsAtMs?: number;
};

export type Dialect = {
  readonly name: DialectName;
  /** Version segments, and the one that stands when a client names none. */
  readonly version: { readonly pattern: RegExp; readonly default: string };
  readonly routes: readonly Route[];
  /** The header that carries a credential of ours to the provider. */
  readonly credentialHeader: "authorization" | "x-api-key" | "x-goog-api-key";
  /** Top-level fields of a JSON answer that `body` reads when it is too large to be parsed whole. */
  readonly bodyFields: readonly string[];
  /** Why a query or a header of a metered request cannot be accepted (it would hide the usage), or undefined. */
  refuses(query: URLSearchParams, match: RouteMatch): string | undefined;
  describe(match: RouteMatch, body: JsonObject, headers: IncomingHttpHeaders, knownBy: KnownBy): Call;
  /** Names of things at the provider that a body refers to: files, caches, conversations, answers, skills. */
  references(body: JsonObject): string[];
  /** Of a `result` route: by which id its work is known. */
  workId(match: RouteMatch): string;
  /** The documented changes of a body, or undefined for none. `hides`: an event must then be hidden from the client. */
  rewrite(call: Call, body: Buffer, parsed: JsonObject): { readonly body: Buffer; readonly hides: boolean } | undefined;
  /** The documented change of an answer that names places at the provider which an SDK follows with the client's key: they are
   *  put at `base`. */
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

/** Matches a path without version against the routes. */
export function matchRoute(routes: readonly Route[], method: string, path: string): RouteMatch | undefined {
  for (const route of routes) {
    if (route.method !== method) continue;
    const found = compiled(route.path).exec(path);
    if (found) return { route, parameters: found.groups ?? {} };
  }
  return undefined;
}

const patterns = new Map<string, RegExp>();

function compiled(path: string): RegExp {
  let pattern = patterns.get(path);
  if (!pattern) {
    const source = path
      .replace(/[.*+?^$()|[\]\\]/g, "\\$&")
      .replace(/\{(\w+)\}/g, "(?<$1>[^/:]+)")
      .replace(/\{(\w+)\\\+\}/g, "(?<$1>[^:]+)");
    patterns.set(path, (pattern = new RegExp(`^${source}$`)));
  }
  return pattern;
}

/** Reads a positive integer of a request; undefined when absent or unlimited. */
export function readLimit(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

/** A member that is an object, or undefined. */
export function objectAt(value: unknown, name: string): JsonObject | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const member = (value as JsonObject)[name];
  return typeof member === "object" && member !== null && !Array.isArray(member) ? (member as JsonObject) : undefined;
}

/** The objects of a list; empty when it is none. */
export function objectsIn(value: unknown): JsonObject[] {
  return Array.isArray(value)
    ? value.filter((item): item is JsonObject => typeof item === "object" && item !== null && !Array.isArray(item))
    : [];
}

/** A member that is a text with something in it. */
export function textAt(value: JsonObject | null | undefined, name: string): string | undefined {
  const member = typeof value === "object" && value !== null ? value[name] : undefined;
  return typeof member === "string" && member !== "" ? member : undefined;
}

/** The members of an object that are texts: tags that a body carries. */
export function textsOf(value: JsonObject | undefined): { [name: string]: string } {
  return Object.fromEntries(
    Object.entries(value ?? {}).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

/** Parses an event's payload to an object; undefined when it is none. */
export function parseObject(data: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(data);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as JsonObject) : undefined;
  } catch {
    // Malformed events are passed on as they are; usage that is not found shows as unknown.
    return undefined;
  }
}

/** Finds a value anywhere in a request by a test on (name, value): for the few price-relevant things that lie deep. */
export function findDeep(
  value: unknown,
  test: (name: string, value: unknown) => boolean,
  name = "",
  depth = 0,
): boolean {
  if (depth > 64) return false;
  if (name !== "" && test(name, value)) return true;
  if (Array.isArray(value)) return value.some((item) => findDeep(item, test, name, depth + 1));
  if (typeof value === "object" && value !== null)
    return Object.entries(value).some(([key, member]) => findDeep(member, test, key, depth + 1));
  return false;
}

/** Counts the bytes of texts that stand under the first of the names that has any: an event carries words of one kind. */
export function countWords(data: string, names: readonly string[]): number {
  let bytes = 0;
  for (const name of names) {
    if (bytes > 0) break;
    const mark = `"${name}"`;
    for (let at = data.indexOf(mark); at >= 0; at = data.indexOf(mark, at + mark.length)) {
      // The value: a text behind a colon.
      let start = at + mark.length;
      while (data.charCodeAt(start) <= 0x20) start++;
      if (data[start] !== ":") continue;
      start++;
      while (data.charCodeAt(start) <= 0x20) start++;
      if (data[start] !== '"') continue;
      let end = data.indexOf('"', start + 1);
      while (end > 0 && isEscaped(data, end)) end = data.indexOf('"', end + 1);
      bytes += (end < 0 ? data.length : end) - start - 1;
    }
  }
  return bytes;
}

function isEscaped(data: string, at: number): boolean {
  let slashes = 0;
  while (data[at - 1 - slashes] === "\\") slashes++;
  return slashes % 2 === 1;
}

/** Usage without its zeros and absences: what is not there was not used. */
export function compactUsage(usage: { readonly [unit in keyof Usage]?: number | undefined }): Usage {
  const compact: Record<string, number> = {};
  for (const [unit, quantity] of Object.entries(usage)) if (quantity) compact[unit] = quantity;
  return compact;
}

/** The numbers of a usage object that a dialect knows, whether it uses them or not. */
export type KnownFields = { readonly [name: string]: true | KnownFields };
/** A member whose numbers are all for information. */
export const ANY: KnownFields = Object.freeze({ "*": true });

/** Paths of numbers above zero that are not known. */
export function unknownNumbers(stated: unknown, known: KnownFields | undefined, path = ""): string[] {
  if (typeof stated !== "object" || stated === null) return [];
  if (Array.isArray(stated)) return stated.flatMap((item) => unknownNumbers(item, known, path));
  const found: string[] = [];
  for (const [name, value] of Object.entries(stated)) {
    const place = known?.[name] ?? known?.["*"];
    if (place === true) continue;
    const here = path === "" ? name : `${path}.${name}`;
    if (typeof value === "number" && value > 0) found.push(here);
    else if (typeof value === "object" && value !== null) found.push(...unknownNumbers(value, place, here));
  }
  return found;
}

/** Whether anything that should be a count is none: negative, a fraction, or more than anything uses. */
export function hasOddCounts(stated: unknown): boolean {
  if (typeof stated !== "object" || stated === null) return false;
  return Object.entries(stated).some(
    ([name, value]) =>
      (typeof value === "number" && COUNT_NAME.test(name) && readCount(value) === undefined) || hasOddCounts(value),
  );
}

const COUNT_NAME = /tokens?$|count$/i;

/** A long context begins above this at no provider: answers below it can be summed up, each larger one is priced by itself. */
const SHORT_CONTEXT = 100_000;

/** Sums up the answers of a batch, by model, so that each is priced by its own context. */
export function createPasses(): {
  add(model: string | undefined, usage: Usage): void;
  list(): Reading["extra"];
} {
  const short = new Map<string | undefined, { usage: Usage; context: number }>();
  const long: { model: string | undefined; usage: Usage }[] = [];
  return {
    add(model, usage) {
      const context = contextTokens(usage);
      if (context > SHORT_CONTEXT) return void long.push({ model, usage });
      const sum = short.get(model);
      short.set(model, {
        usage: addUsage(sum?.usage ?? {}, usage),
        context: Math.max(sum?.context ?? 0, context),
      });
    },
    list: () => [...[...short].map(([model, sum]) => ({ model, ...sum })), ...long],
  };
}
