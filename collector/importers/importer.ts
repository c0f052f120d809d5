// An importer reads one billing source. To add one: a file here and a line in index.ts.
import type { BilledUsage, BillOfDay, ProviderKey } from "../../ledger/billing/bills.ts";
import { DAY_MS, utcDay } from "../../ledger/windows.ts";

export type Importer = {
  /** What failures and progress name. */
  readonly name: string;
  /** Whose bills it reads, as they are booked; keys and usage are those of the first. */
  readonly providers: readonly string[];
  /** The bills of the UTC days `[sinceDay, untilDay)`: each day of each provider, also one without lines. Rejects with
   *  an ImportError when the source cannot be read in full; then nothing is replaced. */
  fetchBills(sinceDay: string, untilDay: string, onProgress: (done: string) => void): Promise<BillOfDay[]>;
  /** Quantities by hour, without money, of `[sinceMs, untilMs)`; sooner known than bills. Undefined: the source reports
   *  none. */
  readonly fetchUsage?: ((sinceMs: number, untilMs: number) => Promise<FetchedUsage>) | undefined;
  /** The keys that the provider has. Undefined: the source names none. */
  readonly fetchKeys?: (() => Promise<ProviderKey[]>) | undefined;
  /** What somebody should know of the source though it can be read: a sentence each. */
  readonly inspect?: (() => Promise<string[]>) | undefined;
};

/** `asOfMs`: up to when the source was complete. */
export type FetchedUsage = {
  readonly provider: string;
  readonly asOfMs: number;
  readonly usage: readonly BilledUsage[];
};

/** A billing source that cannot be read. The message says which, what was seen and what to do. */
export class ImportError extends Error {
  override readonly name = "ImportError";
}

/** The days `[sinceDay, untilDay)`. */
export function daysOf(sinceDay: string, untilDay: string): string[] {
  const days: string[] = [];
  for (let ms = Date.parse(`${sinceDay}T00:00:00Z`); ms < Date.parse(`${untilDay}T00:00:00Z`); ms += DAY_MS)
    days.push(utcDay(ms));
  return days;
}

/** A count of the wire: a whole number that is not negative; anything else is refused, in the source's name. */
export function readQuantity(value: unknown, where: string): number {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : (value ?? 0);
  if (typeof number !== "number" || !Number.isFinite(number) || number < 0 || number > Number.MAX_SAFE_INTEGER)
    throw new ImportError(`${where}: the quantity ${JSON.stringify(value)} is no number. Nothing was imported.`);
  return Math.round(number);
}

/** Refuses money that is not USD. */
export function requireUsd(currency: string | null | undefined, where: string): void {
  if (currency?.toLowerCase() !== "usd")
    throw new ImportError(
      `${where} are in ${currency ?? "no currency"}; Keymeter books USD only. Nothing was imported; ask the provider for a bill in USD, or leave this source out.`,
    );
}

/** What went wrong before there was an answer that could be read. */
export function unreadable(where: string, error: unknown): ImportError {
  const why = plainText(error instanceof Error ? error.message : String(error));
  return new ImportError(
    `${where}: the answer could not be read (${why}); check the billing URL and the network. Nothing was imported; the next run tries again.`,
  );
}

/** A message of somebody else's: short, without markup, and without anything that could be a key. */
export function plainText(text: string): string {
  return text
    .replace(/<[^>]*>/g, " ")
    .replace(/(Bearer\s+|sk-|AIza)\S+/g, "[secret]")
    .replace(/\s+/g, " ")
    .trim()
    .slice(0, 200);
}
