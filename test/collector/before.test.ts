// The days before the meter: read in as they were billed, shown and forecast from, and nothing else. The figures come
// from the made-up bills below, added up here.
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { readHistory, readHistoryOf, readKnownHours, refreshBilledHours } from "../../collector/before.ts";
import { freezeDueForecasts, refreshRests } from "../../collector/freeze.ts";
import { ImportError } from "../../collector/importers/importer.ts";
import type { Importer } from "../../collector/importers/importer.ts";
import { closeQuietDays, compareLately, readBills, watchUsage } from "../../collector/jobs.ts";
import { BUILT_IN } from "../../ledger/providers.ts";
import { NOTHING_STATED } from "../../collector/match.ts";
import { createCollectorMetrics } from "../../collector/gauges/index.ts";
import { changes } from "../../collector/pages/changes.ts";
import { bills } from "../../collector/pages/bills.ts";
import type { PageContext } from "../../collector/pages/builder.ts";
import { models } from "../../collector/pages/models.ts";
import { overview } from "../../collector/pages/overview.ts";
import type { Section } from "../../collector/pages/page.ts";
import { reportChargeback } from "../../collector/reports.ts";
import { perform } from "../../collector/tasks.ts";
import type { Adjustment } from "../../ledger/usage/adjustments.ts";
import { readBilledHours } from "../../ledger/billing/billed-hours.ts";
import type { BilledLine, BilledUsage, BillOfDay } from "../../ledger/billing/bills.ts";
import { readClosed, readComparisons } from "../../ledger/billing/closed-days.ts";
import { readForecasts } from "../../ledger/billing/forecasts.ts";
import type { ForecastFilter } from "../../ledger/billing/forecasts.ts";
import { readRests } from "../../ledger/billing/landings.ts";
import { readLeaks } from "../../ledger/billing/leaks.ts";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { findMeterBegan } from "../../ledger/usage/meter-hours.ts";
import { addDays, createCalendar } from "../../ledger/windows.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import { createLog } from "../../service/log.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";
import { METRICS_SETTINGS } from "./metrics-settings.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const USD = 1_000_000_000n;
/** The meter begins in the middle of an hour, in the middle of a month. */
const FIRST_DAY = "2026-10-14";
const BEGAN_MS = Date.parse(`${FIRST_DAY}T14:37:00Z`);
const HISTORY_DAY = addDays(FIRST_DAY, -90);
const log = createLog("test", "silent");
const prices = createPriceBook();

let usage: UsageBooks;
let billing: BillingBooks;
let writer: Writer;
let clock = BEGAN_MS;
const books = (): { usage: UsageBooks; billing: BillingBooks } => ({ usage, billing });

