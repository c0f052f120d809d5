// The gate: what is checked of a request before anything is decided by it. What is odd is refused, never repaired.
import type { IncomingMessage } from "node:http";
import { isNameless } from "./dialects/call.ts";
import type { Call } from "./dialects/call.ts";
import type { JsonObject } from "./dialects/json.ts";
import type { Limits } from "./dialects/dialect.ts";
import { CREDENTIAL_HEADERS } from "./providers/provider.ts";
import { isPacked } from "./packed.ts";
import { Refused } from "./refusals.ts";

/** Headers that decide who asks and what is read: one of each at most. */
const SINGLE: ReadonlySet<string> = new Set([
  "host",
  ...CREDENTIAL_HEADERS,
  "content-type",
  "content-length",
  "content-encoding",
]);
/** Local servers and deployments have names with blanks, brackets and commas. */
const MODEL = /^[!#-~]([ !#-~]{0,198}[!#-~])?$/;
const MOST_LIMIT = 100_000_000;

/** Refuses a header that must stand once and stands twice. */
export function checkHeaders(request: IncomingMessage): void {
  const seen: string[] = [];
  const raw = request.rawHeaders;
  for (let i = 0; i < raw.length; i += 2) {
    const name = (raw[i] ?? "").toLowerCase();
    if (!SINGLE.has(name)) continue;
    if (seen.includes(name)) throw new Refused("bad_headers", `the header ${name} stands twice; send it once`);
    seen.push(name);
  }
  const transfer = request.headers["transfer-encoding"]?.toLowerCase();
  if (transfer !== undefined && (transfer !== "chunked" || request.httpVersion !== "1.1"))
    throw new Refused(
      "bad_headers",
      `transfer-encoding "${transfer}" is not accepted; send chunked over HTTP/1.1, or a content-length`,
    );
  isPacked(request.headers["content-encoding"]);
}

/** Refuses a model's name that cannot be booked or labelled. */
export function checkModel(call: Call): void {
  const { model } = call;
  if (model === "" && isNameless(call)) return;
  if (!MODEL.test(model))
    throw new Refused(
      "bad_body",
      model === "" ? 'the body names no "model"' : "the model's name has characters that no model has",
    );
}

/** Refuses limits that are not written as what they are. In a form every value is text. */
export function checkLimits(body: JsonObject, limits: Limits, isForm: boolean): void {
  for (const name of limits.switches) {
    const given = body[name];
    const isSwitch = typeof given === "boolean" || (isForm && (given === "true" || given === "false"));
    if (given !== undefined && given !== null && !isSwitch)
      throw new Refused("bad_body", `"${name}" must be true or false`);
  }
  for (const name of limits.counts) {
    const given = body[name];
    const mayBeText = isForm || limits.textCounts.includes(name);
    const value = mayBeText && typeof given === "string" && /^(0|[1-9]\d{0,8})$/.test(given) ? Number(given) : given;
    const isCount = typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= MOST_LIMIT;
    if (value !== undefined && value !== null && !isCount)
      throw new Refused("bad_body", `"${name}" must be a whole number from 0 to ${MOST_LIMIT}`);
  }
}
