// Usage as a provider states it: what is left of it without zeros, which of its numbers nobody knows, and whether they
// are counts at all.
import { readCount } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import type { JsonObject } from "./json.ts";

/** Usage without its zeros and absences: what is not there was not used. */
export function compactUsage(usage: { readonly [unit in keyof Usage]?: number | undefined }): Usage {
  const compact: Record<string, number> = {};
  for (const unit of Object.keys(usage) as (keyof Usage)[]) {
    const quantity = usage[unit];
    if (quantity) compact[unit] = quantity;
  }
  return compact;
}

/** The numbers of a usage object that a dialect knows, whether it uses them or not. */
export type KnownFields = { readonly [name: string]: true | KnownFields };
/** A member whose numbers are all for information. */
export const ANY: KnownFields = Object.freeze({ "*": true });

/** Paths of numbers above zero that are not known. */
export function unknownNumbers(
  stated: unknown,
  known: KnownFields | undefined,
  path = "",
  found: string[] = [],
  depth = 0,
): string[] {
  if (typeof stated !== "object" || stated === null || depth > MOST_DEPTH) return found;
  if (Array.isArray(stated)) {
    for (const item of stated) unknownNumbers(item, known, path, found, depth + 1);
    return found;
  }
  for (const name of Object.keys(stated)) {
    const value = (stated as JsonObject)[name];
    // Only what was written there: every object has a "constructor".
    const place = known && (Object.hasOwn(known, name) ? known[name] : known["*"]);
    if (place === true) continue;
    const here = path === "" ? name : `${path}.${name}`;
    if (typeof value === "number" && value > 0) found.push(here);
    else unknownNumbers(value, place, here, found, depth + 1);
  }
  return found;
}

/** Whether anything that should be a count is none: negative, a fraction, or more than anything uses. */
export function hasOddCounts(stated: unknown, depth = 0): boolean {
  if (typeof stated !== "object" || stated === null) return false;
  // No counts stand as deep.
  if (depth > MOST_DEPTH) return true;
  for (const name of Object.keys(stated)) {
    const value = (stated as JsonObject)[name];
    if (typeof value === "number" && COUNT_NAME.test(name) && readCount(value) === undefined) return true;
    if (hasOddCounts(value, depth + 1)) return true;
  }
  return false;
}

const MOST_DEPTH = 64;
const COUNT_NAME = /tokens?$|count$/i;
