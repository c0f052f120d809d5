// What a request asks for, read once from its bytes: JSON or a form that every parser reads alike, its call, what it
// refers to, and the documented changes. Pure: small bodies are read where they come, large ones in a thread of their
// own (reading-thread.ts).
import type { IncomingHttpHeaders } from "node:http";
import { checkLimits, checkModel } from "./gate.ts";
import { DIALECTS } from "./dialects/index.ts";
import type { Dialect, DialectName } from "./dialects/dialect.ts";
import type { KnownBy } from "./dialects/fields.ts";
import { Refused } from "./refusals.ts";
import { isForm, readForm } from "./form.ts";
import { readBody } from "./json-body.ts";
import type { Call } from "./dialects/call.ts";
import type { RouteMatch } from "./dialects/routes.ts";

/** All that the reading of a request goes by: plain data, that can travel to a thread. */
export type ToRead = {
  readonly dialect: DialectName;
  readonly match: RouteMatch;
  /** Those that decide how it is read (`headersToRead`). */
  readonly headers: { readonly [name: string]: string };
  /** Whether a stream may be asked for its usage. */
  readonly asksUsage: boolean;
  /** Which fields are known. */
  readonly knownBy: KnownBy;
};

export type RequestRead = {
  readonly call: Call;
  /** Names of things at the provider, each once. */
  readonly references: readonly string[];
  /** The body as it goes on, where it is changed; and whether an event must then be hidden from the client. */
  readonly rewritten: { readonly body: Buffer; readonly hides: boolean } | undefined;
};

/** As many things a request may name; more are a search, not a use. */
const MOST_REFERENCES = 1_000;

/** The headers that the reading of a request goes by. */
export function headersToRead({ describingHeaders = [] }: Dialect, headers: IncomingHttpHeaders): ToRead["headers"] {
  const read: { [name: string]: string } = {};
  for (const name of ["content-type", ...describingHeaders]) {
    const value = headers[name];
    if (value !== undefined) read[name] = String(value);
  }
  return read;
}

/** Throws Refused for a body that is odd. */
export async function readRequest(
  { dialect: name, match, headers, asksUsage, knownBy }: ToRead,
  body: Buffer,
): Promise<RequestRead> {
  const dialect = DIALECTS[name];
  const takesForm = match.route.takesForm === true && isForm(headers);
  const parsed = takesForm ? await readForm(headers, body) : readBody(headers, body);
  checkLimits(parsed, dialect.limits, takesForm);
  const call = dialect.describe(match, parsed, headers, knownBy);
  checkModel(call);
  checkSizes(call);
  const references = once(dialect.references(parsed));
  if (references.length > MOST_REFERENCES)
    throw new Refused("bad_body", `the body refers to more than ${MOST_REFERENCES} files, caches or conversations`);
  return {
    call,
    references,
    rewritten: asksUsage ? dialect.rewrite(call, body, parsed) : undefined,
  };
}

function once(names: readonly string[]): readonly string[] {
  return names.length > 1 ? [...new Set(names)] : names;
}

/** What becomes a part of each row, or is looked up for each: its size is bounded before it costs anything. */
function checkSizes({ model, tiers, otherModels }: Call): void {
  const others = (otherModels?.instead.length ?? 0) + (otherModels?.beside.length ?? 0);
  if (model.length > LONGEST_MODEL)
    throw new Refused("bad_body", `the name of the model has ${model.length} characters; ${LONGEST_MODEL} are read`);
  const long = tiers.find((tier) => tier.length > LONGEST_TIER);
  if (long !== undefined)
    throw new Refused("bad_body", `"${long.slice(0, 40)}..." is too long for a tier, a size or a quality`);
  if (others > MOST_MODELS)
    throw new Refused("bad_body", `the body names ${others} models beside its own; ${MOST_MODELS} are read`);
}

const LONGEST_MODEL = 512;
const LONGEST_TIER = 100;
/** Each is looked up in the prices and in what the key may. */
const MOST_MODELS = 100;
