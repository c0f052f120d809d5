// Gauges of spend that runs ahead of its forecast, each beside the line from which it is worth a message (lines.ts
// draws it): windows of whoever somebody answers for, and single hours of keys.
import { expectedSoFar } from "../../ledger/billing/forecasts.ts";
import type { FrozenForecast } from "../../ledger/billing/forecasts.ts";
import { toUsdNumber } from "../../ledger/money.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import { readSpendOfHours } from "../../ledger/usage/hours.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { addDays, HOUR_MS } from "../../ledger/windows.ts";
import type { CollectorBooks } from "../compare.ts";
import { linesOf } from "../lines.ts";
import { thresholdsOf } from "../thresholds.ts";
import type { GaugeSettings, MakeGauge, Refresh } from "./gauge.ts";
import type { Reading } from "./reading.ts";

/** Scopes that somebody answers for. */
const SCOPES: ReadonlySet<string> = new Set(["org", "team", "project", "key"]);
const STAYS_ABOVE = 0.8;
const TEAM_DAYS = 28;

export function overForecastGauges(make: MakeGauge, books: CollectorBooks, settings: GaugeSettings): Refresh {
  const scope = ["scope", "id", "team", "window"] as const;
  const key = ["scope", "id", "team"] as const;
  const over = make(
    "keymeter_over_forecast_usd",
    "Spend so far minus what the frozen forecast, with what is planned, expected by now.",
    scope,
  );
  const overLine = make("keymeter_over_forecast_line_usd", "Over by more than this is worth telling.", [
    ...scope,
    "level",
  ]);
  const floor = make("keymeter_over_forecast_floor_usd", "Over by less than this is not worth a message.", scope);
  const hour = make("keymeter_hour_usd", "Metered spend of the running UTC hour.", key);
  const hourLine = make("keymeter_hour_line_usd", "One hour that costs more than this is a spike.", key);
  const crossings = createCrossings();

  return async (reading) => {
    crossings.begin();
    for (const one of [over, overLine, floor, hour, hourLine]) one.reset();
    const { nowMs } = reading;
    const known = (await reading.expectations()).filter((one) => one.method !== "learning");
    const orgDay = toUsdNumber(known.find((one) => one.scope === "org" && one.window === "day")?.p50NanoUsd ?? 0n);
    const teams = await readTeams(books, settings, reading);
    const hourMs = Math.floor(nowMs / HOUR_MS) * HOUR_MS;
    const running = await readSpendOfHours(books.usage, hourMs, nowMs, "key");
    for (const one of known) {
      const { window } = one;
      if (!SCOPES.has(one.scope) || (window !== "day" && window !== "month")) continue;
      const team = one.scope === "team" ? one.id : (teams.get(`${one.scope} ${one.id}`) ?? "");
      const soFar = expectedSoFar(one, nowMs);
      const lines = linesOf(
        {
          scope: one.scope,
          p50: toUsdNumber(one.p50NanoUsd),
          p90: toUsdNumber(one.p90NanoUsd),
          largestHour: toUsdNumber(one.largestHourNanoUsd),
          hourExpected: toUsdNumber(soFar - expectedSoFar(one, Math.max(hourMs, one.startMs))),
          orgDay,
        },
        thresholdsOf(settings, team),
      );
      const spent = (await reading.costs(window, one.scope)).get(one.id) ?? 0n;
      const ahead = toUsdNumber(spent - soFar);
      const of = { scope: one.scope, id: one.id, team };
      const labels = { ...of, window };
      over.set(labels, ahead);
      for (const level of ["warning", "critical"] as const)
        overLine.set({ ...labels, level }, crossings.lineAt(nameOf(one, level), ahead, lines[level]));
      floor.set(labels, lines.floor);
      if (window === "month" || one.scope !== "key") continue;
      hour.set(of, toUsdNumber(running.get(one.id) ?? 0n));
      hourLine.set(of, lines.hour);
    }
    crossings.forgetOthers();
  };
}

function nameOf({ scope, id, windowId }: FrozenForecast, level: string): string {
  return `${scope} ${id} ${windowId} ${level}`;
}

type Crossings = {
  /** Begins a refresh anew, whatever came of the last one. */
  begin(): void;
  lineAt(name: string, figure: number, line: number): number;
  /** Lines that were not asked for since: their window is over. */
  forgetOthers(): void;
};

/** Once crossed, a line is lower until the figure is back under it: what hovers at it is one alert. */
function createCrossings(): Crossings {
  let crossed = new Set<string>();
  let stillCrossed = new Set<string>();
  return {
    begin: () => stillCrossed.clear(),
    lineAt(name, figure, line) {
      const lower = line * STAYS_ABOVE;
      if (figure <= (crossed.has(name) ? lower : line)) return line;
      stillCrossed.add(name);
      return lower;
    },
    forgetOthers() {
      crossed = stillCrossed;
      stillCrossed = new Set();
    },
  };
}

/** Whom to tell of a project or key: the team that spent most in it in the last four weeks (of what is new: today). The
 *  day itself does not move it, so that what a leak spends does not send its message elsewhere. */
async function readTeams(
  { usage }: CollectorBooks,
  { calendar }: GaugeSettings,
  reading: Reading,
): Promise<Map<string, string>> {
  const { firstDay: today } = calendar.window("day", reading.nowMs);
  const before = await readSpend(usage, ["key", "team", "project"], addDays(today, -TEAM_DAYS), today);
  const teams = new Map<string, string>();
  for (const rows of [await reading.spend("day"), before]) {
    const most = new Map<string, NanoUsd>();
    for (const { group, costNanoUsd } of rows)
      for (const name of [`key ${group.key ?? ""}`, `project ${group.project ?? ""}`]) {
        const place = `${name}\n${group.team ?? ""}`;
        most.set(place, (most.get(place) ?? 0n) + costNanoUsd);
      }
    const ascending = [...most].toSorted(([, a], [, b]) => (a > b ? 1 : a < b ? -1 : 0));
    for (const [place] of ascending) {
      const [name = "", team = ""] = place.split("\n");
      teams.set(name, team);
    }
  }
  return teams;
}
