// A JSON body that every parser reads alike: what is odd is refused, never repaired.
import { isUtf8 } from "node:buffer";
import type { IncomingHttpHeaders } from "node:http";
import type { JsonObject } from "./dialects/json.ts";
import { Refused } from "./refusals.ts";

const MOST_DEPTH = 64;
const MOST_NAMES = 100_000;
const MOST_VALUES = 500_000;

/** Reads a JSON body that every parser understands alike: an object, UTF-8 without a mark, no name twice in an object,
 *  bounded depth, finite numbers. The bytes that are checked are the bytes that are forwarded. */
export function readBody(headers: Pick<IncomingHttpHeaders, "content-type">, body: Buffer): JsonObject {
  const type = headers["content-type"] ?? "";
  // Who states no type sends JSON: providers take it so.
  if (type !== "" && !/^application\/json( *; *charset="?utf-?8"?)?$/i.test(type))
    throw new Refused(
      "unsupported_media",
      `content-type "${type.slice(0, 80)}" cannot be metered here; send application/json`,
    );
  return readJson(body);
}

/** Reads a JSON object as `readBody` does, wherever it came from. */
export function readJson(body: Buffer): JsonObject {
  if (body.length === 0) throw new Refused("bad_body", "the body is empty; send a JSON object");
  if (body[0] === 0xef && body[1] === 0xbb)
    throw new Refused("bad_body", "the body starts with a byte order mark; send plain UTF-8");
  if (!isUtf8(body)) throw new Refused("bad_body", "the body is not valid UTF-8");
  const names = countNames(body);
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString("utf8"));
  } catch (error) {
    throw new Refused(
      "bad_body",
      `the body is not valid JSON: ${error instanceof Error ? error.message.slice(0, 120) : "unreadable"}`,
    );
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed))
    throw new Refused("bad_body", "the body is not a JSON object");
  const counted = { names: 0 };
  checkValue(parsed, counted);
  // A name that stands twice is one in the parsed object and two in the text.
  if (counted.names !== names)
    throw new Refused("bad_body", "a name stands twice in one object of the body; which one counts would be a guess");
  return parsed as JsonObject;
}

/** Counts the names in the text: colons outside strings. Checks the depth before any recursive reader sees it. */
function countNames(body: Buffer): number {
  let names = 0;
  let values = 0;
  let depth = 0;
  for (let i = 0; i < body.length; i++) {
    switch (body[i]) {
      case 0x22: {
        // To the closing quote: the next one that is not escaped.
        for (;;) {
          i = body.indexOf(0x22, i + 1);
          if (i < 0) return names;
          let slashes = 0;
          while (body[i - 1 - slashes] === 0x5c) slashes++;
          if (slashes % 2 === 0) break;
        }
        break;
      }
      case 0x3a:
        if (++names > MOST_NAMES) throw new Refused("bad_body", `the body has more than ${MOST_NAMES} names`);
        break;
      case 0x2c:
        if (++values > MOST_VALUES) throw new Refused("bad_body", `the body has more than ${MOST_VALUES} values`);
        break;
      case 0x5b:
      case 0x7b:
        if (++depth > MOST_DEPTH) throw new Refused("bad_body", `the body is nested deeper than ${MOST_DEPTH} levels`);
        break;
      case 0x5d:
      case 0x7d:
        depth--;
        break;
      default:
        break;
    }
  }
  return names;
}

function checkValue(value: unknown, counted: { names: number }): void {
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new Refused("bad_body", "a number in the body is too large for any reader");
    return;
  }
  if (typeof value !== "object" || value === null) return;
  if (Array.isArray(value)) {
    for (const item of value) if (typeof item !== "string") checkValue(item, counted);
    return;
  }
  for (const name of Object.keys(value)) {
    counted.names++;
    if (name === "__proto__") throw new Refused("bad_body", `the name "${name}" is not accepted in a body`);
    const member = (value as Record<string, unknown>)[name];
    if (typeof member !== "string") checkValue(member, counted);
  }
}
