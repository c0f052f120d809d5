// Names that clients choose: teams, projects and environments of tags, models that nobody has a price for. Each name is
// a row of the sums and a series for ever, so only so many are taken up; what comes after them is `other`.
import type { UsageBooks } from "../ledger/books.ts";
import { readMostUsed } from "../ledger/usage/key-use.ts";

const KINDS = ["team", "project", "env", "model"] as const;
type NameKind = (typeof KINDS)[number];

export type Names = {
  /** The name, or `other` where it is a new one and there are enough. */
  of(kind: NameKind, name: string): string;
  /** These are booked: from now on they are names like any other. */
  take(names: { readonly [kind in NameKind]?: string }): void;
};

const MOST_NAMES = 500;
export const OTHER = "other";
const LOOK_BACK_MS = 30 * 24 * 3_600_000;

/** Knows what stands in the sums of the last days: the names with the most use first. */
export async function createNames(books: UsageBooks, nowMs: number): Promise<Names> {
  const known = new Map<NameKind, Set<string>>();
  for (const kind of KINDS)
    known.set(
      kind,
      new Set(await readMostUsed(books, kind === "model" ? "requestedModel" : kind, nowMs - LOOK_BACK_MS, MOST_NAMES)),
    );
  return {
    of(kind, name) {
      const names = known.get(kind);
      return name === "" || !names || names.has(name) || names.size < MOST_NAMES ? name : OTHER;
    },
    take(names) {
      for (const kind of KINDS) {
        const name = names[kind];
        if (name !== undefined && name !== "") known.get(kind)?.add(name);
      }
    },
  };
}
