// The parts of a change that is made of several.
import type { Change } from "./changes.ts";

export type Single = Exclude<Change, { type: "together" }>;

export function flat(change: Change): Single[] {
  return change.type === "together" ? change.changes.flatMap(flat) : [change];
}
