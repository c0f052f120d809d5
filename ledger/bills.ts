// Bills: what providers say they charge, one provider's day replaced as a whole; and what came of comparing it. billing.db; the
// collector is its only writer. Any bill can be read any number of times, in any order: the books are the same.
import { createHash } from "node:crypto";
import { and, asc, drizzle, eq, gte, lt, sql } from "./drizzle.ts";
import type { NanoUsd } from "./money.ts";
import type { Sqlite } from "./open.ts";
import { billDays, billedLines, billedUsage, imports, providerKeys } from "./schema.ts";
import { recordCorrection } from "./closing.ts";
import type { Unit } from "./usage.ts";

export const BILLED_KINDS = ["usage", "fee", "credit", "tax", "adjustment", "rounding"] as const;
export type BilledKind = (typeof BILLED_KINDS)[number];

/** One row of a provider's bill. What the source does not say is undefined. */
export type BilledLine = {
  readonly kind: BilledKind;
  /** The provider's id of the key. */
  readonly billedKey?: string | undefined;
  /** Project or workspace. */
  readonly project?: string | undefined;
  readonly model?: string | undefined;
  /** "batch", "flex", "priority"; "" for the plain one. */
  readonly tier?: string | undefined;
  readonly unit?: Unit | undefined;
  /** As the provider writes it. */
  readonly lineItem?: string | undefined;
  readonly amountNanoUsd: NanoUsd;
  /** What it would have cost by the list, where the bill says so. */
  readonly listNanoUsd?: NanoUsd | undefined;
  readonly quantity?: number | undefined;
  /** The last place of the amount as the source writes it. */
  readonly resolutionNanoUsd: NanoUsd;
  /** The provider's own row as JSON. */
  readonly raw: string;
};

/** Quantities of one UTC hour, without money. `unit` is "requests" where nothing finer is told. */
export type BilledUsage = {
  readonly hourMs: number;
  readonly billedKey?: string | undefined;
  readonly project?: string | undefined;
  readonly model?: string | undefined;
  readonly tier?: string | undefined;
  readonly unit: Unit | "requests";
  readonly quantity: number;
};

/** A key that the provider has, and what it shows of it ("sk-...a1b2"). */
export type ProviderKey = {
  readonly billedKey: string;
  readonly name: string;
  readonly project?: string | undefined;
  readonly hint: string;
  readonly state: string;
};

/** One provider's bill of one UTC day. `asOfMs`: up to when the source was complete. */
export type BillOfDay = {
  readonly provider: string;
  readonly day: string;
  readonly source: string;
  readonly asOfMs: number;
  readonly lines: readonly BilledLine[];
};

/** Books bills in one transaction: all of them or none. A bill that knows less than the one that is there changes nothing; of two
 *  that know as much, the same one always stays. A closed day keeps its figure; what a later bill adds to it is a correction. Returns how
 *  many days changed. */
export function replaceBills(database: Sqlite, bills: readonly BillOfDay[], nowMs: number): number {
  return database.transaction(() => bills.filter((bill) => replaceBill(database, bill, nowMs)).length).immediate();
}

function replaceBill(database: Sqlite, { provider, day, source, asOfMs, lines }: BillOfDay, nowMs: number): boolean {
  const books = drizzle(database);
  const place = and(eq(billDays.provider, provider), eq(billDays.day, day));
  const known = books.select().from(billDays).where(place).get();
  const digest = digestOf(lines);
  if (known && (known.asOfMs > asOfMs || (known.asOfMs === asOfMs && known.digest > digest))) return false;
  if (known?.digest === digest) {
    books.update(billDays).set({ asOfMs, source, readAtMs: nowMs }).where(place).run();
    return false;
  }
  // A day without a bill is no bill of nothing; it becomes one only where there was something before.
  if (!known && lines.length === 0) {
    books
      .insert(billDays)
      .values({
        provider,
        day,
        source,
        asOfMs,
        digest,
        lines: 0,
        amountNanoUsd: 0n,
        readAtMs: nowMs,
        changedAtMs: nowMs,
      })
      .run();
    return false;
  }
  const amountNanoUsd = lines.reduce((sum, line) => sum + line.amountNanoUsd, 0n);
  const row = { source, asOfMs, digest, lines: lines.length, amountNanoUsd, readAtMs: nowMs, changedAtMs: nowMs };
  books
    .insert(billDays)
    .values({ provider, day, ...row })
    .onConflictDoUpdate({ target: [billDays.provider, billDays.day], set: row })
    .run();
  books
    .delete(billedLines)
    .where(and(eq(billedLines.provider, provider), eq(billedLines.day, day)))
    .run();
  const insert = database.prepare(
    `INSERT INTO billed_lines (provider, day, line, kind, billed_key, project, model, tier, unit, line_item, amount_nano_usd,
      list_nano_usd, quantity, resolution_nano_usd, raw) VALUES (${Array(15).fill("?").join(", ")})`,
  );
  sorted(lines).forEach((one, line) =>
    insert.run(
      provider,
      day,
      line,
      one.kind,
      one.billedKey ?? null,
      one.project ?? null,
      one.model ?? null,
      one.tier ?? null,
      one.unit ?? null,
      one.lineItem ?? null,
      one.amountNanoUsd,
      one.listNanoUsd ?? null,
      one.quantity ?? null,
      one.resolutionNanoUsd,
      one.raw,
    ),
  );
  recordCorrection(database, { provider, day, billedNanoUsd: amountNanoUsd, billDigest: digest, nowMs });
  return true;
}

