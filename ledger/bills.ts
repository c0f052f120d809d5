// Bills: the providers' cost rows, one day replaced as a whole, and what they differ by from the meter. billing.db; the
// collector is its only writer. Any day can be imported any number of times, in any order: the books are the same.
import { and, asc, drizzle, eq, gte, lt, sql } from "./drizzle.ts";
import type { NanoUsd } from "./money.ts";
import type { Sqlite } from "./open.ts";
import { billedLines, imports, variances } from "./schema.ts";

/** One row of a provider's bill. `raw` is the provider's own row as JSON. */
export type BilledLine = {
  readonly billedKey: string | undefined;
  readonly project: string | undefined;
  readonly lineItem: string | undefined;
  readonly amountNanoUsd: NanoUsd;
  readonly quantity: string | undefined;
  readonly unit: string | undefined;
  readonly raw: string;
};

/** Why metered and billed differ. A closed list; `unknown` is an honest member. */
export type VarianceCause = "none" | "unmetered" | "unbilled" | "late" | "rounding" | "unknown";

/** Billed minus metered of a provider, UTC day and model. */
export type Variance = {
  readonly provider: string;
  readonly day: string;
  readonly model: string;
  readonly meteredNanoUsd: NanoUsd;
  readonly billedNanoUsd: NanoUsd;
  readonly cause: VarianceCause;
  readonly madeAtMs: number;
};

/** Replaces a provider's day: its lines, and nothing of it half. */
export async function replaceDay(
  database: Sqlite,
  provider: string,
  day: string,
  lines: readonly BilledLine[],
): Promise<void> {
  const books = drizzle(database);
  database
    .transaction(() => {
      books
        .delete(billedLines)
        .where(and(eq(billedLines.provider, provider), eq(billedLines.day, day)))
        .run();
      lines.forEach((one, line) =>
        books
          .insert(billedLines)
          .values({
            provider,
            day,
            line,
            billedKey: one.billedKey ?? null,
            project: one.project ?? null,
            lineItem: one.lineItem ?? null,
            amountNanoUsd: one.amountNanoUsd,
            quantity: one.quantity ?? null,
            unit: one.unit ?? null,
            raw: one.raw,
          })
          .run(),
      );
    })
    .immediate();
}

/** Billed money of a provider's UTC days `[sinceDay, untilDay)`, by day and line item. */
export async function readBilled(
  database: Sqlite,
  provider: string,
  sinceDay: string,
  untilDay: string,
): Promise<{ readonly day: string; readonly lineItem: string; readonly amountNanoUsd: NanoUsd }[]> {
  return drizzle(database)
    .select({
      day: billedLines.day,
      lineItem: sql<string>`COALESCE(${billedLines.lineItem}, '')`,
      amount: sql<bigint>`SUM(${billedLines.amountNanoUsd})`,
    })
    .from(billedLines)
    .where(and(eq(billedLines.provider, provider), gte(billedLines.day, sinceDay), lt(billedLines.day, untilDay)))
    .groupBy(billedLines.day, billedLines.lineItem)
    .orderBy(asc(billedLines.day))
    .all()
    .map((row) => ({ day: row.day, lineItem: row.lineItem, amountNanoUsd: row.amount }));
}

/** Notes how an import ended. `error` undefined: it succeeded. */
export async function noteImport(
  database: Sqlite,
  provider: string,
  atMs: number,
  error: string | undefined,
): Promise<void> {
  const books = drizzle(database);
  const success = error === undefined ? { lastSuccessMs: atMs } : {};
  books
    .insert(imports)
    .values({ provider, lastAttemptMs: atMs, lastError: error ?? null, ...success })
    .onConflictDoUpdate({
      target: imports.provider,
      set: { lastAttemptMs: atMs, lastError: error ?? null, ...success },
    })
    .run();
}

export async function readImports(database: Sqlite): Promise<(typeof imports.$inferSelect)[]> {
  return drizzle(database).select().from(imports).all();
}

/** Replaces the variances of a provider's day. */
export async function replaceVariances(
  database: Sqlite,
  provider: string,
  day: string,
  found: readonly Variance[],
): Promise<void> {
  const books = drizzle(database);
  database
    .transaction(() => {
      books
        .delete(variances)
        .where(and(eq(variances.provider, provider), eq(variances.day, day)))
        .run();
      for (const variance of found) books.insert(variances).values(variance).run();
    })
    .immediate();
}

export async function readVariances(database: Sqlite, sinceDay: string, untilDay: string): Promise<Variance[]> {
  return drizzle(database)
    .select()
    .from(variances)
    .where(and(gte(variances.day, sinceDay), lt(variances.day, untilDay)))
    .orderBy(asc(variances.day))
    .all()
    .map((row) => ({ ...row, cause: row.cause as VarianceCause }));
}
