// A simulated quarter with a known truth: the real jobs on real files, fake billing APIs on loopback, the clock in
// hand.
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { anthropicImporter } from "../../collector/importers/anthropic.ts";
import { googleImporter } from "../../collector/importers/google.ts";
import type { Importer } from "../../collector/importers/importer.ts";
import { openaiImporter } from "../../collector/importers/openai.ts";
import { closeQuietDays, compareLately, readBills, watchUsage } from "../../collector/jobs.ts";
import type { LeakContext } from "../../collector/leak/playbook.ts";
import { writeLeakNote } from "../../collector/leak/note.ts";
import type { LeakNote } from "../../collector/leak/note.ts";
import { NOTHING_STATED } from "../../collector/match.ts";
import { readClosed, readComparisons, readCorrections } from "../../ledger/billing/closed-days.ts";
import { readLeaks } from "../../ledger/billing/leaks.ts";
import { readMarks } from "../../ledger/billing/metered.ts";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { sqliteOf } from "../../ledger/sqlite-books.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { addDays } from "../../ledger/windows.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import { createLog } from "../../service/log.ts";
import { Secret } from "../../service/secret.ts";
import { startFakeAnthropic } from "../fake/billing/anthropic.ts";
import { startFakeGoogle, TABLE } from "../fake/billing/google.ts";
import { startFakeOpenai } from "../fake/billing/openai.ts";
import { createTruth } from "../fake/billing/truth.ts";
import type { FakeServer } from "../fake/billing/truth.ts";
import { IS_CI, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { HAPPENS, LEAK_HOURS, lastDay, makeQuarter, sumCauses } from "./quarter.ts";
import type { Quarter } from "./quarter.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const START = "2026-07-01";
const DAYS = IS_CI ? 92 : 16;

describe(`a quarter of ${DAYS} days (seed ${SEED})`, () => {
  let usage: UsageBooks;
  let billing: BillingBooks;
  let writer: Writer;
  let quarter: Quarter;
  const fakes: FakeServer[] = [];
  const truth = createTruth(0);
  const log = createLog("test", "silent");
  /** When the leak was first known. */
  let leakFoundAtMs = Number.POSITIVE_INFINITY;
  const failures: string[] = [];
  /** Its note an hour after it ended. */
  let early: LeakNote | undefined;
  const noteOf = (books: { usage: UsageBooks; billing: BillingBooks }): LeakContext => ({
    books,
    rotations: [],
    stated: NOTHING_STATED,
    change: async () => Promise.reject(new Error("a note changes nothing")),
  });

  beforeAll(
    async () => {
      quarter = makeQuarter(truth, START, DAYS, SEED);
      truth.keys.push(
        { provider: "openai", id: "key_oa_1", name: "keymeter", project: "proj_1", shown: "sk-proj-...aaa1" },
        {
          provider: "openai",
          id: "key_oa_old",
          name: "old notebook",
          project: "proj_1",
          shown: "sk-...zzz9",
          isHidden: true,
        },
        {
          provider: "anthropic",
          id: "apikey_an_1",
          name: "keymeter",
          project: "wrkspc_1",
          shown: "sk-ant-api03-R2D...aan1",
        },
        { provider: "gcp.gemini", id: "gg-1", name: "keymeter", project: "acme-ads", shown: "AIzaSyFakeFakeFakegg01" },
      );
      const [openai, anthropic, google] = [
        await startFakeOpenai(truth),
        await startFakeAnthropic(truth),
        await startFakeGoogle(truth),
      ];
      fakes.push(openai, anthropic, google);
      for (const fake of fakes) fake.pageSize = 400;
      const now = (): number => truth.nowMs;
      const importers: Importer[] = [
        openaiImporter({ adminKey: new Secret("sk-admin-test"), baseUrl: `${openai.url}/v1`, now }),
        anthropicImporter({ adminKey: new Secret("sk-ant-admin01-test"), baseUrl: anthropic.url, now }),
        googleImporter({
          credentials: { reveal: async () => "google-token" },
          table: TABLE,
          projects: ["acme-ads"],
          skus: {},
          bigqueryUrl: google.url,
          billingUrl: google.url,
          monitoringUrl: google.url,
          apiKeysUrl: google.url,
          now,
        }),
      ].map(({ inspect: _inspect, ...importer }) => importer);

      const folder = temporaryFolder();
      let clock = quarter.startMs - HOUR_MS;
      writer = await openWriter({
        path: join(folder, "usage.db"),
        durability: "process",
        zone: "UTC",
        capMode: "enforce",
        now: () => clock,
      });
      await writer.noteSeen({
        credentials: [
          { provider: "openai", credential: "fp_openai", hint: "aaa1", atMs: clock },
          { provider: "anthropic", credential: "fp_anthropic", hint: "aan1", atMs: clock },
          { provider: "gcp.gemini", credential: "fp_google", hint: "gg01", atMs: clock },
        ],
      });
      // The meter ran before: a difference on the first day has a cause like any other.
      await writer.noteMeterRan(quarter.startMs - DAY_MS, quarter.startMs);
      const opened = await openUsage(folder);
      if (!opened) throw new Error("no books");
      usage = opened;
      billing = await openToWrite(folder, "billing", "process");
      const books = { usage, billing };
      const prices = createPriceBook();
      const adjust = async (adjustments: Parameters<Parameters<typeof closeQuietDays>[3]>[0]): Promise<void> =>
        writer.change({ type: "adjust", adjustments }, "collector");

      let done = 0;
      const playUntil = async (ms: number): Promise<void> => {
        const batch: Promise<void>[] = [];
        for (; done < quarter.events.length && (quarter.events[done]?.atMs ?? 0) < ms; done++) {
          const one = quarter.events[done];
          if (!one) break;
          clock = one.atMs;
          batch.push(writer.settle({ ...one.event, attemptId: writer.nextAttemptId() }));
        }
        await Promise.all(batch);
        truth.nowMs = clock = ms;
      };
      const leakDay = quarter.startMs + HAPPENS.leak * DAY_MS;
      for (let day = 0; day <= DAYS + 6; day++) {
        const startMs = quarter.startMs + day * DAY_MS;
        // Usage is watched closely only where something happens: the rest of the days would be the same work again.
        const isBusy = startMs === leakDay || startMs === quarter.startMs + HAPPENS.oldKey * DAY_MS;
        if (isBusy || day % 7 === 2)
          for (let hour = isBusy ? 1 : 5; hour < 24; hour += isBusy ? 1 : 9) {
            await playUntil(startMs + hour * HOUR_MS + 10 * 60_000);
            failures.push(...(await watchUsage(books, importers, NOTHING_STATED, prices, truth.nowMs, log)));
            const leaks = await readLeaks(billing);
            if (leaks.some((leak) => leak.billedKey === "key_oa_1"))
              leakFoundAtMs = Math.min(leakFoundAtMs, truth.nowMs);
            // Nobody has a bill yet.
            if (startMs === leakDay && hour === 3 + LEAK_HOURS + 1)
              early = await writeLeakNote(noteOf(books), "openai", "key_oa_1", truth.nowMs);
          }
        await playUntil(startMs + 23 * HOUR_MS + 30 * 60_000);
        const read = await readBills(books, importers, 4, truth.nowMs, log);
        failures.push(...read.failures, ...(await compareLately(books, read.firstDay, NOTHING_STATED, truth.nowMs)));
        failures.push(
          ...(await closeQuietDays(books, { afterDays: 3, quietMs: 20 * HOUR_MS }, NOTHING_STATED, adjust, truth.nowMs))
            .failures,
        );
      }
    },
    IS_CI ? 900_000 : 120_000,
  );
  afterAll(async () => {
    await writer.close();
    await usage.close();
    await billing.close();
    for (const fake of fakes) await fake.close();
  });

  it("is read without a failure", () => {
    expect(failures).toEqual([]);
  });

  it("has its leak found on the day, within the hour after it began; and no other key suspected", async () => {
    const began = quarter.startMs + HAPPENS.leak * DAY_MS + 3 * HOUR_MS;
    expect(leakFoundAtMs).toBeGreaterThanOrEqual(began);
    expect(leakFoundAtMs - began).toBeLessThanOrEqual(2 * HOUR_MS);
    const leaks = await readLeaks(billing);
    expect(leaks.map(({ billedKey, kind }) => `${billedKey} ${kind}`).toSorted()).toEqual([
      "key_oa_1 beyond_metered",
      "key_oa_old unknown_key",
    ]);
    const [ours] = leaks.filter((leak) => leak.billedKey === "key_oa_1");
    // 40 answers an hour of 1,600 tokens each.
    const truly = LEAK_HOURS * 40 * 1_600;
    expect(ours?.quantity).toBeGreaterThan(truly * 0.9);
    expect(ours?.quantity).toBeLessThan(truly * 1.1);
  });

  it("has the damage of each leak in its note, within a hundredth of the truth", async () => {
    for (const key of ["key_oa_1", "key_oa_old"]) {
      const truly = truth.charges
        .filter(({ billedKey, isPastKeymeter }) => billedKey === key && isPastKeymeter)
        .reduce((sum, { amountNanoUsd }) => sum + amountNanoUsd, 0n);
      const { damageNanoUsd = 0n } = await writeLeakNote(noteOf({ usage, billing }), "openai", key, truth.nowMs);
      const off = (said = 0n): number => Math.abs(Number(said - truly)) / Number(truly);
      expect(off(damageNanoUsd), key).toBeLessThan(0.01);
      if (key === "key_oa_1") expect(off(early?.damageNanoUsd), "before any bill").toBeLessThan(0.01);
    }
  });

  it("closes every day", async () => {
    const closed = await readClosed(billing, START, lastDay(quarter));
    expect(closed.length).toBe(3 * DAYS);
    expect(await readCorrections(billing, START, lastDay(quarter))).toEqual([]);
  });

  it("explains at least 99 % of the money, each difference by its true cause", async () => {
    const comparisons = await readComparisons(billing, START, lastDay(quarter));
    const found = sumCauses(
      comparisons.flatMap(({ provider, day, variances }) =>
        variances.map(({ cause, amountNanoUsd }) => ({ provider, day, cause, amountNanoUsd })),
      ),
    );
    const expected = sumCauses(quarter.causes);
    const size = (amount: bigint): number => Number(amount < 0n ? -amount : amount);
    let [total, wrong, unknown] = [0, 0, 0];
    const worst: [string, number, bigint, bigint][] = [];
    for (const name of new Set([...found.keys(), ...expected.keys()])) {
      const [is, should] = [found.get(name) ?? 0n, expected.get(name) ?? 0n];
      total += size(should);
      wrong += size(is - should) / 2;
      if (name.endsWith(" unknown")) unknown += size(is);
      if (size(is - should) > 100_000) worst.push([name, size(is - should), is, should]);
    }
    worst.sort((a, b) => b[1] - a[1]);
    const told = worst
      .slice(0, 12)
      .map(([name, , is, should]) => `${name}: found ${is}, truly ${should}`)
      .join("\n");
    expect(unknown / total, told).toBeLessThan(0.01);
    expect(wrong / total, told).toBeLessThan(0.01);
  });

  it("has, after closing, metered plus adjustments plus what only the bill knows equal to what is billed, to the nano-dollar", async () => {
    const end = lastDay(quarter);
    const billed = new Map<string, bigint>();
    for (const [provider, amount] of sqliteOf(billing)
      .prepare("SELECT provider, SUM(amount_nano_usd) FROM billed_lines WHERE day >= ? AND day < ? GROUP BY provider")
      .raw()
      .all(START, end) as [string, bigint][])
      billed.set(provider, amount);
    const metered = new Map<string, bigint>();
    for (const one of await readMarks(usage, START, end))
      metered.set(one.provider, (metered.get(one.provider) ?? 0n) + one.costNanoUsd);
    const onlyBilled = new Map<string, bigint>();
    for (const { provider, variances } of await readComparisons(billing, START, end))
      for (const { cause, amountNanoUsd } of variances)
        if (cause !== "estimate corrected") onlyBilled.set(provider, (onlyBilled.get(provider) ?? 0n) + amountNanoUsd);
    expect([...billed.keys()].toSorted()).toEqual(["anthropic", "gcp.gemini", "openai"]);
    for (const [provider, amount] of billed)
      expect((metered.get(provider) ?? 0n) + (onlyBilled.get(provider) ?? 0n), provider).toBe(amount);
    // And what the providers truly charged is what was booked.
    for (const [provider, amount] of billed) {
      const charged = truth.charges.filter(
        (one) => one.provider === provider && one.atMs < Date.parse(`${end}T00:00:00Z`),
      );
      const sum = charged.reduce((total, one) => total + one.amountNanoUsd, 0n);
      expect(Number(amount - sum < 0n ? sum - amount : amount - sum), provider).toBeLessThan(charged.length);
    }
    expect(addDays(START, DAYS)).toBe(end);
  });
});
