// Names that clients choose: teams, projects and environments of tags, models that nobody has a price for. Each name is a row of the sums
// and a series for ever, so only so many are taken up; what comes after them is `other`.
import type { Sqlite } from "../ledger/open.ts";

type NameKind = "team" | "project" | "env" | "model";

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
export function createNames(books: Sqlite, nowMs: number): Names {
  const known = new Map<NameKind, Set<string>>();
  const columns = { team: "team", project: "project", env: "env", model: "requested_model" } as const;
  for (const [kind, column] of Object.entries(columns) as [NameKind, string][]) {
    const names = books
      .prepare(
        `SELECT ${column} FROM rollup_hour WHERE hour_ms >= ? AND ${column} <> '' GROUP BY 1 ORDER BY SUM(requests) DESC LIMIT ${MOST_NAMES}`,
      )
      .pluck()
      .all(nowMs - LOOK_BACK_MS) as string[];
    known.set(kind, new Set(names));
  }
  return {
    of(kind, name) {
      const names = known.get(kind);
      return name === "" || !names || names.has(name) || names.size < MOST_NAMES ? name : OTHER;
    },
    take(names) {
      for (const [kind, name] of Object.entries(names)) if (name !== "") known.get(kind as NameKind)?.add(name);
    },
  };
}
