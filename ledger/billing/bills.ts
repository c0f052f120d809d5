// Bills: what providers say they charge, one provider's day replaced as a whole; and what came of comparing it.
// billing.db; the collector is its only writer. Any bill can be read any number of times, in any order: the books are
// the same.
import { createHash } from "node:crypto";
import { and, asc, eq, getTableColumns, gte, lt } from "../drizzle.ts";
import type { NanoUsd } from "../money.ts";
import type { BillingBooks } from "../books.ts";
import { insertRows, markOf, tablesOf } from "../engine.ts";
import { billDays, billedLines, billedUsage, imports, providerKeys, usageReads } from "./schema.ts";
import { recordCorrection } from "./closed-days.ts";
import type { Unit } from "../usage.ts";

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

/** Books bills in one transaction: all of them or none. Of two bills of a day the fuller one stays: one with lines
 *  before one without, the provider's API before a file, then the one whose source knew more, then always the same one.
 *  A closed day keeps its figure; what a later bill adds to it is a correction. Returns the days that changed, and
 *  those where another bill stayed. */
export async function replaceBills(
  books: BillingBooks,
  bills: readonly BillOfDay[],
  nowMs: number,
  { isForced = false }: { readonly isForced?: boolean } = {},
): Promise<{ readonly changed: readonly string[]; readonly kept: readonly string[] }> {
  const done: { changed: string[]; kept: string[] } = { changed: [], kept: [] };
  await books.transaction(async (own) => {
    for (const bill of bills) {
      const outcome = await replaceBill(own, bill, nowMs, isForced);
      if (outcome !== "same") done[outcome].push(bill.day);
    }
  });
  return done;
}

/** Larger is fuller. A total order, so that bills can come in any. */
function isFuller(a: Standing, b: Standing): boolean {
  const rank = ({ lines, source }: Standing): number => (lines === 0 ? 0 : source === "api" ? 2 : 1);
  if (rank(a) !== rank(b)) return rank(a) > rank(b);
  return a.asOfMs === b.asOfMs ? a.digest > b.digest : a.asOfMs > b.asOfMs;
}
type Standing = Pick<typeof billDays.$inferSelect, "lines" | "source" | "asOfMs" | "digest">;

