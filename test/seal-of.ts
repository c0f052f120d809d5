// The seal of a day as it stands in books now.
import type { AttemptId } from "../ledger/ids.ts";
import type { Sqlite } from "../ledger/sqlite.ts";
import { digestDay } from "../ledger/usage/seals.ts";
import type { Seal } from "../ledger/usage/seals.ts";

export function sealOf(database: Sqlite, first: AttemptId, columns?: readonly string[]): Seal {
  const digest = digestDay(first, undefined, columns);
  let step = digest.next([]);
  while (!step.done) {
    const { text, values } = step.value;
    step = digest.next(
      database
        .prepare(text)
        .raw()
        .all(...values) as unknown[][],
    );
  }
  return step.value;
}
