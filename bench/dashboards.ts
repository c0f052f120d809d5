// npm run bench:dashboards [-- --keys 500 --days 60]: how long each dashboard's questions take a real Prometheus, over
// the history of a replayed organisation that was back-filled. As Grafana asks: all panels of a dashboard at once, six
// questions at a time. Seconds of one machine; the aim is one second.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createAsker } from "../test/dashboards/ask.ts";
import { startBackfilled } from "../test/dashboards/backfilled.ts";
import { dashboards, NOW_MS } from "../test/dashboards/history.ts";
import { writeOrganisation } from "../test/organisation.ts";

const ROUNDS = 5;
const AT_ONCE = 6;

const { values } = parseArgs({ options: { keys: { type: "string" }, days: { type: "string" } } });
const [keys, days] = [Number(values.keys ?? 500), Number(values.days ?? 60)];
const folder = mkdtempSync(join(tmpdir(), "keymeter-bench-"));
process.stderr.write(`${keys} keys, ${days} days: making the books\n`);
const { keyIds } = await writeOrganisation({ folder, days: days + 1, keys, seed: 1, nowMs: NOW_MS, forecastDays: 8 });
process.stderr.write("making the blocks\n");
const prometheus = await startBackfilled(folder, days, NOW_MS);
try {
  const asker = createAsker(prometheus.url, { nowMs: NOW_MS, historyDays: days, keyId: keyIds[1] ?? "" });
  const rows = [["dashboard", "questions", "first", "median", "slowest question"]];
  for (const { title, panels } of dashboards) {
    const questions = panels.flatMap((panel) => (panel.targets ?? []).map((target) => ({ panel, target })));
    const times: number[] = [];
    let slowest = { ms: 0, of: "" };
    for (let round = 0; round < ROUNDS; round++) {
      const waiting = questions.values();
      const began = performance.now();
      await Promise.all(
        Array.from({ length: AT_ONCE }, async () => {
          for (const { panel, target } of waiting) {
            const since = performance.now();
            await asker.answer(panel, target);
            const ms = performance.now() - since;
            if (ms > slowest.ms) slowest = { ms, of: panel.title };
          }
        }),
      );
      times.push(performance.now() - began);
    }
    const median = times.toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? 0;
    const seconds = (ms: number): string => (ms / 1000).toFixed(2);
    rows.push([
      title,
      String(questions.length),
      seconds(times[0] ?? 0),
      seconds(median),
      `${seconds(slowest.ms)} ${slowest.of}`,
    ]);
  }
  for (const row of rows) process.stdout.write(`| ${row.join(" | ")} |\n`);
} finally {
  await prometheus.stop();
  rmSync(folder, { recursive: true, force: true });
}
