// node bench/metering.ts: what metering itself costs, part by part, called in a loop without sockets or disk:
// microseconds for a request of 2 KB, 100 KB and 1 MB, for an answer of that size, and for each chunk of a stream,
// early and late.
import { mkdtempSync } from "node:fs";
import type { IncomingMessage } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadProxyConfig } from "../proxy/config.ts";
import { checkLimits } from "../proxy/gate.ts";
import { readBody } from "../proxy/json-body.ts";
import { resolveTarget } from "../proxy/target.ts";
import { createMeter } from "../proxy/meter.ts";
import { createProviders } from "../proxy/providers/index.ts";

const SIZES = { "2 KB": 2_000, "100 KB": 100_000, "1 MB": 1_000_000 };
const ROUNDS = 5;
const MS_A_ROUND = 400;
const CHUNKS = 20_000;

const config = loadProxyConfig({ KEYMETER_DATA_DIR: mkdtempSync(join(tmpdir(), "keymeter-bench-")) });
const providers = createProviders(config);
const request = {
  method: "POST",
  headers: { "content-type": "application/json" },
} as unknown as IncomingMessage;
const target = resolveTarget(providers, request, "/openai/v1/chat/completions", new URLSearchParams());
if (!target?.match) throw new Error("no route");
const { dialect, match } = target;
const usage = { prompt_tokens: 100, completion_tokens: 100, total_tokens: 200 };

const KNOWN_BY = { vendor: "openai", allowed: [] };
const rows: string[][] = [];
for (const [name, bytes] of Object.entries(SIZES)) {
  const words = "word ".repeat(bytes / 5);
  const asked = Buffer.from(JSON.stringify({ model: "gpt-4o-mini", messages: [{ role: "user", content: words }] }));
  const answered = Buffer.from(
    JSON.stringify({ id: "c", model: "gpt-4o-mini", choices: [{ message: { content: words } }], usage }),
  );
  const call = dialect.describe(match, readBody(request.headers, asked), {}, KNOWN_BY);
  const read = best(() => {
    const body = readBody(request.headers, asked);
    checkLimits(body, dialect.limits, false);
    dialect.describe(match, body, {}, KNOWN_BY);
  });
  const metered = best(() => {
    const meter = createMeter(dialect, call, false, "application/json");
    for (let from = 0; from < answered.length; from += 65_536) meter.push(answered.subarray(from, from + 65_536));
    if (meter.reading().usage?.output !== usage.completion_tokens) throw new Error("the usage was not read");
    meter.takeHeld();
  });
  rows.push([name, read.toFixed(1), metered.toFixed(1)]);
}
process.stdout.write(
  `| body | read the request, us | meter the answer, us |\n|---|---|---|\n${rows.map((row) => `| ${row.join(" | ")} |`).join("\n")}\n\n`,
);

// A stream: each tenth of it, so that a cost that grows with its length would show.
const call = { ...dialect.describe(match, { model: "gpt-4o-mini", stream: true }, {}, KNOWN_BY), stream: true };
const chunk = Buffer.from(
  `data: ${JSON.stringify({ id: "c", model: "gpt-4o-mini", choices: [{ index: 0, delta: { content: "word " } }], usage: null })}\n\n`,
);
const tenths: number[][] = Array.from({ length: 10 }, () => []);
for (let round = 0; round < ROUNDS; round++) {
  const meter = createMeter(dialect, call, false, "text/event-stream");
  for (const tenth of tenths) {
    const started = performance.now();
    for (let i = 0; i < CHUNKS / 10; i++) meter.push(chunk);
    tenth.push(((performance.now() - started) * 1_000) / (CHUNKS / 10));
  }
}
const perChunk = tenths.map((tenth) => Math.min(...tenth).toFixed(2));
process.stdout.write(`us for a chunk, by tenths of a stream of ${CHUNKS}: ${perChunk.join(" ")}\n`);

/** Microseconds of one call: the best of some rounds. */
function best(work: () => void): number {
  const rounds = Array.from({ length: ROUNDS }, () => {
    const started = performance.now();
    let calls = 0;
    while (performance.now() - started < MS_A_ROUND) {
      work();
      calls += 1;
    }
    return ((performance.now() - started) * 1_000) / calls;
  });
  return Math.min(...rounds);
}
