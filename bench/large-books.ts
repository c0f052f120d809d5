// Books of a large year for the benchmark: EVENTS attempts over twelve months, their sums, and the bills of three
// providers. Written in SQL, for the proxy would take hours; the schema, triggers included, is the product's.
import { replaceBills } from "../ledger/billing/bills.ts";
import type { BilledLine, BillOfDay } from "../ledger/billing/bills.ts";
import { firstAttemptId } from "../ledger/ids.ts";
import { openToWrite } from "../ledger/open.ts";
import { openForWriting } from "../ledger/sqlite.ts";
import type { Sqlite } from "../ledger/sqlite.ts";
import { addDays } from "../ledger/windows.ts";

const DAY_MS = 86_400_000;
const KEYS = 200;
const PROVIDERS = ["openai", "anthropic", "gcp.gemini"];
export const DAYS = 365;

/** Makes usage.db and billing.db in the folder. `lastDay`: the day after the last one. */
export async function makeBooks(
  folder: string,
  events: number,
  lastDay: string,
  onDay: (day: number) => void,
): Promise<void> {
  const usage = openForWriting(`${folder}/usage.db`, "usage", "process");
  usage.pragma("synchronous = OFF");
  usage.exec("INSERT INTO meta (name, value) VALUES ('zone', 'UTC')");
  const insertKey = usage.prepare(
    "INSERT INTO keys (id, kind, provider, name, team, state, hint, created_at_ms) VALUES (?, ?, ?, ?, ?, 'active', ?, 0)",
  );
  for (let key = 0; key < KEYS; key++)
    insertKey.run(`key_${key}`, "virtual", null, `key ${key}`, `team-${key % 12}`, "");
  for (const [i, provider] of PROVIDERS.entries())
    usage
      .prepare("INSERT INTO credentials (provider, since_ms, credential, hint) VALUES (?, 0, ?, ?)")
      .run(provider, `fp_${i}`, `hin${i}`);
  const perDay = Math.floor(events / DAYS);
  for (let day = 0; day < DAYS; day++) {
    writeDay(usage, addDays(lastDay, day - DAYS), perDay);
    onDay(day);
  }
  usage.pragma("wal_checkpoint(TRUNCATE)");
  usage.close();
  await makeBills(folder, lastDay, perDay);
}

/** One day: events evenly over it; keys, models and sizes by arithmetic that the bills repeat. */
function writeDay(usage: Sqlite, day: string, perDay: number): void {
  const first = firstAttemptId(Date.parse(`${day}T00:00:00Z`));
  const step = Math.floor((DAY_MS * 4_096) / perDay);
  usage.exec(`BEGIN;
    INSERT INTO events (attempt_id, key_id, provider, endpoint, requested_model, served_model, team, project, env, tags, input, output, usage_state,
      cost_nano_usd, cost_lines, price_version, price_confidence, outcome, http_status, duration_ms)
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ${perDay}),
      e AS (SELECT i, i % ${KEYS} AS k, 200 + (i * 37) % 1800 AS inp, 50 + (i * 13) % 700 AS out FROM n)
    SELECT ${first} + i * ${step}, 'key_' || k, CASE k % 3 WHEN 0 THEN 'openai' WHEN 1 THEN 'anthropic' ELSE 'gcp.gemini' END, 'chat_completions',
      CASE k % 3 WHEN 0 THEN 'gpt-5.2' WHEN 1 THEN 'claude-haiku-4-5' ELSE 'gemini-2.5-flash' END,
      CASE k % 3 WHEN 0 THEN 'gpt-5.2' WHEN 1 THEN 'claude-haiku-4-5' ELSE 'gemini-2.5-flash' END,
      'team-' || (k % 12), '', 'prod', '{"feature":"f' || (i % 3) || '"}', inp, out, CASE WHEN i % 200 = 7 THEN 'estimated' ELSE 'reported' END,
      inp * 1750 + out * 14000, '[["input",' || inp || ',"1750000","' || (inp * 1750) || '"],["output",' || out || ',"14000000","' || (out * 14000) || '"]]',
      'bench', 'exact', 'complete', 200, 1500 FROM e;
    INSERT INTO rollup_hour SELECT at_ms - at_ms % 3600000, key_id, provider, served_model, requested_model, team, project, env, COUNT(*), SUM(cost_nano_usd),
      SUM(input), 0, 0, SUM(output), SUM(usage_state = 'estimated'), 0, 0, 0, '', '', 0 FROM events WHERE attempt_id >= ${first} AND attempt_id < ${first} + ${DAY_MS * 4_096} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8;
    INSERT INTO rollup_day SELECT '${day}', key_id, provider, model, requested_model, team, project, env, SUM(requests), SUM(cost_nano_usd), SUM(input), 0, 0,
      SUM(output), SUM(estimated), 0, 0, 0, '', '', 0 FROM rollup_hour WHERE hour_ms >= ${Date.parse(`${day}T00:00:00Z`)} GROUP BY 2, 3, 4, 5, 6, 7, 8;
    COMMIT`);
}

/** Twelve months of bills: what was metered, in lines by model and class as providers write them. */
async function makeBills(folder: string, lastDay: string, perDay: number): Promise<void> {
  const billing = await openToWrite(folder, "billing", "process");
  const usage = openForWriting(`${folder}/usage.db`, "usage", "process");
  const sums = usage.prepare(
    `SELECT provider, model, SUM(input), SUM(output) FROM rollup_hour WHERE hour_ms >= ? AND hour_ms < ? GROUP BY 1, 2`,
  );
  const bills: BillOfDay[] = [];
  for (let day = 0; day < DAYS; day++) {
    const name = addDays(lastDay, day - DAYS);
    const startMs = Date.parse(`${name}T00:00:00Z`);
    for (const [provider, model, input, output] of sums.raw().all(startMs, startMs + DAY_MS) as [
      string,
      string,
      bigint,
      bigint,
    ][]) {
      const line = (unit: "input" | "output", quantity: bigint, price: bigint, part: bigint): BilledLine => ({
        kind: "usage",
        billedKey: `fp_${PROVIDERS.indexOf(provider)}`,
        project: `project-${part}`,
        model,
        tier: "",
        unit,
        quantity: Number(quantity),
        amountNanoUsd: quantity * price,
        resolutionNanoUsd: 1n,
        raw: "{}",
      });
      // A bill has a row a project: here a hundred, the last with the rest.
      const rows = 100n;
      const lines = Array.from({ length: Number(rows) }, (_, i) => {
        const isLast = BigInt(i) === rows - 1n;
        const share = (all: bigint): bigint => (isLast ? all - (all / rows) * (rows - 1n) : all / rows);
        return [line("input", share(input), 1_750n, BigInt(i)), line("output", share(output), 14_000n, BigInt(i))];
      }).flat();
      bills.push({ provider, day: name, source: "api", asOfMs: startMs + 2 * DAY_MS, lines });
    }
  }
  usage.close();
  await replaceBills(billing, bills, Date.parse(`${lastDay}T00:00:00Z`));
  await billing.close();
  if (perDay === 0) throw new Error("too few events for a year");
}
