// Which fields of a body are known: to cost nothing beyond the bytes that they are, or to be bounded elsewhere. Any other may open a cost
// that no bound sees, so that none is claimed with it. Whoever runs Keymeter can allow more by name (proxy.allowed_fields).
import { objectAt, textAt } from "./dialect.ts";
import type { JsonObject } from "./dialect.ts";

/** Whose body it is, and what settings allow beyond what is known here. */
export type KnownBy = {
  /** The id of the price list: compatible vendors have fields of their own. */
  readonly vendor: string;
  readonly allowed: readonly string[];
};

/** The first field that is neither known nor allowed, as a reason; absent and null is not sent. */
export function unknownField(
  body: JsonObject | undefined,
  known: ReadonlySet<string>,
  { allowed }: KnownBy,
  holder = "",
): string | undefined {
  const name = Object.keys(body ?? {}).find(
    (field) =>
      !known.has(field) &&
      body?.[field] !== undefined &&
      body[field] !== null &&
      !allowed.includes(field) &&
      !allowed.includes(`${holder}${field}`),
  );
  return name === undefined ? undefined : `the field "${`${holder}${name}`.slice(0, 80)}"`;
}

/** Models that a list of names, or of objects with a `model`, names. What names none is a model that nobody knows. */
export function modelsIn(value: unknown): string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) return [typeof value === "string" ? value : (textAt(value as JsonObject, "model") ?? "")];
  return value.flatMap(modelsIn);
}

/** The text of a reference: a name, or an object that has it as its id. */
export function idOf(value: unknown): string[] {
  const id = typeof value === "object" ? textAt(value as JsonObject | null, "id") : value;
  return typeof id === "string" && id !== "" ? [id] : [];
}

/** Every value under one of the names, wherever it stands in a body. */
export function findAll(value: unknown, names: ReadonlySet<string>, depth = 0): unknown[] {
  if (depth > 64 || typeof value !== "object" || value === null) return [];
  if (Array.isArray(value)) {
    const found: unknown[] = [];
    for (const item of value) if (typeof item === "object") found.push(...findAll(item, names, depth + 1));
    return found;
  }
  const found: unknown[] = [];
  for (const [name, member] of Object.entries(value)) {
    if (names.has(name) && member !== null && member !== undefined) found.push(member);
    if (typeof member === "object") found.push(...findAll(member, names, depth + 1));
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