/** The same lines in whatever order pages brought them. */
function sorted(lines: readonly BilledLine[]): BilledLine[] {
  return lines
    .map((line) => ({ line, text: textOf(line) }))
    .toSorted((a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0))
    .map(({ line }) => line);
}

function digestOf(lines: readonly BilledLine[]): string {
  return createHash("sha256").update(lines.map(textOf).toSorted().join("\n")).digest("hex");
}

/** What a line says, without how the source wraps it: the same bill out of two exports is the same. */
function textOf(line: BilledLine): string {
  return JSON.stringify([
    line.kind,
    line.billedKey ?? null,
    line.project ?? null,
    line.model ?? null,
    line.tier ?? null,
    line.unit ?? null,
    line.lineItem ?? null,
    line.amountNanoUsd.toString(),
    line.listNanoUsd?.toString() ?? null,
    line.quantity ?? null,
  ]);
}

/** Books the usage of whole hours `[sinceMs, untilMs)`, and up to when the source knew it. */
export function replaceUsage(
  database: Sqlite,
  provider: string,
  sinceMs: number,
  untilMs: number,
  usage: readonly BilledUsage[],
): void {
  database
    .transaction(() => {
      drizzle(database)
        .delete(billedUsage)
        .where(
          and(eq(billedUsage.provider, provider), gte(billedUsage.hourMs, sinceMs), lt(billedUsage.hourMs, untilMs)),
        )
        .run();
      const insert = database.prepare(
        "INSERT INTO billed_usage (provider, hour_ms, line, billed_key, project, model, tier, unit, quantity) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
      );
      usage.forEach((one, line) =>
        insert.run(
          provider,
          one.hourMs,
          line,
          one.billedKey ?? null,
          one.project ?? null,
          one.model ?? null,
          one.tier ?? null,
          one.unit,
          one.quantity,
        ),
      );
    })
    .immediate();
}

/** Replaces what is known of a provider's keys. */
export function replaceProviderKeys(
  database: Sqlite,
  provider: string,
  list: readonly ProviderKey[],
  nowMs: number,
): void {
  const books = drizzle(database);
  database
    .transaction(() => {
      for (const key of list) {
        const row = { name: key.name, project: key.project ?? null, hint: key.hint, state: key.state, seenAtMs: nowMs };
        books
          .insert(providerKeys)
          .values({ provider, billedKey: key.billedKey, ...row })
          .onConflictDoUpdate({ target: [providerKeys.provider, providerKeys.billedKey], set: row })
          .run();
      }
      // A key that is not listed any more was deleted: its bills still have to be told apart.
      books
        .update(providerKeys)
        .set({ state: "deleted" })
        .where(and(eq(providerKeys.provider, provider), lt(providerKeys.seenAtMs, nowMs)))
        .run();
    })
    .immediate();
}

export async function readProviderKeys(database: Sqlite, provider: string): Promise<ProviderKey[]> {
  return drizzle(database)
    .select()
    .from(providerKeys)
    .where(eq(providerKeys.provider, provider))
    .all()
    .map(({ project, ...row }) => ({ ...row, project: project ?? undefined }));
}

export type BilledLineOfDay = BilledLine & { readonly provider: string; readonly day: string };

