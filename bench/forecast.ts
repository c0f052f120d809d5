// Answers a file of forecast tasks with the product's own forecaster: `npm run bench:forecast -- tasks.csv.gz
// forecasts.csv`.
//
// In: task_id,kind,history_start,step_s,horizon,spent_so_far,history - the history as USD per hour, `v;v;...`, an hour
// that is not known is empty. Out: task_id,step,mean,p025,p10,p50,p90,p975 - steps from 1 on are hours, step 0 is the
// total.
import { writeFileSync } from "node:fs";
import { forecast } from "../collector/forecast.ts";
import { readTable, round } from "./tables.ts";

const [from, to] = process.argv.slice(2);
if (from === undefined || to === undefined) {
  process.stderr.write("usage: npm run bench:forecast -- tasks.csv[.gz] forecasts.csv\n");
  process.exit(2);
}

const lines = ["task_id,step,mean,p025,p10,p50,p90,p975"];
let tasks = 0;
for (const row of readTable(from, ["task_id", "history_start", "step_s", "horizon", "history"])) {
  if (row["step_s"] !== "3600") throw new Error(`${from}: task ${row["task_id"]}: only steps of 3600 s are known here`);
  const hours = row["history"].split(";").map((value) => (value === "" ? undefined : Number(value)));
  const {
    hours: expected,
    p025,
    p10,
    p50,
    p90,
    p975,
  } = forecast({ startMs: Date.parse(row["history_start"]), hours }, Number(row["horizon"]));
  lines.push([row["task_id"], 0, ...[p50, p025, p10, p50, p90, p975].map(round)].join(","));
  expected.forEach((value, i) => lines.push(`${row["task_id"]},${i + 1},${round(value)},,,,,`));
  tasks += 1;
}
writeFileSync(to, `${lines.join("\n")}\n`);
process.stdout.write(`${tasks} tasks answered in ${to}\n`);
