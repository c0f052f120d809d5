// Days that close, sources that fail and come back, leaks that are none: the jobs on real files, with what goes wrong
// between two steps.
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { closeBilledDay, whyOpen } from "../../collector/compare.ts";
import { readBillFile } from "../../collector/importers/file.ts";
import { ImportError } from "../../collector/importers/importer.ts";
import type { Importer } from "../../collector/importers/importer.ts";
import { closeQuietDays, compareLately, readBills, watchUsage } from "../../collector/jobs.ts";
import { NOTHING_STATED } from "../../collector/match.ts";
import { createCollectorMetrics } from "../../collector/gauges/index.ts";
import { exportFocus } from "../../collector/reports.ts";
import {
  readBillDays,
  readImports,
  readUsageReads,
  replaceBills,
  replaceProviderKeys,
} from "../../ledger/billing/bills.ts";
import type { BilledLine, BilledUsage, BillOfDay } from "../../ledger/billing/bills.ts";
import { readClosed, readComparisons, readCorrections, readUnmetered } from "../../ledger/billing/closed-days.ts";
import { readHints } from "../../ledger/usage/hints.ts";
import { leakFacts } from "../../ledger/billing/leak-steps.ts";
import { dismissLeak, isOpen, readLeaks } from "../../ledger/billing/leaks.ts";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { addDays } from "../../ledger/windows.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import { createLog } from "../../service/log.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";
import { METRICS_SETTINGS } from "./metrics-settings.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const DAY = "2026-10-02";
const NEXT = "2026-10-03";
const T0 = Date.parse(`${DAY}T00:00:00Z`);
const LATER = T0 + 10 * DAY_MS;
const log = createLog("test", "silent");
const prices = createPriceBook();

let folder: string;
let usage: UsageBooks;
let billing: BillingBooks;
let writer: Writer;
let clock = T0;
const books = (): { usage: UsageBooks; billing: BillingBooks } => ({ usage, billing });

