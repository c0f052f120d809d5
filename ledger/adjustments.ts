// Adjustments: corrections of metered money. An event is never edited; what a correction adds counts in the sums and windows of
// its event, and the same correction twice is one.
import { ChangeRefused } from "./change-refused.ts";
import { and, drizzle, eq, gt, sql } from "./drizzle.ts";
import { bookedOf } from "./events.ts";
import type { AttemptId } from "./ids.ts";
import type { NanoUsd } from "./money.ts";
import type { Sqlite } from "./open.ts";
import type { PriceConfidence } from "./prices.ts";
import type { Rollups } from "./rollups.ts";
import { adjustments, events } from "./schema.ts";

export type Adjustment = {
  readonly source: "reprice" | "bill";
  /** What this correction is, at its source. */
  readonly sourceId: string;
  readonly attemptId: AttemptId;
  /** What is added to the event's cost; may be negative. */
  readonly amountNanoUsd: NanoUsd;
  /** How many more events are without a price, and with an inferred one: -1, 0 or 1. */
  readonly unpriced: number;
  readonly inferred: number;
  /** The price version, or the bill's line. */
  readonly detail: string;
};

/** Books corrections and their effect on the sums, inside the writer's transaction. Those that are there already change
 *  nothing. Throws ChangeRefused for an attempt without an event. */
export function addAdjustments(database: Sqlite, rollups: Rollups, list: readonly Adjustment[], atMs: number): void {
  const books = drizzle(database);
  for (const adjustment of list) {
    const event = books.select().from(events).where(eq(events.attemptId, adjustment.attemptId)).get();
    if (!event) throw new ChangeRefused(`there is no event of attempt ${adjustment.attemptId} that could be adjusted`);
    const inserted = books
      .insert(adjustments)
      .values({ ...adjustment, madeAtMs: atMs })
      .onConflictDoNothing()
      .run();
    if (inserted.changes > 0) rollups.adjust(bookedOf(event), adjustment);
  }
}

/** What an event has been adjusted to: its cost and how sure that is. */
export type Adjusted = {
  readonly count: number;
  readonly costNanoUsd: NanoUsd;
  readonly isUnpriced: boolean;
  readonly isInferred: boolean;
};

/** Events that have adjustments, as they stand now, of attempts after `afterAttemptId`. */
export async function readAdjusted(database: Sqlite, afterAttemptId: AttemptId): Promise<Map<AttemptId, Adjusted>> {
  const rows = drizzle(database)
    .select({
      attemptId: adjustments.attemptId,
      cost: events.costNanoUsd,
      confidence: sql<PriceConfidence | "unpriced" | null>`${events.priceConfidence}`,
      count: sql<bigint>`COUNT(*)`,
      amount: sql<bigint>`SUM(${adjustments.amountNanoUsd})`,
      unpriced: sql<bigint>`SUM(${adjustments.unpriced})`,
      inferred: sql<bigint>`SUM(${adjustments.inferred})`,
    })
    .from(adjustments)
    .innerJoin(events, eq(events.attemptId, adjustments.attemptId))
    .where(and(gt(adjustments.attemptId, afterAttemptId)))
    .groupBy(adjustments.attemptId)
    .all();
  return new Map(
    rows.map((row) => [
      row.attemptId,
      {
        count: Number(row.count),
        costNanoUsd: (row.cost ?? 0n) + row.amount,
        isUnpriced: (row.confidence === "unpriced" ? 1n : 0n) + row.unpriced > 0n,
        isInferred: (row.confidence === "inferred" ? 1n : 0n) + row.inferred > 0n,
      },
    ]),
  );
}
