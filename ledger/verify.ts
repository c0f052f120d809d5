// The proof that sums are nothing but their events and adjustments: folds them again and names every row that disagrees.
import type { Sqlite } from "./open.ts";

const MOST_NAMED = 100;

/** Rows of the hour rollup, and day totals, that are not the sum of their events. Empty, always. */
export async function readFoldDifferences(database: Sqlite): Promise<string[]> {
  const hours = database
    .prepare(
      `WITH folded AS (
         SELECT at_ms - at_ms % 3600000 AS hour_ms, key_id, provider, COALESCE(served_model, requested_model) AS model, requested_model, team, project, env,
                COUNT(*) AS requests, COALESCE(SUM(cost_nano_usd), 0) + COALESCE(SUM(adjusted), 0) AS cost
         FROM events LEFT JOIN (SELECT attempt_id, SUM(amount_nano_usd) AS adjusted FROM adjustments GROUP BY attempt_id) USING (attempt_id)
         GROUP BY 1, 2, 3, 4, 5, 6, 7, 8)
       SELECT folded.hour_ms AS hour, folded.key_id AS key, folded.model AS model, folded.cost AS folded, rollup_hour.cost_nano_usd AS stored
       FROM folded LEFT JOIN rollup_hour USING (hour_ms, key_id, provider, model, requested_model, team, project, env)
       WHERE stored IS NULL OR stored <> folded.cost OR rollup_hour.requests <> folded.requests
       LIMIT ${MOST_NAMED}`,
    )
    .all() as { hour: bigint; key: string; model: string; folded: bigint; stored: bigint | null }[];
  const [total] = database
    .prepare(
      "SELECT (SELECT COALESCE(SUM(cost_nano_usd), 0) FROM events) + (SELECT COALESCE(SUM(amount_nano_usd), 0) FROM adjustments) AS events, (SELECT COALESCE(SUM(cost_nano_usd), 0) FROM rollup_hour) AS hours, (SELECT COALESCE(SUM(cost_nano_usd), 0) FROM rollup_day) AS days",
    )
    .all() as { events: bigint; hours: bigint; days: bigint }[];
  const found = hours.map(
    (row) =>
      `hour ${new Date(Number(row.hour)).toISOString()}, key ${row.key}, model ${row.model}: events sum to ${row.folded}, stored ${row.stored ?? "nothing"}`,
  );
  if (total && (total.events !== total.hours || total.events !== total.days))
    found.push(`in all: events ${total.events}, hours ${total.hours}, days ${total.days} nano-USD`);
  return found;
}
