// Tags: who inside a team asked, and for what. From our headers and from those that users of other gateways send
// already, so that a move is a change of base URL. Bounded in number and length; all of these headers are stripped
// upstream.
import type { IncomingHttpHeaders } from "node:http";
import { readClient } from "./clients.ts";
import type { Call } from "./dialects/call.ts";
import { Refused } from "./refusals.ts";

export type Tags = { readonly [name: string]: string };

const MOST_TAGS = 32;
const LONGEST_NAME = 64;
const LONGEST_VALUE = 256;
/** What is looked at of a text before it is cut. */
const LONGEST_READ = 1_024;
const NAME = /^[a-z0-9][a-z0-9_.-]*$/;

/** Header names that carry tags, ours and foreign: never forwarded. */
export function isTagHeader(name: string): boolean {
  return (
    name.startsWith("x-keymeter-") ||
    name.startsWith("x-litellm-") ||
    name.startsWith("helicone-") ||
    name.startsWith("x-portkey-") ||
    name.startsWith("cf-aig-")
  );
}

/** All tags of a request; the first word on a name counts, ours before foreign ones, headers before the body, and what a
 *  program says of itself last. `users`: who is behind it is what stands in this header, or whom the `body` names in its own
 *  field, and nowhere else. */
export function readTags(
  headers: IncomingHttpHeaders,
  { bodyTags, person }: Pick<Call, "bodyTags" | "person">,
  users?: string,
): Tags {
  const tags: { [name: string]: string } = {};
  let count = 0;
  const add = (rawName: string, value: string): void => {
    if (count >= MOST_TAGS) return;
    const name = rawName.slice(0, LONGEST_READ).trim().toLowerCase().slice(0, LONGEST_NAME);
    const text = value
      .slice(0, LONGEST_READ)
      .trim()
      .replace(/\p{Cc}/gu, " ")
      .slice(0, LONGEST_VALUE)
      // Half a character is none: databases take no such text.
      .toWellFormed();
    if (holdsSecret(name, text)) return;
    if (!NAME.test(name) || text === "" || Object.hasOwn(tags, name)) return;
    tags[name] = text;
    count += 1;
  };

  for (const name of Object.keys(headers)) {
    const value = headers[name];
    if (typeof value !== "string" || !isTagHeader(name)) continue;
    // Other gateways take JSON there.
    if (name === "x-keymeter-tags" && /^[{[]/.test(value.trimStart())) {
      if (!addJson(value, add, true)) throw new Refused("bad_headers", NO_TAGS);
    } else if (name === "x-keymeter-tags" || name === "x-litellm-tags")
      for (const pair of value.split(",")) addPair(pair, add);
    else if (name.startsWith("x-keymeter-")) add(name.slice("x-keymeter-".length), value);
    else if (name.startsWith("helicone-property-")) add(name.slice("helicone-property-".length), value);
    else if (name === "helicone-user-id") add("user", value);
    else if (name === "x-portkey-metadata" || name === "cf-aig-metadata") addJson(value, add);
  }
  if (person !== undefined) add("user", person);
  for (const [name, value] of Object.entries(bodyTags)) add(name, value);
  for (const [name, value] of Object.entries(readClient(headers))) add(name, value);
  if (users === undefined) return tags;
  const { user: _, ...others } = tags;
  const named = users === "body" ? person : headers[users];
  return typeof named === "string" && named !== "" && !SECRET_TEXT.test(named) ? { ...others, user: named } : others;
}

/** "a=b" is a tag a with value b; a bare "a" is a tag a that is true. */
function addPair(pair: string, add: (name: string, value: string) => void): void {
  const mark = pair.indexOf("=");
  if (mark < 0) add(pair, "true");
  else add(pair.slice(0, mark), pair.slice(mark + 1));
}

/** Whether it was an object; `isStrict`: of texts, numbers and booleans alone. */
function addJson(text: string, add: (name: string, value: string) => void, isStrict = false): boolean {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    // A tag header that is no JSON tags nothing; it must not break the request.
    return false;
  }
  if (typeof parsed !== "object" || parsed === null || (isStrict && Array.isArray(parsed))) return false;
  const isText = (value: unknown): boolean => ["string", "number", "boolean"].includes(typeof value);
  if (isStrict && !Object.values(parsed).every(isText)) return false;
  for (const [name, value] of Object.entries(parsed)) {
    if (isText(value)) add(name.replace(/^_/, ""), String(value));
  }
  return true;
}

const NO_TAGS = 'x-keymeter-tags is neither a list such as "feature=search,customer=acme" nor a JSON object of texts';

/** A header for a key, or a value that is one, is no tag: tags are shown to many. */
function holdsSecret(name: string, text: string): boolean {
  return SECRET_NAME.test(name) || SECRET_TEXT.test(text);
}

const SECRET_NAME = /(^|[-_.])(key|api-?key|token|secret|password|authorization|credential)s?$/;
const SECRET_TEXT =
  /km_[a-z0-9]+_\w{6,}_\w{20,}|\b(sk|rk|pk|xai|gsk|pplx)[-_][\w-]{16,}|\bAIza[\w-]{20,}|\bAQ\.[\w-]{20,}|\beyJ[\w-]+\.[\w-]+\.|\bya29\.|^bearer /i;
