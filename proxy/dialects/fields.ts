// Which fields of a body are known: to cost nothing beyond the bytes that they are, or to be bounded elsewhere. Any
// other may open a cost that no bound sees, so that none is claimed with it. Whoever runs Keymeter can allow more by
// name (proxy.allowed_fields).
import type { JsonObject } from "./json.ts";
import { allowable } from "./why.ts";
import type { Why } from "./why.ts";

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
): Why | undefined {
  if (!body) return undefined;
  const name = Object.keys(body).find(
    (field) =>
      !known.has(field) &&
      body[field] !== undefined &&
      body[field] !== null &&
      !allowed.includes(field) &&
      !allowed.includes(`${holder}${field}`),
  );
  if (name === undefined) return undefined;
  const full = `${holder}${name}`.slice(0, 80);
  return allowable(full, `the field "${full}"`);
}
