// Seats and API traffic through one proxy, held against a provider's bill: the bill knows nothing of seats, and nobody
// looks for them in it.
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { anthropicImporter } from "../../collector/importers/anthropic.ts";
import { closeQuietDays, compareLately, readBills, watchUsage } from "../../collector/jobs.ts";
import { NOTHING_STATED } from "../../collector/match.ts";
import { readClosed, readComparisons } from "../../ledger/billing/closed-days.ts";
import { readLeaks } from "../../ledger/billing/leaks.ts";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import { cost } from "../../ledger/cost.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import type { Adjustment } from "../../ledger/usage/adjustments.ts";
import { issueVirtualKey } from "../../ledger/usage/keys.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { SEAT } from "../../ledger/usage/usage-event.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import { addDays } from "../../ledger/windows.ts";
import { createLog } from "../../service/log.ts";
import { Secret } from "../../service/secret.ts";
import { startFakeAnthropic } from "../fake/billing/anthropic.ts";
import { createTruth } from "../fake/billing/truth.ts";
import type { FakeServer } from "../fake/billing/truth.ts";
import { random, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
const START = "2026-11-02";
const DAYS = 4;
const END = addDays(START, DAYS);
const MODEL = "claude-haiku-4-5";
/** A client's own key for the API, which is on the organisation's bill too. */
const OWN = "fp_own";

describe(`${DAYS} days of seats and API traffic by one key (seed ${SEED})`, () => {
  const truth = createTruth(Date.parse(`${START}T00:00:00Z`));
  const counted = { api: 0n, seats: 0n };
  const failures: string[] = [];
  let provider: FakeServer;
  let writer: Writer;
  let usage: UsageBooks;
  let billing: BillingBooks;

  beforeAll(async () => {
    const next = random(SEED);
    const prices = createPriceBook();
    const startMs = truth.nowMs;
    let clock = startMs - HOUR_MS;
    provider = await startFakeAnthropic(truth);
    provider.pageSize = 400;
    truth.keys.push(
      { provider: "anthropic", id: "apikey_company", name: "keymeter", project: "w", shown: "sk-ant-api03-R2D...aan1" },
      { provider: "anthropic", id: "apikey_own", name: "somebody's", project: "w", shown: "sk-ant-api03-Q7x...zz42" },
    );
    const { inspect: _inspect, ...importer } = anthropicImporter({
      adminKey: new Secret("sk-ant-admin01-test"),
      baseUrl: provider.url,
      now: () => truth.nowMs,
    });
    const folder = temporaryFolder();
    writer = await openWriter({
      path: join(folder, "usage.db"),
      durability: "process",
      zone: "UTC",
      capMode: "enforce",
      now: () => clock,
    });
    const { key } = issueVirtualKey({ name: "anna" }, clock);
    await writer.change({ type: "createKey", key, digest: key.id }, "test");
    const own = {
      ...key,
      id: OWN,
      kind: "fingerprint",
      provider: "anthropic",
      name: "somebody's",
      hint: "zz42",
    } as const;
    await writer.change({ type: "createKey", key: own, digest: OWN }, "test");
    await writer.noteSeen({
      credentials: [{ provider: "anthropic", credential: "fp_company", hint: "aan1", atMs: clock }],
    });
    await writer.noteMeterRan(startMs - 24 * HOUR_MS, startMs);
    const opened = await openUsage(folder);
    if (!opened) throw new Error("no books");
    usage = opened;
    billing = await openToWrite(folder, "billing", "process");

    const serve = async (
      payer: string,
      billedKey: string | undefined,
      atMs: number,
      durationMs: number,
    ): Promise<void> => {
      const used = {
        input: 1_000 + Math.floor(next() * 9_000),
        cache_read: Math.floor(next() * 50_000),
        output: 100 + Math.floor(next() * 900),
      };
      const price = prices.find("anthropic", MODEL, atMs, []);
      if (!price) throw new Error(`no price of ${MODEL}`);
      const { costNanoUsd = 0n, lines } = cost(used, price);
      clock = atMs;
      const answered = event(writer.nextAttemptId(), billedKey === undefined ? 0n : costNanoUsd, {
        keyId: key.id,
        provider: "anthropic",
        requestedModel: MODEL,
        servedModel: MODEL,
        team: "",
        payer,
        ...(billedKey === undefined ? { seatNanoUsd: costNanoUsd } : {}),
        usage: used,
        costLines: lines,
        priceVersion: price.version,
        priceConfidence: price.confidence,
        durationMs,
      });
      await writer.settle(answered);
      counted[billedKey === undefined ? "seats" : "api"] += costNanoUsd;
      if (billedKey === undefined) return;
      const billedMs = atMs + durationMs;
      for (const { unit, quantity, costNanoUsd: amountNanoUsd } of lines)
        truth.charges.push({
          provider: "anthropic",
          atMs: billedMs,
          billedKey,
          project: "w",
          model: MODEL,
          tier: "",
          unit: unit as never,
          quantity,
          amountNanoUsd,
          billedAtMs: billedMs + 4 * HOUR_MS,
          reportedAtMs: billedMs + 3 * MINUTE_MS,
        });
    };

    const adjust = async (adjustments: Adjustment[]): Promise<void> =>
      writer.change({ type: "adjust", adjustments }, "test");
    const books = { usage, billing };
    const log = createLog("test", "silent");
    for (let hour = 0; hour < (DAYS + 5) * 24; hour++) {
      const atMs = startMs + hour * HOUR_MS;
      if (hour < DAYS * 24) {
        await serve("", "apikey_company", atMs + 10 * MINUTE_MS, 2_000);
        // At the API a request is under way for a moment; a subscription's runs over the hour, and over midnight.
        await serve(SEAT, undefined, atMs + 20 * MINUTE_MS, 2_000);
        if (hour % 3 === 0) await serve(OWN, "apikey_own", atMs + 30 * MINUTE_MS, 2_000);
        await serve(SEAT, undefined, atMs + 59 * MINUTE_MS, 5 * MINUTE_MS);
      }
      truth.nowMs = clock = atMs + 59 * MINUTE_MS + 30_000;
      if (hour % 6 === 5) failures.push(...(await watchUsage(books, [importer], NOTHING_STATED, prices, clock, log)));
      if (hour % 24 !== 23) continue;
      const read = await readBills(books, [importer], 4, clock, log);
      failures.push(...read.failures, ...(await compareLately(books, read.firstDay, NOTHING_STATED, clock)));
      const rules = { afterDays: 3, quietMs: 20 * HOUR_MS };
      failures.push(...(await closeQuietDays(books, rules, NOTHING_STATED, adjust, clock)).failures);
    }
  });
  afterAll(async () => {
    await writer.close();
    await usage.close();
    await billing.close();
    await provider.close();
  });

  it("have API sums that equal the bill, to the nano-dollar, and no variance", async () => {
    expect(failures).toEqual([]);
    const comparisons = await readComparisons(billing, START, END);
    const charged = truth.charges.reduce((sum, one) => sum + one.amountNanoUsd, 0n);
    const sum = (field: "meteredNanoUsd" | "billedNanoUsd"): bigint =>
      comparisons.reduce((total, one) => total + one[field], 0n);
    expect(counted.api).toBe(charged);
    expect(sum("meteredNanoUsd")).toBe(charged);
    expect(sum("billedNanoUsd")).toBe(charged);
    expect(new Set(comparisons.map(({ key }) => key))).toEqual(new Set(["apikey_company", "apikey_own"]));
    expect(comparisons.flatMap(({ variances }) => variances)).toEqual([]);
    expect((await readClosed(billing, START, END)).length).toBe(DAYS);
  });

  it("show no leak", async () => {
    expect(await readLeaks(billing)).toEqual([]);
  });

  it("have what seats are worth apart", async () => {
    const spent = await readSpend(usage, ["payer"], START, END);
    const seats = spent.filter((row) => row.group.payer === SEAT);
    expect(seats.map(({ costNanoUsd, seatNanoUsd }) => [costNanoUsd, seatNanoUsd])).toEqual([[0n, counted.seats]]);
    const others = spent.filter((row) => row.group.payer !== SEAT);
    expect(others.reduce((sum, row) => sum + row.costNanoUsd, 0n)).toBe(counted.api);
    expect(others.every(({ seatNanoUsd }) => seatNanoUsd === 0n)).toBe(true);
    expect(counted.seats).toBeGreaterThan(counted.api);
  });
});