/** The lines of a provider's UTC days `[sinceDay, untilDay)`, day by day. */
export async function readBilledLines(
  database: Sqlite,
  provider: string,
  sinceDay: string,
  untilDay: string,
): Promise<BilledLineOfDay[]> {
  return drizzle(database)
    .select()
    .from(billedLines)
    .where(and(eq(billedLines.provider, provider), gte(billedLines.day, sinceDay), lt(billedLines.day, untilDay)))
    .orderBy(asc(billedLines.day), asc(billedLines.line))
    .all()
    .map(({ line: _line, ...row }) => ({
      ...row,
      billedKey: row.billedKey ?? undefined,
      project: row.project ?? undefined,
      model: row.model ?? undefined,
      tier: row.tier ?? undefined,
      unit: (row.unit ?? undefined) as Unit | undefined,
      lineItem: row.lineItem ?? undefined,
      listNanoUsd: row.listNanoUsd ?? undefined,
      quantity: row.quantity ?? undefined,
    }));
}

/** Usage that a provider reports for the hours `[sinceMs, untilMs)`. */
export async function readBilledUsage(
  database: Sqlite,
  provider: string,
  sinceMs: number,
  untilMs: number,
): Promise<BilledUsage[]> {
  return drizzle(database)
    .select()
    .from(billedUsage)
    .where(and(eq(billedUsage.provider, provider), gte(billedUsage.hourMs, sinceMs), lt(billedUsage.hourMs, untilMs)))
    .all()
    .map(({ provider: _provider, line: _line, ...row }) => ({
      ...row,
      billedKey: row.billedKey ?? undefined,
      project: row.project ?? undefined,
      model: row.model ?? undefined,
      tier: row.tier ?? undefined,
      unit: row.unit as BilledUsage["unit"],
    }));
}

export type BillDay = typeof billDays.$inferSelect;

/** What is known of the bills of `[sinceDay, untilDay)`, of one provider or all. */
export async function readBillDays(
  database: Sqlite,
  sinceDay: string,
  untilDay: string,
  provider?: string,
): Promise<BillDay[]> {
  return drizzle(database)
    .select()
    .from(billDays)
    .where(
      and(
        gte(billDays.day, sinceDay),
        lt(billDays.day, untilDay),
        provider === undefined ? undefined : eq(billDays.provider, provider),
      ),
    )
    .orderBy(asc(billDays.day), asc(billDays.provider))
    .all();
}

/** How an import ended. */
export type ImportNote = {
  readonly provider: string;
  readonly lastSuccessMs: number | null;
  readonly lastAttemptMs: number;
  readonly lastError: string | null;
  /** Up to when the provider's usage was known at the last success; null: it reports none. */
  readonly usageAsOfMs: number | null;
  /** What somebody should know though it is no failure. */
  readonly note: string | null;
};

/** Notes how an import ended. `error` undefined: it succeeded. */
export function noteImport(
  database: Sqlite,
  provider: string,
  atMs: number,
  outcome: {
    readonly error?: string | undefined;
    readonly usageAsOfMs?: number | undefined;
    readonly note?: string | undefined;
  },
): void {
  const { error, usageAsOfMs, note } = outcome;
  const success =
    error === undefined
      ? { lastSuccessMs: atMs, note: note ?? null, ...(usageAsOfMs === undefined ? {} : { usageAsOfMs }) }
      : {};
  const row = { lastAttemptMs: atMs, lastError: error ?? null, ...success };
  drizzle(database)
    .insert(imports)
    .values({ provider, ...row })
    .onConflictDoUpdate({ target: imports.provider, set: row })
    .run();
}

export async function readImports(database: Sqlite): Promise<ImportNote[]> {
  return drizzle(database).select().from(imports).orderBy(asc(imports.provider)).all();
}

/** Billed money of `[sinceDay, untilDay)` by provider and day, as the lines add up to it. */
export async function readBilledTotals(
  database: Sqlite,
  sinceDay: string,
  untilDay: string,
): Promise<{ readonly provider: string; readonly day: string; readonly billedNanoUsd: NanoUsd }[]> {
  return drizzle(database)
    .select({
      provider: billedLines.provider,
      day: billedLines.day,
      billedNanoUsd: sql<bigint>`SUM(${billedLines.amountNanoUsd})`,
    })
    .from(billedLines)
    .where(and(gte(billedLines.day, sinceDay), lt(billedLines.day, untilDay)))
    .groupBy(billedLines.provider, billedLines.day)
    .orderBy(asc(billedLines.day), asc(billedLines.provider))
    .all();
}
