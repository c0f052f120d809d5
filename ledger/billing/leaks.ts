// Leaks that were found, and what somebody said of them. billing.db.
import { and, desc, eq, isNotNull } from "../drizzle.ts";
import { ChangeRefused } from "../usage/change-refused.ts";
import type { NanoUsd } from "../money.ts";
import type { BillingBooks } from "../books.ts";
import { tablesOf } from "../engine.ts";
import { leaks } from "./schema.ts";

export type Leak = {
  readonly provider: string;
  readonly billedKey: string;
  readonly kind: "unknown_key" | "beyond_metered";
  readonly firstHourMs: number;
  readonly lastHourMs: number;
  readonly foundAtMs: number;
  /** When it was last looked at and still there. */
  readonly seenAtMs: number;
  readonly quantity: number;
  readonly unit: string;
  /** What it would cost by the price list; undefined: not known. */
  readonly costNanoUsd: NanoUsd | undefined;
  readonly models: readonly string[];
  /** Use up to this instant was looked at by somebody and is no leak. */
  readonly dismissedUntilMs: number | undefined;
  readonly dismissedWhy: string | undefined;
};

/** Books what was found: a leak that is known keeps its first hour and when it was found. */
export async function noteLeak(
  books: BillingBooks,
  found: Omit<Leak, "foundAtMs" | "seenAtMs" | "dismissedUntilMs" | "dismissedWhy">,
  nowMs: number,
): Promise<void> {
  await books.transaction((own) => putLeak(own, found, nowMs));
}

async function putLeak(books: BillingBooks, found: Parameters<typeof noteLeak>[1], nowMs: number): Promise<void> {
  const known = await find(books, found.provider, found.billedKey);
  // A leak after one that was dismissed is a new one.
  const isNew = !known || (known.dismissedUntilMs ?? 0) >= known.seenAtMs;
  // Found again in a window that does not reach back to what was found before: both count.
  const isFurther = !isNew && found.firstHourMs > known.lastHourMs;
  const row = {
    kind: found.kind,
    lastHourMs: found.lastHourMs,
    seenAtMs: nowMs,
    quantity: isNew
      ? found.quantity
      : isFurther
        ? known.quantity + found.quantity
        : Math.max(known.quantity, found.quantity),
    unit: found.unit,
    costNanoUsd: isNew ? (found.costNanoUsd ?? null) : worthOf(known.costNanoUsd, found.costNanoUsd, isFurther),
    models: JSON.stringify(found.models),
    firstHourMs: isNew ? found.firstHourMs : Math.min(known.firstHourMs, found.firstHourMs),
    foundAtMs: isNew ? nowMs : known.foundAtMs,
  };
  await tablesOf(books)
    .insert(leaks)
    .values({ provider: found.provider, billedKey: found.billedKey, ...row })
    .onConflictDoUpdate({ target: [leaks.provider, leaks.billedKey], set: row })
    .run();
}

function worthOf(known: NanoUsd | null, found: NanoUsd | undefined, isFurther: boolean): NanoUsd | null {
  if (known === null || found === undefined) return found ?? known;
  return isFurther ? known + found : known > found ? known : found;
}

/** Up to when use of a provider's keys was dismissed, by the provider's id of the key. */
export async function readDismissals(books: BillingBooks, provider: string): Promise<Map<string, number>> {
  const rows = await tablesOf(books)
    .select({ billedKey: leaks.billedKey, untilMs: leaks.dismissedUntilMs })
    .from(leaks)
    .where(and(eq(leaks.provider, provider), isNotNull(leaks.dismissedUntilMs)))
    .orderBy(leaks.billedKey)
    .all();
  return new Map(rows.map(({ billedKey, untilMs }) => [billedKey, untilMs ?? 0]));
}

/** Says of a leak that it is none, up to now. Throws ChangeRefused when there is none of that key. */
export async function dismissLeak(
  books: BillingBooks,
  provider: string,
  billedKey: string,
  why: string,
  nowMs: number,
): Promise<void> {
  const dismissed = await books.transaction((own) =>
    tablesOf(own)
      .update(leaks)
      .set({ dismissedUntilMs: nowMs, dismissedWhy: why })
      .where(and(eq(leaks.provider, provider), eq(leaks.billedKey, billedKey)))
      .returning({ billedKey: leaks.billedKey })
      .all(),
  );
  if (dismissed.length === 0)
    throw new ChangeRefused(`there is no leak of ${billedKey} at ${provider}; \`keymeter leaks\` lists them`);
}

/** All leaks, the latest first. */
export async function readLeaks(books: BillingBooks): Promise<Leak[]> {
  const rows = await tablesOf(books).select().from(leaks).orderBy(desc(leaks.lastHourMs)).all();
  return rows.map((row) => ({
    ...row,
    costNanoUsd: row.costNanoUsd ?? undefined,
    models: JSON.parse(row.models) as string[],
    dismissedUntilMs: row.dismissedUntilMs ?? undefined,
    dismissedWhy: row.dismissedWhy ?? undefined,
  }));
}

/** Whether a leak still stands: not dismissed since. */
export function isOpen(leak: Leak): boolean {
  return leak.seenAtMs > (leak.dismissedUntilMs ?? 0);
}

function find(
  books: BillingBooks,
  provider: string,
  billedKey: string,
): Promise<typeof leaks.$inferSelect | undefined> {
  return tablesOf(books)
    .select()
    .from(leaks)
    .where(and(eq(leaks.provider, provider), eq(leaks.billedKey, billedKey)))
    .get();
}