async function replaceBill(
  books: BillingBooks,
  { provider, day, source, asOfMs, lines }: BillOfDay,
  nowMs: number,
  isForced: boolean,
): Promise<"changed" | "kept" | "same"> {
  const tables = tablesOf(books);
  const place = and(eq(billDays.provider, provider), eq(billDays.day, day));
  const known = await tables.select().from(billDays).where(place).get();
  const digest = digestOf(lines);
  const isSame = known?.digest === digest;
  if (known && !isSame && !isForced && isFuller(known, { lines: lines.length, source, asOfMs, digest })) {
    // An API that names no lines any more was read all the same.
    if (source === "api") await tables.update(billDays).set({ readAtMs: nowMs }).where(place).run();
    return "kept";
  }
  if (isSame) {
    const better = isFuller({ ...known, source, asOfMs }, known) ? { asOfMs, source } : {};
    await tables
      .update(billDays)
      .set({ readAtMs: nowMs, ...better })
      .where(place)
      .run();
    return "same";
  }
  // A day without a bill is no bill of nothing; it becomes one only where there was something before.
  if (!known && lines.length === 0) {
    await tables
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
    return "same";
  }
  const amountNanoUsd = lines.reduce((sum, line) => sum + line.amountNanoUsd, 0n);
  const row = { source, asOfMs, digest, lines: lines.length, amountNanoUsd, readAtMs: nowMs, changedAtMs: nowMs };
  await tables
    .insert(billDays)
    .values({ provider, day, ...row })
    .onConflictDoUpdate({ target: [billDays.provider, billDays.day], set: row })
    .run();
  await tables
    .delete(billedLines)
    .where(and(eq(billedLines.provider, provider), eq(billedLines.day, day)))
    .run();
  await insertRows(
    books,
    billedLines,
    sorted(lines).map((one, line) => ({ provider, day, line, ...one })),
  );
  await recordCorrection(books, { provider, day, billedNanoUsd: amountNanoUsd, billDigest: digest, nowMs });
  return "changed";
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
export async function replaceUsage(
  books: BillingBooks,
  provider: string,
  sinceMs: number,
  untilMs: number,
  usage: readonly BilledUsage[],
): Promise<void> {
  await books.transaction(async (own) => {
    const tables = tablesOf(own);
    await tables
      .delete(billedUsage)
      .where(and(eq(billedUsage.provider, provider), gte(billedUsage.hourMs, sinceMs), lt(billedUsage.hourMs, untilMs)))
      .run();
    await insertRows(
      own,
      billedUsage,
      usage.map((one, line) => ({ provider, line, ...one })),
    );
  });
}

/** Replaces what is known of a provider's keys. */
export async function replaceProviderKeys(
  books: BillingBooks,
  provider: string,
  list: readonly ProviderKey[],
  nowMs: number,
): Promise<void> {
  await books.transaction(async (own) => {
    const tables = tablesOf(own);
    for (const key of list) {
      const row = { name: key.name, project: key.project ?? null, hint: key.hint, state: key.state, seenAtMs: nowMs };
      await tables
        .insert(providerKeys)
        .values({ provider, billedKey: key.billedKey, ...row })
        .onConflictDoUpdate({ target: [providerKeys.provider, providerKeys.billedKey], set: row })
        .run();
    }
    // A key that is not listed any more was deleted: its bills still have to be told apart.
    await tables
      .update(providerKeys)
      .set({ state: "deleted" })
      .where(and(eq(providerKeys.provider, provider), lt(providerKeys.seenAtMs, nowMs)))
      .run();
  });
}

export async function readProviderKeys(books: BillingBooks, provider: string): Promise<ProviderKey[]> {
  const rows = await tablesOf(books)
    .select()
    .from(providerKeys)
    .where(eq(providerKeys.provider, provider))
    .orderBy(providerKeys.billedKey)
    .all();
  return rows.map(({ project, ...row }) => ({ ...row, project: project ?? undefined }));
}

/** A line as it is compared: without the provider's own row. */
export type BilledLineOfDay = Omit<BilledLine, "raw"> & { readonly provider: string; readonly day: string };

/** The lines of a provider's UTC days `[sinceDay, untilDay)`, day by day. */
export async function readBilledLines(
  books: BillingBooks,
  provider: string,
  sinceDay: string,
  untilDay: string,
): Promise<BilledLineOfDay[]> {
  const { raw: _raw, ...columns } = getTableColumns(billedLines);
  const rows = await tablesOf(books)
    .select(columns)
    .from(billedLines)
    .where(and(eq(billedLines.provider, provider), gte(billedLines.day, sinceDay), lt(billedLines.day, untilDay)))
    .orderBy(asc(billedLines.day), asc(billedLines.line))
    .all();
  return rows.map(({ line: _line, ...row }) => ({
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
  books: BillingBooks,
  provider: string,
  sinceMs: number,
  untilMs: number,
): Promise<BilledUsage[]> {
  const rows = await tablesOf(books)
    .select()
    .from(billedUsage)
    .where(and(eq(billedUsage.provider, provider), gte(billedUsage.hourMs, sinceMs), lt(billedUsage.hourMs, untilMs)))
    .orderBy(billedUsage.hourMs, billedUsage.line)
    .all();
  return rows.map(({ provider: _provider, line: _line, ...row }) => ({
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
  books: BillingBooks,
  sinceDay: string,
  untilDay: string,
  provider?: string,
): Promise<BillDay[]> {
  return tablesOf(books)
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
  /** What somebody should know though it is no failure. */
  readonly note: string | null;
};

/** Notes how reading a bill ended. `error` undefined: it succeeded. */
export async function noteImport(
  books: BillingBooks,
  provider: string,
  atMs: number,
  { error, note }: { readonly error?: string | undefined; readonly note?: string | undefined },
): Promise<void> {
  const success = error === undefined ? { lastSuccessMs: atMs, note: note ?? null } : {};
  const row = { lastAttemptMs: atMs, lastError: error ?? null, ...success };
  await books.transaction(async (own) => {
    await tablesOf(own)
      .insert(imports)
      .values({ provider, ...row })
      .onConflictDoUpdate({ target: imports.provider, set: row })
      .run();
  });
}

/** How reading a provider's usage ended, and up to when it was known at the last success; null: never. */
export type UsageRead = typeof usageReads.$inferSelect;

export async function noteUsage(
  books: BillingBooks,
  provider: string,
  atMs: number,
  outcome: { readonly asOfMs: number } | { readonly error: string },
): Promise<void> {
  const row =
    "error" in outcome
      ? { readAtMs: atMs, error: outcome.error }
      : { readAtMs: atMs, asOfMs: outcome.asOfMs, error: null };
  await books.transaction(async (own) => {
    await tablesOf(own)
      .insert(usageReads)
      .values({ provider, ...row })
      .onConflictDoUpdate({ target: usageReads.provider, set: row })
      .run();
  });
}

export async function readUsageReads(books: BillingBooks): Promise<UsageRead[]> {
  return tablesOf(books).select().from(usageReads).orderBy(asc(usageReads.provider)).all();
}

export async function readImports(books: BillingBooks): Promise<ImportNote[]> {
  return tablesOf(books).select().from(imports).orderBy(asc(imports.provider)).all();
}

/** Changes whenever something is written into these books: what was read of them before stands no longer. */
export async function readBillingMark(books: BillingBooks): Promise<string> {
  return markOf(books);
}
