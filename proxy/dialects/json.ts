// Total readers of JSON that nobody has checked: whatever stands there, they answer, and none of them throws.

/** A JSON object as parsed; values are checked where they are read. */
export type JsonObject = { readonly [name: string]: unknown };

/** Reads a positive integer of a request; undefined when absent or unlimited. */
export function readLimit(value: unknown): number | undefined {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

/** A member that is an object, or undefined. */
export function objectAt(value: unknown, name: string): JsonObject | undefined {
  const member = memberOf(value, name);
  return typeof member === "object" && member !== null && !Array.isArray(member) ? (member as JsonObject) : undefined;
}

/** An empty list, one for all: most of what is looked for stands in no body. */
export const NONE: readonly never[] = Object.freeze([]);

/** The objects of a list; empty when it is none. */
export function objectsIn(value: unknown): readonly JsonObject[] {
  if (!Array.isArray(value)) return NONE;
  return value.every(isObject) ? value : value.filter(isObject);
}

function isObject(item: unknown): item is JsonObject {
  return typeof item === "object" && item !== null && !Array.isArray(item);
}

/** A member of what may be no object at all. */
export function memberOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (value as JsonObject)[name] : undefined;
}

/** A member that is a text with something in it. */
export function textAt(value: unknown, name: string): string | undefined {
  const member = memberOf(value, name);
  return typeof member === "string" && member !== "" ? member : undefined;
}

/** The members of an object that are texts: tags that a body carries. */
export function textsOf(value: JsonObject | undefined): { [name: string]: string } {
  if (!value) return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

/** The items of a list, whatever they are; empty when it is none. */
export function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? (value as unknown[]) : NONE;
}

/** A value in a sentence. */
export function printed(value: unknown): string {
  return typeof value === "object" && value !== null ? "an object" : String(value);
}

/** An object as JSON text; undefined for one that is nested deeper than can be written. */
export function rawOf(value: JsonObject | undefined): string | undefined {
  try {
    return value && JSON.stringify(value);
  } catch {
    return undefined;
  }
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
  if (typeof value !== "object" || value === null) return false;
  for (const key of Object.keys(value)) if (findDeep((value as JsonObject)[key], test, key, depth + 1)) return true;
  return false;
}

/** Every value under one of the names, wherever it stands in a body. */
export function findAll(value: unknown, names: ReadonlySet<string>, found: unknown[] = [], depth = 0): unknown[] {
  if (depth > 64 || typeof value !== "object" || value === null) return found;
  if (Array.isArray(value)) {
    for (const item of value) findAll(item, names, found, depth + 1);
    return found;
  }
  for (const name of Object.keys(value)) {
    const member = (value as JsonObject)[name];
    if (names.has(name) && member !== null && member !== undefined) found.push(member);
    findAll(member, names, found, depth + 1);
  }
  return found;
}

/** A member of a member. */
export function deepAt(body: JsonObject, ...names: readonly string[]): unknown {
  const [first = "", ...others] = names;
  if (others.length === 0) return body[first];
  const next = objectAt(body, first);
  return next && deepAt(next, ...others);
}