beforeEach(async () => {
  folder = temporaryFolder();
  clock = T0;
  writer = await openWriter({
    path: join(folder, "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    now: () => clock,
  });
  // The meter began long before these days.
  await writer.noteMeterRan(T0 - 20 * DAY_MS, T0);
  await writer.noteSeen({ credentials: [{ provider: "openai", credential: "fp_1", hint: "aaa1", atMs: T0 }] });
  const read = await openUsage(folder);
  if (!read) throw new Error("no books");
  usage = read;
  billing = await openToWrite(folder, "billing", "process");
  return async () => {
    await writer.close();
    await usage.close();
    await billing.close();
  };
});

/** An answer of a million tokens at 1 USD, stated or estimated. */
async function answer(atMs: number, state: "reported" | "estimated" = "reported", millions = 1): Promise<void> {
  clock = atMs;
  const quantity = millions * 1_000_000;
  const costNanoUsd = BigInt(millions * 1_000) * 1_000_000n;
  await writer.settle(
    event(writer.nextAttemptId(), costNanoUsd, {
      servedModel: "m",
      usage: { input: quantity },
      usageState: state,
      costLines: [{ unit: "input", quantity, price: 1_000_000n, costNanoUsd }],
    }),
  );
}
function line(more: Partial<BilledLine> = {}): BilledLine {
  return {
    kind: "usage",
    billedKey: "fp_1",
    model: "m",
    tier: "",
    unit: "input",
    quantity: 1_000_000,
    amountNanoUsd: 1_000_000_000n,
    resolutionNanoUsd: 1n,
    raw: "{}",
    ...more,
  };
}
function bill(lines: readonly BilledLine[], asOfMs = T0 + 3 * DAY_MS, day = DAY): BillOfDay {
  return { provider: "openai", day, source: "api", asOfMs, lines };
}
const adjust = async (adjustments: Parameters<Parameters<typeof closeQuietDays>[3]>[0]): Promise<void> =>
  writer.change({ type: "adjust", adjustments }, "test");
const close = (send: typeof adjust = adjust): ReturnType<typeof closeBilledDay> =>
  closeBilledDay(books(), { provider: "openai", day: DAY }, "test", NOTHING_STATED, send, LATER);
async function exported(): Promise<bigint> {
  const options = {
    sinceDay: DAY,
    untilDay: NEXT,
    version: "1.2",
    format: "csv",
    file: join(folder, "f.csv"),
  } as const;
  return (await exportFocus(books(), options, NOTHING_STATED, () => undefined)).billedNanoUsd;
}
async function billedNow(): Promise<bigint | undefined> {
  return (await readBillDays(billing, DAY, NEXT))[0]?.amountNanoUsd;
}
function source(more: Partial<Importer>): Importer {
  return { name: "the source", providers: ["openai"], fetchBills: async () => [], ...more };
}
const hourly = (rows: readonly BilledUsage[], asOfMs: number): Partial<Importer> => ({
  fetchUsage: async () => ({ provider: "openai", asOfMs, usage: rows }),
});
const tokens = (hour: number, billedKey: string, quantity: number): BilledUsage => ({
  hourMs: T0 + hour * HOUR_MS,
  billedKey,
  model: "m",
  tier: "",
  unit: "input",
  quantity,
});

describe("closing", () => {
  it("signs what is true at that moment: a bill that comes meanwhile is taken in", async () => {
    await answer(T0 + HOUR_MS, "estimated");
    await replaceBills(
      billing,
      [bill([line({ quantity: 1_500_000, amountNanoUsd: 1_500_000_000n })])],
      T0 + 3 * DAY_MS,
    );
    let isFirst = true;
    const why = await close(async (list) => {
      await adjust(list);
      if (isFirst)
        await replaceBills(
          billing,
          [bill([line({ quantity: 9_000_000, amountNanoUsd: 9_000_000_000n })], T0 + 4 * DAY_MS)],
          T0 + 4 * DAY_MS,
        );
      isFirst = false;
    });
    expect(why).toBeUndefined();
    const [closed] = await readClosed(billing, DAY, NEXT);
    expect(closed?.billedNanoUsd).toBe(9_000_000_000n);
    expect(await exported()).toBe(9_000_000_000n);
  });

  it("signs what is true at that moment: an answer that is booked meanwhile is taken in", async () => {
    await answer(T0 + HOUR_MS, "estimated");
    await replaceBills(
      billing,
      [bill([line({ quantity: 1_500_000, amountNanoUsd: 1_500_000_000n })])],
      T0 + 3 * DAY_MS,
    );
    let isFirst = true;
    await close(async (list) => {
      await adjust(list);
      if (isFirst) await answer(T0 + 2 * HOUR_MS);
      isFirst = false;
    });
    expect((await readClosed(billing, DAY, NEXT)).length).toBe(1);
    expect(await exported()).toBe(1_500_000_000n);
  });

  it("takes back what an earlier bill corrected and a later one does not", async () => {
    await answer(T0 + HOUR_MS, "estimated");
    await replaceBills(
      billing,
      [bill([line({ quantity: 1_500_000, amountNanoUsd: 1_500_000_000n })])],
      T0 + 3 * DAY_MS,
    );
    const stopped = close(async (list) => {
      await adjust(list);
      throw new Error("killed");
    });
    await expect(stopped).rejects.toThrow("killed");
    await replaceBills(billing, [bill([line()], T0 + 5 * DAY_MS)], T0 + 5 * DAY_MS);
    expect(await close()).toBeUndefined();
    const [closed] = await readClosed(billing, DAY, NEXT);
    expect([closed?.meteredNanoUsd, closed?.billedNanoUsd]).toEqual([1_000_000_000n, 1_000_000_000n]);
    expect(await exported()).toBe(1_000_000_000n);
  });

  it("keeps the signed rows when the bill is written anew with the same total, and notes that it was", async () => {
    await answer(T0 + HOUR_MS);
    const credit = line({
      kind: "credit",
      unit: undefined,
      quantity: undefined,
      amountNanoUsd: -250_000_000n,
      lineItem: "grant",
    });
    await replaceBills(billing, [bill([line(), credit])], T0 + 3 * DAY_MS);
    expect(await close()).toBeUndefined();
    expect(await exported()).toBe(750_000_000n);
    await replaceBills(billing, [bill([line({ amountNanoUsd: 750_000_000n })], T0 + 8 * DAY_MS)], T0 + 8 * DAY_MS);
    expect([await billedNow(), await exported()]).toEqual([750_000_000n, 750_000_000n]);
    expect(await readCorrections(billing, DAY, NEXT)).toMatchObject([{ billedNanoUsd: 0n }]);
  });

  it("waits for a bill that stands still while it is looked at, not while nobody looks", async () => {
    await answer(T0 + HOUR_MS);
    await replaceBills(billing, [bill([line()], T0 + DAY_MS + HOUR_MS)], T0 + DAY_MS + HOUR_MS);
    const rules = { afterDays: 3, quietMs: 2 * DAY_MS };
    const [once] = await readBillDays(billing, DAY, NEXT);
    if (!once) throw new Error("no bill");
    expect(whyOpen(once, rules, DAY, LATER)).toContain("before its bill was last read");
    await replaceBills(billing, [bill([line()], T0 + 5 * DAY_MS)], T0 + 5 * DAY_MS);
    const [again] = await readBillDays(billing, DAY, NEXT);
    if (!again) throw new Error("no bill");
    expect(whyOpen(again, rules, DAY, LATER)).toBeUndefined();
    expect((await closeQuietDays(books(), rules, NOTHING_STATED, adjust, LATER)).closed).toBe(1);
  });
});

describe("a source", () => {
  it("that was away is asked for what was missed, and for days that have not closed", async () => {
    const asked: string[] = [];
    let isAway = false;
    const importer = source({
      async fetchBills(since, until) {
        if (isAway) throw new ImportError("the key expired");
        asked.push(since);
        return Array.from({ length: (Date.parse(until) - Date.parse(since)) / DAY_MS }, (_, i) =>
          bill([line()], T0, addDays(since, i)),
        );
      },
    });
    for (let day = 0; day < 16; day++) {
      isAway = day >= 2 && day < 14;
      await readBills(books(), [importer], 4, T0 + day * DAY_MS + HOUR_MS, log);
    }
    expect(asked.at(-2)).toBe("2026-09-28");
    const days = (await readBillDays(billing, "2026-09-01", "2026-11-01")).map(({ day }) => day);
    expect(days.length).toBe((T0 + 15 * DAY_MS - Date.parse("2026-09-28")) / DAY_MS + 1);
  });

  it("that may not list its keys, or count its usage, still has its bill read", async () => {
    const fail = async (): Promise<never> => {
      throw new ImportError("keys: 403");
    };
    const importer = source({ fetchKeys: fail, fetchUsage: fail, fetchBills: async () => [bill([line()])] });
    expect((await readBills(books(), [importer], 4, T0 + DAY_MS, log)).failures).toEqual(["keys: 403"]);
    expect(await readImports(billing)).toMatchObject([{ lastError: null }]);
    expect(await readUsageReads(billing)).toMatchObject([{ error: "keys: 403" }]);
    expect(await billedNow()).toBe(1_000_000_000n);
  });

  it("whose usage works does not hide that its bill fails", async () => {
    const importer = source({
      fetchBills: async () => {
        throw new ImportError("costs: 403");
      },
      ...hourly([], T0 + DAY_MS),
    });
    await readBills(books(), [importer], 4, T0 + DAY_MS, log);
    expect(await watchUsage(books(), [importer], NOTHING_STATED, prices, T0 + DAY_MS + HOUR_MS, log)).toEqual([]);
    expect(await readImports(billing)).toMatchObject([{ lastSuccessMs: null, lastError: "costs: 403" }]);
    expect(await readUsageReads(billing)).toMatchObject([{ provider: "openai", error: null }]);
  });

  it("that is a file never replaces what the API said, nor an empty answer a bill", async () => {
    await replaceBills(billing, [bill([line()])], T0 + 2 * DAY_MS);
    const file = { ...bill([line({ amountNanoUsd: 5n })], T0 + 9 * DAY_MS), source: "file:FOCUS" };
    expect(await replaceBills(billing, [file], LATER)).toEqual({ changed: [], kept: [DAY] });
    expect(await replaceBills(billing, [bill([], T0 + 9 * DAY_MS)], LATER)).toEqual({ changed: [], kept: [DAY] });
    expect(await billedNow()).toBe(1_000_000_000n);
    // Somebody says that the file is right.
    expect((await replaceBills(billing, [file], LATER, { isForced: true })).changed).toEqual([DAY]);
    expect(await billedNow()).toBe(5n);
  });

  it("of files alone, whose keys nobody can tell, is compared for all keys together, and asks", async () => {
    await answer(T0 + HOUR_MS);
    const csv = `start_time_iso,amount_value,amount_currency,line_item,api_key_id,quantity\n${DAY} 00:00:00,1.00,usd,"m, input",key_a,1000000\n`;
    await replaceBills(billing, await readBillFile("f.csv", Buffer.from(csv)), T0 + DAY_MS);
    const [question] = await compareLately(books(), "2026-09-28", NOTHING_STATED, T0 + DAY_MS + HOUR_MS);
    expect(question).toContain("collector.billing_keys in keymeter.yaml: fp_1: key_a");
    const [compared] = await readComparisons(billing, DAY, NEXT);
    expect([compared?.key, compared?.variances]).toEqual([undefined, []]);
    expect(await readLeaks(billing)).toEqual([]);
  });
});

describe("a leak", () => {
  const watch = (rows: readonly BilledUsage[], atMs = T0 + 10 * HOUR_MS): Promise<string[]> =>
    watchUsage(books(), [source(hourly(rows, T0 + 10 * HOUR_MS))], NOTHING_STATED, prices, atMs, log);
  const keys = (...list: readonly [string, string][]): Promise<void> =>
    replaceProviderKeys(
      billing,
      "openai",
      list.map(([billedKey, hint]) => ({ billedKey, name: billedKey, hint, state: "active" })),
      T0,
    );

  it("is no leak when the proxy's key was swapped within the hour", async () => {
    await keys(["key_old", "sk-...aaa1"], ["key_new", "sk-...new1"]);
    await answer(T0 + 5 * HOUR_MS + 600_000, "reported", 4);
    await writer.noteSeen({
      credentials: [{ provider: "openai", credential: "fp_new", hint: "new1", atMs: T0 + 5.6 * HOUR_MS }],
    });
    await answer(T0 + 5.8 * HOUR_MS);
    await watch([tokens(5, "key_old", 4_000_000), tokens(5, "key_new", 1_000_000)]);
    expect(await readLeaks(billing)).toEqual([]);
    await watch([tokens(5, "key_old", 4_000_000), tokens(7, "key_old", 90_000), tokens(5, "key_new", 1_000_000)]);
    expect((await readLeaks(billing)).map(({ billedKey, quantity }) => `${billedKey} ${quantity}`)).toEqual([
      "key_old 90000",
    ]);
  });

  it("is no leak when a background answer ends hours after it was asked for, and is one beyond that", async () => {
    await keys(["key_1", "sk-...aaa1"]);
    clock = T0 + 2 * HOUR_MS;
    const attemptId = writer.nextAttemptId();
    const subject = { keyId: "key_1", team: "search", project: "", env: "", user: "", provider: "openai", model: "m" };
    await writer.reserve({ attemptId, subject, boundNanoUsd: 5n, expectedNanoUsd: 5n }, "responses", undefined);
    await writer.suspend(attemptId, "resp_1", []);
    clock = T0 + 3 * HOUR_MS;
    await writer.settle(
      event(attemptId, 5n, { keyId: "key_1", servedModel: "m", usage: { input: 300_000 }, costLines: [] }),
    );
    await watch([tokens(6, "key_1", 300_000)]);
    expect(await readLeaks(billing)).toEqual([]);
    await watch([tokens(6, "key_1", 300_000), tokens(8, "key_1", 50_000)]);
    expect((await readLeaks(billing)).map(({ quantity }) => quantity)).toEqual([50_000]);
  });

  it("of keys that cannot be told apart is one of all of them, and stays dismissed", async () => {
    await keys(["key_a", "sk-...aaa1"], ["key_b", "sk-...aaa1"]);
    await watch([tokens(5, "key_a", 500_000)]);
    expect((await readLeaks(billing)).map((leak) => [leak.billedKey, isOpen(leak)])).toEqual([["unmatched", true]]);
    await dismissLeak(billing, "openai", "unmatched", "ours", T0 + 10 * HOUR_MS + 60_000);
    await watch([tokens(5, "key_a", 500_000)], T0 + 10 * HOUR_MS + 300_000);
    expect((await readLeaks(billing)).map(isOpen)).toEqual([false]);
  });

  it("that only the bill shows is told too, and stays dismissed for the days that were looked at", async () => {
    await keys(["key_1", "sk-...aaa1"]);
    await answer(T0 + HOUR_MS);
    const now = T0 + 2.5 * DAY_MS;
    await replaceBills(
      billing,
      [bill([line({ billedKey: "key_x" })], now), bill([line({ billedKey: "key_x" })], now, NEXT)],
      now,
    );
    await compareLately(books(), "2026-09-28", NOTHING_STATED, now);
    const [leak] = await readLeaks(billing);
    expect([leak?.billedKey, leak?.kind, leak?.costNanoUsd]).toEqual(["key_x", "unknown_key", 2_000_000_000n]);
    const billed = await readUnmetered(billing, "openai", "key_x");
    expect(billed).toEqual({ amountNanoUsd: 2_000_000_000n, firstDay: DAY, lastDay: NEXT });
    expect(await readUnmetered(billing, "openai", "key_1")).toBeUndefined();
    if (leak) expect(leakFacts(leak, billed)).toContain(`. Billed of it so far: $2.00 (${DAY} to ${NEXT})`);
    const metrics = createCollectorMetrics(books(), METRICS_SETTINGS, ["openai"]);
    await metrics.refresh(now);
    const text = await metrics.registry.metrics();
    expect(text).toContain(
      'keymeter_leak_quantity{provider="openai",billed_key="key_x",kind="unknown_key",unit="tokens"} 2000000',
    );
    expect(text).toContain('keymeter_variance_usd{provider="openai",cause="unmetered key"} 2');
    expect(text).toContain(`keymeter_oldest_open_day_timestamp_seconds{provider="openai"} ${T0 / 1000}`);
    await dismissLeak(billing, "openai", "key_x", "ours", now + 60_000);
    await compareLately(books(), "2026-09-28", NOTHING_STATED, now + 3 * HOUR_MS);
    expect((await readLeaks(billing)).map(isOpen)).toEqual([false]);
    await metrics.refresh(now + 3 * HOUR_MS);
    expect(await metrics.registry.metrics()).not.toContain("keymeter_leak_quantity{");
  });
});

describe("hints", () => {
  it("are a new address, use after long silence, and an hour of the day that is not the key's", async () => {
    const now = T0 + 40 * DAY_MS + 4 * HOUR_MS;
    const use = async (keyId: string, atMs: number): Promise<void> => {
      clock = atMs;
      await writer.settle(event(writer.nextAttemptId(), 1n, { keyId }));
    };
    // One key works from nine to five, and once at three in the night; one was silent for a month; one is as ever.
    for (let day = 12; day < 40; day++)
      for (const hour of [9, 12, 16])
        for (const keyId of ["key_office", "key_usual"]) await use(keyId, T0 + day * DAY_MS + hour * HOUR_MS);
    await use("key_office", T0 + 40 * DAY_MS + 3 * HOUR_MS);
    await writer.close();
    writer = await openWriter({
      path: join(folder, "usage.db"),
      durability: "process",
      zone: "UTC",
      capMode: "enforce",
      now: () => clock,
    });
    await writer.noteSeen({
      addresses: [
        { keyId: "key_usual", address: "10.0.0.1", atMs: T0 + 12 * DAY_MS },
        { keyId: "key_usual", address: "10.0.0.1", atMs: now - HOUR_MS },
        { keyId: "key_office", address: "10.0.0.2", atMs: T0 + 12 * DAY_MS },
        { keyId: "key_office", address: "203.0.113.9", atMs: now - HOUR_MS },
        { keyId: "key_fresh", address: "10.0.0.3", atMs: now - HOUR_MS },
      ],
    });
    const hints = await readHints(usage, now);
    expect(hints.map(({ keyId, what }) => `${keyId} ${what.replace(/ since .*| on .*?(?= UTC| after)/, "")}`)).toEqual([
      "key_office used from a new address, 203.0.113.9,",
      "key_office used UTC, an hour of the day in which it never was in four weeks",
    ]);
    await use("key_silent", T0 + 41 * DAY_MS);
    await use("key_silent", T0 + 61 * DAY_MS);
    expect((await readHints(usage, T0 + 61 * DAY_MS + HOUR_MS)).map(({ what }) => what)).toEqual([
      expect.stringContaining("after 20 days of silence"),
    ]);
  });
});
