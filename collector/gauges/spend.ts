// Gauges of spend: what finance reads. Each window is read from the books once, at the finest grain, and added up by
// scope, so that every panel is a sum of the same rows and no two can disagree.
import { toUsdNumber } from "../../ledger/money.ts";
import { readOutcomes } from "../../ledger/usage/outcomes.ts";
import { readSeatPrices } from "../../ledger/usage/seat-prices.ts";
import type { SpendRow } from "../../ledger/usage/spend-sums.ts";
import { HOUR_MS } from "../../ledger/windows.ts";
import type { CollectorBooks } from "../compare.ts";
import { thresholdsOf } from "../thresholds.ts";
import type { GaugeSettings, MakeGauge, Refresh } from "./gauge.ts";
import { daysOf, hasTokens, PARTS, SPEND_WINDOWS, sumByScope, tokensOf } from "./spend-sums.ts";
import type { SpendWindow } from "./spend-sums.ts";

const SCOPE = ["scope", "id", "window"] as const;
export const SPEND = [
  "keymeter_spend_usd",
  "Metered spend in the running window, from the ledger; last_day: of the last whole day.",
  SCOPE,
] as const;
export const REQUESTS = ["keymeter_spend_requests", "Attempts behind that spend.", SCOPE] as const;
export const TOKENS = [
  "keymeter_spend_tokens",
  "Tokens behind that spend, by disjoint class.",
  [...SCOPE, "class"],
] as const;

/** Where spend is told by all of its parts together. */
const BREAKDOWN_WINDOWS: ReadonlySet<SpendWindow> = new Set(["day", "month"]);

export function spendGauges(make: MakeGauge, books: CollectorBooks, settings: GaugeSettings): Refresh {
  const spend = make(...SPEND);
  const requests = make(...REQUESTS);
  const tokens = make(...TOKENS);
  const seats = make(
    "keymeter_seat_value_usd",
    "What requests that subscriptions paid for would have cost, in the running window: in no other gauge.",
    SCOPE,
  );
  const seatPrices = make(
    "keymeter_seat_price_usd",
    "What all subscriptions together cost this month, as it was entered.",
    [],
  );
  const setBreakdown = breakdownGauges(make);
  const setOutcomes = outcomeGauges(make, books, settings);
  const setUnallocated = unallocatedGauges(make, settings);
  return async (reading) => {
    for (const one of [spend, requests, tokens, seats, seatPrices]) one.reset();
    const month = settings.calendar.day(reading.nowMs).slice(0, 7);
    const prices = [...(await readSeatPrices(books.usage, month)).values()];
    seatPrices.set({}, toUsdNumber(prices.reduce((sum, price) => sum + price, 0n)));
    await setOutcomes(reading);
    setBreakdown.reset();
    for (const window of SPEND_WINDOWS) {
      const rows = await reading.spend(window);
      const sums = sumByScope(rows);
      for (const [scope, byId] of sums)
        for (const [id, sum] of byId) {
          const labels = { scope, id, window };
          spend.set(labels, toUsdNumber(sum.costNanoUsd));
          requests.set(labels, sum.requests);
          if (sum.seatNanoUsd > 0n) seats.set(labels, toUsdNumber(sum.seatNanoUsd));
          if (hasTokens(scope, window))
            for (const [unit, quantity] of tokensOf(sum)) tokens.set({ ...labels, class: unit }, quantity);
        }
      if (BREAKDOWN_WINDOWS.has(window)) setBreakdown.add(window, rows, sums);
    }
    await setUnallocated(reading);
  };
}

type Breakdown = {
  reset(): void;
  add(window: SpendWindow, rows: readonly SpendRow[], sums: ReturnType<typeof sumByScope>): void;
};

function breakdownGauges(make: MakeGauge): Breakdown {
  const usd = make(
    "keymeter_breakdown_usd",
    "Metered spend in the running window by all of its parts together: adds up along any of them.",
    ["window", ...PARTS],
  );
  const requests = make("keymeter_breakdown_requests", "Attempts behind that spend.", ["window", ...PARTS]);
  return {
    reset() {
      usd.reset();
      requests.reset();
    },
    add(window, rows, sums) {
      for (const { group, costNanoUsd, requests: count } of rows) {
        const named = PARTS.map((part) => {
          const id = group[part] ?? "";
          return [part, id === "" || sums.get(part)?.has(id) ? id : "other"];
        });
        const labels = { window, ...Object.fromEntries(named) };
        usd.inc(labels, toUsdNumber(costNanoUsd));
        requests.inc(labels, count);
      }
    },
  };
}

/** Outcomes stand with single events: a day of them is walked once an hour. */
function outcomeGauges(make: MakeGauge, { usage }: CollectorBooks, { calendar }: GaugeSettings): Refresh {
  const ended = ["provider", "model", "outcome"] as const;
  const usd = make(
    "keymeter_last_day_outcome_usd",
    "Metered spend of the last whole day by how attempts ended.",
    ended,
  );
  const requests = make(
    "keymeter_last_day_outcome_requests",
    "Attempts of the last whole day by how they ended.",
    ended,
  );
  let readHour = -1;
  return async ({ nowMs }) => {
    const hour = Math.floor(nowMs / HOUR_MS);
    if (hour === readHour) return;
    usd.reset();
    requests.reset();
    const [firstDay, endDay] = daysOf("last_day", calendar, nowMs);
    for (const one of await readOutcomes(usage, calendar.dayStart(firstDay), calendar.dayStart(endDay))) {
      const labels = { provider: one.provider, model: one.model, outcome: one.outcome };
      usd.set(labels, toUsdNumber(one.costNanoUsd));
      requests.set(labels, one.requests);
    }
    readHour = hour;
  };
}

function unallocatedGauges(make: MakeGauge, settings: GaugeSettings): Refresh {
  const usd = make("keymeter_unallocated_usd", "Spend of the running day that belongs to no team.", []);
  const line = make("keymeter_unallocated_line_usd", "More than this should have an owner.", []);
  const { unallocated_share: share, unallocated_usd: least } = thresholdsOf(settings, "");
  return async (reading) => {
    const teams = await reading.costs("day", "team");
    const all = (await reading.costs("day", "org")).get("all") ?? 0n;
    usd.set({}, toUsdNumber(teams.get("") ?? 0n));
    line.set({}, Math.max(least, share * toUsdNumber(all)));
  };
}