beforeEach(async () => {
  const folder = temporaryFolder();
  clock = BEGAN_MS;
  writer = await openWriter({
    path: join(folder, "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    now: () => clock,
  });
  await writer.noteMeterRan(BEGAN_MS, BEGAN_MS + 1);
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

function line(more: Partial<BilledLine> = {}): BilledLine {
  return {
    kind: "usage",
    billedKey: "key_a",
    model: "gpt-4o-mini",
    tier: "",
    unit: "input",
    amountNanoUsd: 30n * USD + 1n,
    resolutionNanoUsd: 1n,
    raw: "{}",
    ...more,
  };
}

/** A source that bills the same every day: 30.000000001 USD of one model, 7 of another, a fee of 3, and a credit; used
 *  from nine to eighteen. */
function source(asked: string[] = [], more: Partial<Importer> = {}): Importer {
  return {
    name: "the source",
    providers: ["openai"],
    async fetchBills(since, until): Promise<BillOfDay[]> {
      asked.push(`${since} ${until}`);
      const days: BillOfDay[] = [];
      for (let day = since; day < until; day = addDays(day, 1))
        days.push({
          provider: "openai",
          day,
          source: "api",
          asOfMs: Date.parse(`${day}T00:00:00Z`) + DAY_MS,
          lines: [
            line(),
            line({ billedKey: "key_b", model: "gpt-5", amountNanoUsd: 7n * USD }),
            line({ kind: "fee", unit: "web_search", model: undefined, amountNanoUsd: 3n * USD }),
            line({ kind: "credit", unit: undefined, model: undefined, amountNanoUsd: -5n * USD }),
          ],
        });
      return days;
    },
    async fetchUsage(sinceMs, untilMs) {
      const rows: BilledUsage[] = [];
      for (let hourMs = sinceMs; hourMs < untilMs; hourMs += HOUR_MS) {
        const hour = new Date(hourMs).getUTCHours();
        if (hour >= 9 && hour < 18)
          rows.push({ hourMs, billedKey: "key_a", model: "gpt-4o-mini", unit: "input", quantity: 1_000_000 * hour });
      }
      return { provider: "openai", asOfMs: untilMs, usage: rows };
    },
    ...more,
  };
}
const DAILY = 40n * USD + 1n;

async function readIn(importer = source(), nowMs = BEGAN_MS): Promise<string[]> {
  const { firstDay } = await readBills(books(), [importer], 3, nowMs, log);
  const { failures } = await readHistory(books(), [importer], firstDay, nowMs);
  await refreshBilledHours(books(), prices, BUILT_IN, nowMs);
  return failures;
}

async function answer(atMs: number, costNanoUsd: bigint, model = "gpt-4o-mini"): Promise<void> {
  clock = atMs;
  await writer.settle(
    event(writer.nextAttemptId(), costNanoUsd, { requestedModel: model, servedModel: model, usage: { input: 1 } }),
  );
}

const total = (rows: readonly { readonly costNanoUsd: bigint }[]): bigint =>
  rows.reduce((sum, { costNanoUsd }) => sum + costNanoUsd, 0n);

describe("history", () => {
  it("is read once, ninety days of it, and comes to the bills' use and fees to the nano-dollar", async () => {
    const asked: string[] = [];
    expect(await readIn(source(asked))).toEqual([]);
    expect(asked).toEqual([
      `${addDays(FIRST_DAY, -3)} ${addDays(FIRST_DAY, 1)}`,
      `${HISTORY_DAY} ${addDays(FIRST_DAY, -3)}`,
    ]);
    const began = (await findMeterBegan(usage)) ?? Number.NaN;
    expect(began).toBe(Date.parse(`${FIRST_DAY}T14:00:00Z`));
    const hours = await readBilledHours(billing, 0, Number.MAX_SAFE_INTEGER, "org");
    const whole = hours.filter(({ hourMs }) => hourMs < Date.parse(FIRST_DAY));
    expect(total(whole)).toBe(90n * DAILY);
    // The shape is the usage's: nothing at night; and of the first day only the hours before the meter.
    expect(
      hours.every(({ hourMs }) => [9, 10, 11, 12, 13, 14, 15, 16, 17].includes(new Date(hourMs).getUTCHours())),
    ).toBe(true);
    expect(Math.max(...hours.map(({ hourMs }) => hourMs))).toBe(began - HOUR_MS);
    const byModel = await readBilledHours(billing, 0, Date.parse(FIRST_DAY), "model");
    expect(total(byModel.filter(({ id }) => id === "gpt-5"))).toBe(90n * 7n * USD);

    await readIn(source(asked), BEGAN_MS + DAY_MS);
    expect(asked.length).toBe(3);
  });

  it("of a source that cannot say is asked for again, and its failure leaves the rest alone", async () => {
    const asked: string[] = [];
    const honest = source(asked);
    const failing = source([], {
      async fetchBills(since, until, onProgress) {
        if (since < addDays(FIRST_DAY, -30)) throw new ImportError("so old days are gone");
        return honest.fetchBills(since, until, onProgress);
      },
    });
    const [failure] = await readIn(failing);
    expect(failure).toMatch(/the source: the last 90 days could not be read.*so old days are gone/);
    expect(total(await readBilledHours(billing, 0, Date.parse(FIRST_DAY), "org"))).toBe(3n * DAILY);
    expect(await readIn(honest)).toEqual([]);
    expect(total(await readBilledHours(billing, 0, Date.parse(FIRST_DAY), "org"))).toBe(90n * DAILY);
  });

  it("comes out of a file too, spread evenly where nobody tells the hours", async () => {
    const rows = ["2026-10-12", "2026-10-13", FIRST_DAY].map((day) => `${day}T00:00:00Z,12.00,usd,"gpt-5, input"`);
    const file = ["start_time_iso,amount_value,amount_currency,line_item", ...rows].join("\n");
    const context = {
      books: books(),
      prices,
      stated: NOTHING_STATED,
      rotations: [],
      ownKeyRotations: [],
      change: async () => undefined,
      adjust: async () => undefined,
      now: () => BEGAN_MS,
    };
    await perform(context, { type: "import", name: "openai.csv", bytes: Buffer.from(file), isForced: false });
    const hours = await readBilledHours(billing, 0, Number.MAX_SAFE_INTEGER, "provider");
    expect(hours.length).toBe(24 + 24 + 14);
    expect(new Set(hours.map(({ costNanoUsd }) => costNanoUsd))).toEqual(new Set([USD / 2n]));
    await expect(perform(context, { type: "close", day: "2026-10-12", provider: undefined, by: "me" })).rejects.toThrow(
      /the meter began on 2026-10-14; nothing of 2026-10-12 was metered/,
    );
  });
});

describe("before the meter", () => {
  it("nothing is a variance, a leak, an open day or signed; the first day's rest has a cause of its own", async () => {
    await readIn();
    await answer(BEGAN_MS, 2n * USD);
    const now = BEGAN_MS + 2 * DAY_MS;
    await readBills(books(), [source()], 3, now, log);
    await compareLately(books(), HISTORY_DAY, NOTHING_STATED, now);
    const compared = await readComparisons(billing, HISTORY_DAY, addDays(FIRST_DAY, 1));
    expect(new Set(compared.map(({ day }) => day))).toEqual(new Set([FIRST_DAY]));
    const causes = compared.flatMap(({ variances }) => variances);
    const more = causes.filter(({ amountNanoUsd }) => amountNanoUsd > 0n);
    expect(new Set(more.map(({ cause }) => cause))).toEqual(new Set(["before the meter"]));
    // All of the difference: 40.000000001 billed for use, 2 metered, and the credit.
    expect(causes.reduce((sum, { amountNanoUsd }) => sum + amountNanoUsd, 0n)).toBe(DAILY - 2n * USD - 5n * USD);
    expect(
      (await readLeaks(billing)).filter(({ firstHourMs }) => firstHourMs < Date.parse(FIRST_DAY) + DAY_MS),
    ).toEqual([]);
    const rules = { afterDays: 1, quietMs: 0 };
    await closeQuietDays(books(), rules, NOTHING_STATED, async () => undefined, now);
    const metrics = createCollectorMetrics(books(), METRICS_SETTINGS, ["openai"]);
    await metrics.refresh(now);
    const text = await metrics.registry.metrics();
    expect(text).not.toContain(`day="${addDays(FIRST_DAY, -1)}"`);
    expect(text).toMatch(
      new RegExp(
        `keymeter_oldest_open_day_timestamp_seconds\\{provider="openai"\\} ${Date.parse(addDays(FIRST_DAY, 1)) / 1000}`,
      ),
    );
  });

  it("what was billed for it corrects no estimate of the first day, and is shared out to nobody", async () => {
    await writer.settle(
      event(writer.nextAttemptId(), 2n * USD, {
        requestedModel: "gpt-4o-mini",
        servedModel: "gpt-4o-mini",
        usage: { input: 1_000 },
        usageState: "estimated",
      }),
    );
    const now = BEGAN_MS + 2 * DAY_MS;
    await readBills(books(), [source()], 3, now, log);
    const sent: bigint[] = [];
    const adjust = async (adjustments: Adjustment[]): Promise<void> => {
      sent.push(...adjustments.map(({ amountNanoUsd }) => amountNanoUsd));
      await writer.change({ type: "adjust", adjustments }, "test");
    };
    await compareLately(books(), FIRST_DAY, NOTHING_STATED, now);
    await closeQuietDays(books(), { afterDays: 1, quietMs: 0 }, NOTHING_STATED, adjust, now);
    expect(sent.filter((amount) => amount > 0n)).toEqual([]);
    expect((await readClosed(billing, FIRST_DAY, addDays(FIRST_DAY, 1))).length).toBe(1);
    const month = await reportChargeback(books(), FIRST_DAY.slice(0, 7), ["team"], () => undefined);
    // The credit is shared; what was billed for the hours before is not.
    const shared = month.charges.reduce((sum, { sharedNanoUsd }) => sum + sharedNanoUsd, 0n);
    expect(shared).toBeLessThanOrEqual(0n);
  });

  it("usage by the hour is no leak up to the end of the hour in which it began, and is one after", async () => {
    const hourMs = (hour: number): number => Date.parse(`${FIRST_DAY}T${String(hour).padStart(2, "0")}:00:00Z`);
    const row = (hour: number): BilledUsage => ({
      hourMs: hourMs(hour),
      billedKey: "key_x",
      model: "gpt-5",
      unit: "input",
      quantity: 900_000,
    });
    const watch = async (hours: readonly number[]): Promise<void> => {
      const now = hourMs(20);
      const of = source([], { fetchUsage: async () => ({ provider: "openai", asOfMs: now, usage: hours.map(row) }) });
      expect(await watchUsage(books(), [of], NOTHING_STATED, prices, now, log)).toEqual([]);
    };
    await watch([3, 9, 13, 14]);
    expect(await readLeaks(billing)).toEqual([]);
    await watch([3, 9, 13, 14, 16]);
    expect((await readLeaks(billing)).map(({ firstHourMs, quantity }) => [firstHourMs, quantity])).toEqual([
      [hourMs(16), 900_000],
    ]);
  });
});

describe("a forecast", () => {
  const learnt = async (now: number): Promise<Map<string, { method: string; p50: number }>> => {
    await freezeDueForecasts(books(), "UTC", now);
    return new Map(
      (await readForecasts(billing, now)).map((one) => [
        `${one.scope} ${one.id} ${one.window}`,
        { method: one.method, p50: Number(one.p50NanoUsd) / 1e9 },
      ]),
    );
  };

  it("of where it lands starts full with history; what is frozen, and alerts go by, waits until a day has been compared", async () => {
    const now = BEGAN_MS + HOUR_MS;
    await answer(BEGAN_MS + 60_000, 5n * USD);
    await refreshRests(books(), "UTC", now);
    const landing = async (filter: ForecastFilter) =>
      (await readRests(books(), now, { window: "month", ...filter }))[0];
    expect((await landing({ scope: "org" }))?.method).toBe("learning");
    await readIn();
    await refreshRests(books(), "UTC", now);
    const all = await landing({ scope: "org" });
    expect(all?.method).not.toBe("learning");
    // Seventeen days and the rest of the first are to come, at 40 a day; the 13 days before the meter, 520 USD, are in
    // no expectation.
    const rest = 17 * 40;
    expect(Number(all?.p50NanoUsd) / 1e9).toBeGreaterThan(rest);
    expect(Number(all?.p50NanoUsd) / 1e9).toBeLessThan(1.2 * rest);
    expect((await landing({ scope: "team", id: "search" }))?.method).toBe("learning");
    // A model that was only billed is none of the meter's.
    expect((await landing({ scope: "model", id: "gpt-4o-mini" }))?.method).not.toBe("learning");
    expect(await landing({ scope: "model", id: "gpt-5" })).toBeUndefined();
    // Nobody knows yet how much of the bill goes through the meter: an alert must not go by all of it.
    expect((await learnt(now)).get("org all month")?.method).toBe("learning");
  });

  it("takes an hour of a billed day without use for nothing, and a day without a bill for not known", async () => {
    await readIn(
      source([], {
        fetchBills: async (since, until, onProgress) =>
          (await source().fetchBills(since, until, onProgress)).filter(({ day }) => day !== "2026-10-10"),
      }),
    );
    const since = Date.parse("2026-10-09");
    const known = await readKnownHours(books(), since, BEGAN_MS);
    expect(known.has(since + 3 * HOUR_MS)).toBe(true);
    expect(known.has(since + DAY_MS + 12 * HOUR_MS)).toBe(false);
    expect(known.size).toBe(24 + 3 * 24 + 15);
  });

  it("expects of history only the share that goes through the meter since", async () => {
    await readIn();
    // Two whole days on which a quarter of the bill was metered.
    for (const day of [1, 2]) await answer(Date.parse(addDays(FIRST_DAY, day)) + 12 * HOUR_MS, 10n * USD);
    const now = Date.parse(addDays(FIRST_DAY, 3)) + HOUR_MS;
    await readBills(books(), [source()], 3, now, log);
    await compareLately(books(), FIRST_DAY, NOTHING_STATED, now);
    const since = Date.parse(addDays(FIRST_DAY, -10));
    const sum = total(await readHistoryOf(books(), since, Date.parse(FIRST_DAY), "org", "nothing", now));
    expect(Number(sum) / 1e9).toBeCloseTo(10 * 40 * 0.25, 5);
    // Now that it is known what is frozen starts from it: 14 more days at 10, and what is metered.
    const frozen = (await learnt(now)).get("org all month");
    expect(frozen?.method).not.toBe("learning");
    expect(frozen?.p50).toBeGreaterThan(14 * 8);
    expect(frozen?.p50).toBeLessThan(20 + 14 * 14);
  });
});

describe("pages", () => {
  const contextAt = (nowMs: number): PageContext => ({
    books: books(),
    calendar: createCalendar("UTC"),
    prices,
    stated: NOTHING_STATED,
    place: "/nowhere",
    capMode: "enforce",
    sources: ["openai"],
    nowMs,
    holder: { name: "reader", role: "read" },
    mayAsk: () => false,
  });
  const sectionOf = (sections: readonly Section[], title: string): Section => {
    const found = sections.find((one) => one.title === title);
    if (!found) throw new Error(`no section ${title} in ${sections.map((one) => one.title).join(", ")}`);
    return found;
  };
  const money = (section: Section, row: number, column: number): bigint | undefined => {
    const cell = (row < 0 ? section.table?.total : section.table?.rows[row])?.[column];
    return cell?.is === "usd" ? cell.nanoUsd : undefined;
  };

  it("show it as billed beside what is metered, and what nobody knows as not known", async () => {
    await readIn();
    await answer(BEGAN_MS + 60_000, 5n * USD);
    const context = contextAt(BEGAN_MS + HOUR_MS);
    const page = await overview(context);
    const before = sectionOf(page.sections, "Billed before the meter, by provider");
    // September, whole; and October up to the hour before the meter: thirteen days, and five of the nine hours of the
    // first.
    expect(money(before, -1, 1)).toBe(30n * DAILY);
    const october = money(before, -1, 4) ?? 0n;
    expect(october).toBeGreaterThan(13n * DAILY);
    expect(october).toBeLessThan(14n * DAILY);
    expect(money(before, -1, 5)).toBe(5n * USD);
    expect(money(before, -1, 6)).toBe(october + 5n * USD);
    const figures = sectionOf(page.sections, "This month").figures ?? [];
    expect(figures.find(({ title }) => title.startsWith("Last month"))).toMatchObject({
      value: { nanoUsd: 30n * DAILY },
      money: "billed",
      note: "The meter did not run yet.",
    });
    expect(figures.find(({ title }) => title === "This month so far")?.value).toMatchObject({ nanoUsd: 5n * USD });
    const teams = sectionOf(page.sections, "Teams");
    expect(teams.table?.rows[0]?.at(-1)).toBeUndefined();
    const chart = sectionOf(page.sections, "Day by day").chart;
    expect(chart?.svg).toContain(`metered from ${FIRST_DAY}`);
    expect(chart?.label).toContain("Billed before the meter began: $");

    expect(
      money(sectionOf((await models(context, {})).sections, "Billed before the meter, by model"), 0, 1),
    ).toBeGreaterThan(20n * 30n * USD);
    const compared = await changes(context, { since: FIRST_DAY, until: FIRST_DAY, before: "2026-10-13" });
    expect(money(sectionOf(compared.sections, "Billed before the meter, by provider"), -1, 1)).toBe(DAILY);
    // What was metered beside nothing that is known is no difference.
    expect(sectionOf(compared.sections, "Teams").table?.total?.slice(1)).toEqual([
      undefined,
      expect.objectContaining({ nanoUsd: 5n * USD }),
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
    expect(compared.sections.at(-1)?.notes?.join(" ")).toContain(`The meter began on ${FIRST_DAY}`);
    expect((await changes(context, { team: "search" })).sections.map(({ title }) => title)).not.toContain(
      "Billed before the meter, by provider",
    );
    const billed = await bills(context, { days: "90" });
    const days = sectionOf(billed.sections, "Days").table;
    const state = days?.columns.findIndex(({ field }) => field === "state") ?? -1;
    expect(days?.rows.at(-1)?.[state]).toMatchObject({ text: "before the meter" });
    // Own dates: one day, and what is no span.
    const one = await bills(context, { since: "2026-10-02", until: "2026-10-02" });
    expect(sectionOf(one.sections, "Days").table?.rows.length).toBe(1);
    expect(one.controls?.map(({ value }) => value)).toEqual(["own", "2026-10-02", "2026-10-02"]);
    const none = await bills(context, { since: "2026-10-02", until: "2026-10-01" });
    expect(sectionOf(none.sections, "Does it agree with the bill?").notes?.join(" ")).toContain(
      "Own dates are two days",
    );
    expect(sectionOf(billed.sections, "Does it agree with the bill?").table?.rows[0]?.[1]).toMatchObject({ count: 1 });
  });

  it("say nothing of it once it is out of sight", async () => {
    await readIn();
    await answer(BEGAN_MS + 60_000, 5n * USD);
    const context = contextAt(BEGAN_MS + 70 * DAY_MS);
    const page = await overview(context);
    expect(page.sections.map(({ title }) => title)).not.toContain("Billed before the meter, by provider");
  });
});
