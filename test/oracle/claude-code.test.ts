// An oracle outside our code: Claude Code works out what its sessions cost, from its own price table. Scripted sessions go through
// Keymeter, and both figures must be the same. `cd test/oracle && npm ci` fetches the program; without it this is skipped, loudly.
import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { parseUsd } from "../../ledger/money.ts";
import { random, SEED } from "../seed.ts";
import { noteSkipped } from "../skipped.ts";
import { withProxy } from "../with-proxy.ts";

const PROGRAM = fileURLToPath(
  new URL(`./node_modules/@anthropic-ai/claude-code-${process.platform}-${process.arch}/claude`, import.meta.url),
);
const isHere = existsSync(PROGRAM);
if (!isHere) noteSkipped(`Claude Code is not here (${PROGRAM}); cd test/oracle && npm ci fetches it`);

const MODELS = [
  "claude-haiku-4-5",
  "claude-sonnet-4-5",
  "claude-sonnet-4-6",
  "claude-opus-4-5",
  "claude-opus-4-6",
  "claude-opus-4-8",
  "claude-sonnet-5",
  "claude-sonnet-5-5",
  "claude-opus-5",
  "claude-opus-5-5",
  "claude-fable-5",
  "claude-haiku-5-5",
];

/** Those that have a fast mode. */
const FAST = ["claude-opus-4-8", "claude-opus-5", "claude-opus-5-5"];

describe.skipIf(!isHere)("the cost that Claude Code works out", () => {
  const next = random(SEED);
  let isFast = false;
  const bench = withProxy(
    (arrived, response) => {
      if (!arrived.url.startsWith("/v1/messages?")) return void response.writeHead(404).end("{}");
      const { model } = JSON.parse(arrived.body.toString()) as { model: string };
      const count = (most: number): number => Math.floor(next() * most);
      const [short, long] = [count(3_000), count(3_000)];
      const usage = {
        input_tokens: count(5_000),
        cache_creation_input_tokens: short + long,
        cache_read_input_tokens: count(60_000),
        cache_creation: { ephemeral_5m_input_tokens: short, ephemeral_1h_input_tokens: long },
        service_tier: "standard",
        ...(isFast ? { speed: "fast" } : {}),
      };
      const output = 1 + count(2_000);
      // The first turn reads a file, the second one ends.
      const isFirst = !arrived.body.includes('"tool_result"');
      const block = isFirst ? { type: "tool_use", id: "toolu_1", name: "Read", input: {} } : { type: "text", text: "" };
      const delta = isFirst
        ? { type: "input_json_delta", partial_json: JSON.stringify({ file_path: join(folder, "a.txt") }) }
        : { type: "text_delta", text: "done" };
      response.writeHead(200, { "content-type": "text/event-stream" });
      const send = (type: string, event: object): boolean =>
        response.write(`event: ${type}\ndata: ${JSON.stringify({ type, ...event })}\n\n`);
      const message = { id: `msg_${next()}`, type: "message", role: "assistant", model, content: [] };
      send("message_start", { message: { ...message, usage: { ...usage, output_tokens: 1 } } });
      send("content_block_start", { index: 0, content_block: block });
      send("content_block_delta", { index: 0, delta });
      send("content_block_stop", { index: 0 });
      const server = isFirst ? {} : { server_tool_use: { web_search_requests: count(3), web_fetch_requests: 1 } };
      send("message_delta", {
        delta: { stop_reason: isFirst ? "tool_use" : "end_turn", stop_sequence: null },
        usage: { ...usage, ...server, output_tokens: output },
      });
      send("message_stop", {});
      response.end();
    },
    { KEYMETER_DURABILITY: "process" },
  );
  const folder = mkdtempSync(join(tmpdir(), "keymeter-oracle-"));
  writeFileSync(join(folder, "a.txt"), "hello\n");

  /** Has it read a file and say that it is done. */
  const ask = (secret: string, model: string): Promise<{ stdout: string }> =>
    promisify(execFile)(
      PROGRAM,
      ["-p", "read a.txt and say done", "--output-format", "json", "--model", model, "--allowedTools", "Read"],
      {
        cwd: folder,
        timeout: 60_000,
        env: {
          PATH: process.env["PATH"] ?? "",
          HOME: folder,
          ANTHROPIC_BASE_URL: `${bench.running.url}/anthropic`,
          ANTHROPIC_API_KEY: secret,
          CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
          DISABLE_AUTOUPDATER: "1",
        },
      },
    );

  it("of a session with a key at its cap is nothing: one request, and one error that says why", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 0n });
    let requests = 0;
    bench.running.proxy.app.server.on("request", ({ url }: { url?: string }) => {
      if (url?.includes("/messages?")) requests += 1;
    });
    const before = bench.provider.journal.length;
    const { stdout } = await ask(secret, "claude-haiku-4-5").catch((error: unknown) => error as { stdout: string });
    const result = JSON.parse(stdout) as { is_error: boolean; result: string };
    expect(result.is_error).toBe(true);
    expect(result.result).toContain(`does not fit the month budget of key key-1 (${id})`);
    expect(result.result).toContain("Whoever runs Keymeter can raise the budget.");
    expect([requests, bench.provider.journal.length - before]).toEqual([1, 0]);
  });

  it.each([
    ...MODELS.map((model) => ({ model, speed: "standard" })),
    ...FAST.map((model) => ({ model, speed: "fast" })),
  ])("of a session of two turns with $model, $speed, is ours, to the nano-dollar", async ({ model, speed }) => {
    console.log(`seed ${SEED}`);
    isFast = speed === "fast";
    const { id, secret } = await bench.running.createKey();
    const { stdout } = await ask(secret, model);
    const result = JSON.parse(stdout) as { total_cost_usd: number; num_turns: number; modelUsage: object };
    const events = (await bench.running.events()).filter(({ keyId }) => keyId === id);
    expect(events.length).toBe(2);
    expect(
      events.every(({ usageState, priceConfidence }) => usageState === "reported" && priceConfidence === "exact"),
    ).toBe(true);
    const ours = events.reduce((sum, { costNanoUsd }) => sum + BigInt(costNanoUsd ?? 0), 0n);
    // Its figure is a sum of floats.
    expect(parseUsd(result.total_cost_usd.toFixed(9)), JSON.stringify(result.modelUsage)).toBe(ours);
  });
});
