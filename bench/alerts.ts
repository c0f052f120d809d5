// Answers a file of alert cases with the product's own forecaster, limits and rules: `npm run bench:alerts --
// alert_cases.csv.gz alerts.csv`. The gauges of a case are fed to the rules of alerts/rules, hour by hour, as the
// alerts program evaluates them.
//
// In: case_id,start,step_s,eval_from,org_day_usd,usd - USD per hour, `v;v;...`; org_day_usd above 0 is a key of an
// organisation that spends so much on a mean day, 0 an organisation, team or project. Out: case_id,ts - the start of
// the UTC hour at whose end an alert fires.
import { writeFileSync } from "node:fs";
import { createEvaluator } from "../alerts/evaluator.ts";
import type { Sample } from "../alerts/expression.ts";
import { readRules } from "../alerts/rules.ts";
import { forecast } from "../collector/forecast.ts";
import { linesOf } from "../collector/lines.ts";
import { thresholdsOf } from "../collector/thresholds.ts";
import { readTable } from "./tables.ts";

const HOUR_MS = 3_600_000;
const DAY = 24;
const HISTORY = 28 * DAY;
const RULES = new Set(["KeymeterSpendOverForecast", "KeymeterKeyOverForecast", "KeymeterKeySpike"]);

const [from, to] = process.argv.slice(2);
if (from === undefined || to === undefined) {
  process.stderr.write("usage: npm run bench:alerts -- alert_cases.csv[.gz] alerts.csv\n");
  process.exit(2);
}

const rules = readRules().filter(({ alert }) => RULES.has(alert));
const thresholds = thresholdsOf({ thresholds: {}, teamThresholds: {} }, "");
const lines = ["case_id,ts"];
const rows = readTable(from, ["case_id", "start", "step_s", "eval_from", "org_day_usd", "usd"]);
for (const row of rows) {
  if (row["step_s"] !== "3600") throw new Error(`${from}: case ${row["case_id"]}: only steps of 3600 s are known here`);
  const startMs = Date.parse(row["start"]);
  const hours = row["usd"].split(";").map((value) => (value === "" ? undefined : Number(value)));
  for (const hour of alertsOf(startMs, hours, Date.parse(row["eval_from"]), Number(row["org_day_usd"])))
    lines.push(`${row["case_id"]},${new Date(startMs + hour * HOUR_MS).toISOString().replace(".000", "")}`);
}
writeFileSync(to, `${lines.join("\n")}\n`);
process.stdout.write(`${rows.length} cases, ${lines.length - 1} alerts in ${to}\n`);

/** The hours at whose end an alert begins to fire. Causal: what comes later in `hours` is not looked at. */
function alertsOf(
  startMs: number,
  hours: readonly (number | undefined)[],
  evalFromMs: number,
  orgDay: number,
): number[] {
  const scope = orgDay > 0 ? "key" : "org";
  const evaluator = createEvaluator(rules);
  const fired: number[] = [];
  const first = Math.round((evalFromMs - startMs) / HOUR_MS);
  for (let midnight = first - (hourOfDay(startMs, first) % DAY); midnight < hours.length; midnight += DAY) {
    if (midnight < 0) continue;
    const history = hours.slice(Math.max(0, midnight - HISTORY), midnight);
    const made = forecast({ startMs: startMs + (midnight - history.length) * HOUR_MS, hours: history }, DAY);
    if (made.isLearning) continue;
    const largestHour = Math.max(0, ...history.slice(-7 * DAY).map((value) => value ?? 0));
    let [spent, expected] = [0, 0];
    for (let i = 0; i < DAY && midnight + i < hours.length; i++) {
      spent += hours[midnight + i] ?? 0;
      expected += made.hours[i] ?? 0;
      const limits = linesOf(
        { scope, p50: made.p50, p90: made.p90, largestHour, hourExpected: made.hours[i] ?? 0, orgDay },
        thresholds,
      );
      const labels = { scope, id: "case", team: "" };
      const day = { ...labels, window: "day" };
      const samples: Sample[] = [
        { name: "keymeter_over_forecast_usd", labels: day, value: spent - expected },
        { name: "keymeter_over_forecast_line_usd", labels: { ...day, level: "warning" }, value: limits.warning },
        { name: "keymeter_over_forecast_floor_usd", labels: day, value: limits.floor },
        { name: "keymeter_hour_usd", labels, value: hours[midnight + i] ?? 0 },
        { name: "keymeter_hour_line_usd", labels, value: limits.hour },
      ];
      // The figures of the hour's end stand there for the minute that the rules wait.
      const endMs = startMs + (midnight + i + 1) * HOUR_MS;
      evaluator.step(samples, endMs - 60_000);
      const now = evaluator.step(samples, endMs);
      const begins = now.some((alert) => alert.endsAtMs === undefined && alert.startsAtMs === endMs);
      if (begins && midnight + i >= first) fired.push(midnight + i);
    }
    // The day's windows end with it.
    evaluator.step([], startMs + (midnight + DAY) * HOUR_MS);
  }
  return fired;
}

function hourOfDay(startMs: number, hour: number): number {
  return Math.floor(startMs / HOUR_MS + hour) % DAY;
}
