// The view that readers sum up: what it comes to is what the writer adds up as it books, corrections included, and what
// verify derives by itself; and an event is read back as it was booked.
import { expect, it } from "vitest";
import { firstAttemptId, formatAttemptId, formatRequestId } from "../../ledger/ids.ts";
import { openScratch } from "../../ledger/sqlite.ts";
import { createBooking } from "../../ledger/usage/booking.ts";
import { AT, eventRow, INSERT_EVENT, SEALED_COLUMNS } from "../../ledger/usage/event-columns.ts";
import { bookedOf, endedAtMs, readBooked, readEvents, withOwner } from "../../ledger/usage/events.ts";
import { events } from "../../ledger/usage/schema.ts";
import { readOutcomes } from "../../ledger/usage/outcomes.ts";
import { readSubjectSpend } from "../../ledger/usage/hours.ts";
import { readSpend, readSpendByTag } from "../../ledger/usage/spend.ts";
import { booksOn } from "../books.ts";
import type { UsageEvent } from "../../ledger/usage/usage-event.ts";
import { readFoldDifferences } from "../../ledger/usage/verify.ts";
import { createCalendar } from "../../ledger/windows.ts";
import { drizzle } from "../../ledger/drizzle.ts";
import { random } from "../seed.ts";
import { event } from "../usage-event.ts";
import { verifyMemory } from "../simulation/verify-memory.ts";

const START_MS = Date.parse("2026-11-27T20:00:00Z");
const UNITS = [
  "input",
  "cache_read",
  "cache_write_5m",
  "cache_write_1h",
  "cache_write_30m",
  "cache_write_12h",
  "output",
];

/** Events of three days, of all kinds that sums tell apart. */
function traffic(): UsageEvent[] {
  const next = random(7);
  const some = <T>(from: readonly T[]): T => from[Math.floor(next() * from.length)] as T;
  return Array.from({ length: 300 }, (_, i) =>
    event(firstAttemptId(START_MS + i * 700_000), some([undefined, 0n, 3_000n, 77n]), {
      keyId: some(["k1", "k2"]),
      team: some(["", "search", "ads"]),
      provider: some(["openai", "anthropic"]),
      requestedModel: some(["gpt-5", "latest"]),
      servedModel: some([undefined, "gpt-5", "gpt-5-2026"]),
      usage: Object.fromEntries(UNITS.filter(() => next() < 0.5).map((unit) => [unit, Math.floor(next() * 90)])),
      usageState: some(["reported", "estimated", "unknown"]),
      priceConfidence: some([undefined, "exact", "inferred", "unpriced"]),
      tags: some([undefined, '{"feature":"a"}']),
    }),
  );
}

it("comes to what is booked, by every reader, and in a zone that the days are made anew for", async () => {
  const sqlite = openScratch("usage");
  const books = booksOn<"usage">(sqlite);
  const booking = createBooking(sqlite, "UTC", "enforce", START_MS);
  const all = traffic();
  booking.book(all.map((one) => ({ type: "settle", row: eventRow(one), proven: null })));
  const adjustments = all
    .filter((_, i) => i % 5 === 0)
    .flatMap(({ attemptId, priceConfidence }) =>
      ["one", "two"].map((name) => ({
        source: "bill" as const,
        sourceId: `${name} ${attemptId}`,
        attemptId,
        amountNanoUsd: 11n,
        unpriced: priceConfidence === "unpriced" && name === "one" ? -1 : 0,
        inferred: name === "two" ? 1 : 0,
        detail: "",
      })),
    );
  booking.book([
    { type: "change", change: { type: "adjust", adjustments }, author: { actor: "test", atMs: START_MS } },
  ]);
  expect(verifyMemory((operation) => booking.book([operation])[0])).toMatchObject({ differences: [] });
  expect(await readFoldDifferences(books)).toEqual([]);

  const parts = ["day", "key", "team", "provider", "model"] as const;
  const days = ["2026-11-01", "2026-12-31"] as const;
  for (const zone of ["UTC", "Asia/Kathmandu"]) {
    createBooking(sqlite, zone, "enforce", START_MS);
    expect(await readFoldDifferences(books), zone).toEqual([]);
    const byName = (rows: readonly unknown[]): string[] =>
      rows
        .map((row) => JSON.stringify(row, (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value)))
        .toSorted();
    const sums = await readSpend(books, parts, ...days);
    expect(sums.length, zone).toBeGreaterThan(20);
    expect(byName(await readSpendByTag(books, parts, createCalendar(zone), ...days)), zone).toEqual(byName(sums));
  }
  const total = (rows: readonly { readonly costNanoUsd: bigint }[]): bigint =>
    rows.reduce((sum, { costNanoUsd }) => sum + costNanoUsd, 0n);
  const spent = total(await readSpend(books, [], ...days));
  expect(spent).toBe(
    all.reduce((sum, { costNanoUsd }) => sum + (costNanoUsd ?? 0n), 0n) + 11n * BigInt(adjustments.length),
  );
  expect(total(await readSubjectSpend(books, START_MS, "events"))).toBe(spent);
  expect(total(await readSubjectSpend(books, START_MS - (START_MS % 3_600_000), "hours"))).toBe(spent);
  expect(total(await readOutcomes(books, START_MS, START_MS + 400 * 86_400_000))).toBe(spent);
  const named = await readEvents(books, { within: { model: "gpt-5-*" }, limit: 1_000 });
  expect(named.length).toBe(all.filter(({ servedModel }) => servedModel === "gpt-5-2026").length);
  const asked = await readEvents(books, { within: { model: "latest" }, limit: 1_000 });
  expect(asked.length).toBe(
    all.filter(({ servedModel, requestedModel }) => servedModel === undefined && requestedModel === "latest").length,
  );
});

