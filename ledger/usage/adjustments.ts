// Adjustments: corrections of metered money. An event is never edited; what a correction adds counts in the sums and
// windows of its event, and the same correction twice is one.
import { createHash } from "node:crypto";
import { ChangeRefused } from "./change-refused.ts";
import { askRows, ONE, tell, write } from "../asking.ts";
import type { Asking } from "../asking.ts";
import { asc, eq, gt, sql } from "../drizzle.ts";
import { bookedOf } from "./events.ts";
import type { AttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { snapshotOf, tablesOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import type { PriceConfidence } from "../prices/price-book.ts";
import { askKeptFrom } from "./retention.ts";
import type { Rollups } from "./rollups.ts";
import { adjustments, audit, events } from "./schema.ts";

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

/** Books corrections and their effect on the sums, in the transaction of the change, under the number of the audit
 *  record that will hold their digest. Those that are there already change nothing; returns the others. Throws
 *  ChangeRefused for an attempt without an event. */
export function* addAdjustments(
  rollups: Rollups,
  list: readonly Adjustment[],
  atMs: number,
  auditSeq: number,
): Asking<Adjustment[]> {
  const added: Adjustment[] = [];
  const kept = yield* askKeptFrom();
  for (const adjustment of list) {
    // What has left is not there any more, though it may not be deleted yet: its sums are proven as they were.
    if (adjustment.attemptId < kept)
      throw new ChangeRefused(`the event of attempt ${adjustment.attemptId} has left the books for a file`);
    const [event] = yield* askRows(events, eq(events.attemptId, adjustment.attemptId));
    if (!event) throw new ChangeRefused(`there is no event of attempt ${adjustment.attemptId} that could be adjusted`);
    const row = { ...adjustment, madeAtMs: atMs, auditSeq };
    const inserted = yield* tell(write.insert(adjustments).values(row).onConflictDoNothing().returning(ONE));
    if (inserted === 0) continue;
    rollups.adjust(bookedOf(event), adjustment);
    added.push(adjustment);
  }
  return added;
}

/** SHA-256 over corrections, in whatever order they come. */
export function digestAdjustments(list: readonly Adjustment[]): string {
  const lines = list.map((one) =>
    JSON.stringify([
      one.source,
      one.sourceId,
      one.attemptId,
      one.amountNanoUsd.toString(),
      one.unpriced,
      one.inferred,
      one.detail,
    ]),
  );
  return createHash("sha256").update(lines.toSorted().join("\n")).digest("hex");
}

/** Each audit record whose corrections are not those it was written for. Rows from before there were digests can only
 *  be counted. */
export async function readAdjustmentDifferences(books: UsageBooks): Promise<string[]> {
  const { rows: all, records } = await snapshotOf(books, async (own) => ({
    rows: await tablesOf(own).select().from(adjustments).orderBy(adjustments.source, adjustments.sourceId).all(),
    records: await tablesOf(own).select().from(audit).where(eq(audit.action, "adjust")).orderBy(asc(audit.seq)).all(),
  }));
  const bySeq = new Map<number, Adjustment[]>();
  let unnumbered = 0;
  for (const { auditSeq, madeAtMs: _, source, ...row } of all) {
    if (auditSeq === null) {
      unnumbered += 1;
      continue;
    }
    bySeq.set(auditSeq, [...(bySeq.get(auditSeq) ?? []), { ...row, source: source as Adjustment["source"] }]);
  }
  const found: string[] = [];
  for (const { seq, detail } of records) {
    const said = JSON.parse(detail) as { count: number; digest?: string };
    if (said.digest === undefined) {
      unnumbered -= said.count;
      continue;
    }
    const rows = bySeq.get(seq) ?? [];
    bySeq.delete(seq);
    if (rows.length !== said.count || digestAdjustments(rows) !== said.digest)
      found.push(`adjustments of audit record ${seq}: ${said.count} were booked; the ${rows.length} there are others`);
  }
  if (unnumbered > 0)
    found.push(`${unnumbered} adjustments name no audit record, and none is known that could have made them`);
  return [...found, ...[...bySeq.keys()].map((seq) => `adjustments name audit record ${seq}, which booked none`)];
}

/** What an event has been adjusted to: its cost and how sure that is. */
export type Adjusted = {
  readonly count: number;
  readonly costNanoUsd: NanoUsd;
  readonly isUnpriced: boolean;
  readonly isInferred: boolean;
};

/** Events that have adjustments, as they stand now, of attempts after `afterAttemptId`. */
export async function readAdjusted(books: UsageBooks, afterAttemptId: AttemptId): Promise<Map<AttemptId, Adjusted>> {
  const rows = await tablesOf(books)
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
    .where(gt(adjustments.attemptId, afterAttemptId))
    .groupBy(adjustments.attemptId, events.costNanoUsd, events.priceConfidence)
    .orderBy(adjustments.attemptId, events.costNanoUsd, events.priceConfidence)
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