it("an event is read back as it was booked, in every column, and its row by the fields' names", async () => {
  const one = event(firstAttemptId(START_MS), 12_345_678_901_234_567n, {
    endpoint: "responses",
    servedModel: "gpt-5-2026",
    tier: "batch,flex",
    project: "p",
    env: "prod",
    user: "user_1",
    tags: '{"feature":"a"}',
    usage: {
      input: 3,
      output: 4,
      cache_read: 5,
      cache_write_5m: 6,
      cache_write_1h: 7,
      cache_write_30m: 8,
      web_search: 9,
    },
    reasoning: 2,
    usageState: "estimated",
    usageReason: "cut",
    costLines: [
      { unit: "input", quantity: 3, price: 10n, costNanoUsd: 30n, multiplier: { numerator: 1n, denominator: 2n } },
      { unit: "output", quantity: 4, price: 11n, costNanoUsd: 44n, multiplier: undefined },
    ],
    priceList: "openai",
    priceVersion: "openai/gpt-5@1",
    priceConfidence: "inferred",
    outcome: "capped",
    httpStatus: 299,
    durationMs: 17,
    firstByteMs: 18,
    providerRequestId: "req_1",
    responseId: "resp_1",
    rawUsage: "{}",
    statedCostNanoUsd: 99n,
    payer: "seat",
    seatNanoUsd: 98n,
    trace: "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  });
  const row = eventRow(one);
  expect(row).not.toContain(null);
  expect([row[AT.team], row[AT.costNanoUsd], row[AT.priceList]]).toEqual(["search", "12345678901234567", "openai"]);
  expect(endedAtMs(row)).toBe(START_MS + 17);
  const moved = withOwner(row, { team: "ads", project: "q", env: "dev" });
  expect(readBooked(moved)).toEqual({ ...readBooked(row), team: "ads", project: "q", env: "dev" });
  expect(withOwner(row, { team: "search", project: "p", env: "prod" })).toBe(row);

  const sqlite = openScratch("usage");
  const books = booksOn<"usage">(sqlite);
  sqlite.prepare(INSERT_EVENT).run(...row);
  const stored = drizzle(sqlite).select().from(events).get();
  expect(stored && bookedOf(stored)).toEqual(readBooked(row));
  expect(readBooked(row)).toMatchObject({ cacheWrite: 21, servedModel: "gpt-5-2026", model: "m" });
  // In this order: it is printed so.
  expect(JSON.stringify(await readEvents(books, { limit: 1 }))).toBe(
    JSON.stringify([
      {
        requestId: formatRequestId(one.attemptId),
        attemptId: formatAttemptId(one.attemptId),
        at: "2026-11-27T20:00:00.000Z",
        provider: "openai",
        endpoint: "responses",
        keyId: "key_1",
        team: "search",
        project: "p",
        env: "prod",
        user: "user_1",
        payer: "seat",
        requestedModel: "m",
        servedModel: "gpt-5-2026",
        tier: "batch,flex",
        usage: {
          cache_write_30m: 8,
          web_search: 9,
          input: 3,
          cache_read: 5,
          cache_write_5m: 6,
          cache_write_1h: 7,
          output: 4,
        },
        reasoning: 2,
        usageState: "estimated",
        usageReason: "cut",
        costNanoUsd: "12345678901234567",
        statedCostNanoUsd: "99",
        seatNanoUsd: "98",
        costLines: [
          { unit: "input", quantity: 3, pricePicoUsd: "10", costNanoUsd: "30", multiplier: "1/2" },
          { unit: "output", quantity: 4, pricePicoUsd: "11", costNanoUsd: "44", multiplier: null },
        ],
        priceList: "openai",
        priceVersion: "openai/gpt-5@1",
        priceConfidence: "inferred",
        outcome: "capped",
        httpStatus: 299,
        durationMs: 17,
        tags: { feature: "a" },
      },
    ]),
  );
  // All but the raw usage, which may be emptied, and the instant, which is the id.
  const columns = sqlite.prepare("SELECT name FROM pragma_table_xinfo('events')").pluck().all() as string[];
  expect([...SEALED_COLUMNS, "raw_usage", "at_ms"].toSorted()).toEqual(columns.toSorted());
});
