// kill -9 under load, at named and at random points, then a restart: what the provider saw and what the books say.
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { forkProxy, KILL_POINTS } from "../kill-proxy.ts";
import { IS_CI, random, SEED } from "../seed.ts";
import { readAllEvents, startProxy, temporaryFolder } from "../start-proxy.ts";

const PARALLEL = 8;
const ROUNDS_AT_RANDOM = IS_CI ? 40 : 4;
const ROUNDS_AT_POINTS = IS_CI ? 5 : 1;

/** Answers a chat completion of n tokens, JSON or stream, in steps with pauses. */
const answerSlowly: FakeProvider["script"] = async (arrived, response) => {
  const body = JSON.parse(arrived.body.toString("utf8")) as { user: string; stream?: boolean };
  const n = Number(body.user);
  const usage = { prompt_tokens: 100 + n, completion_tokens: 10 + n, total_tokens: 110 + 2 * n };
  if (!body.stream) {
    await sleep(3);
    response.writeHead(200, { "content-type": "application/json" }).end(
      JSON.stringify({
        id: `c${n}`,
        model: "gpt-4o-mini",
        choices: [{ index: 0, message: { role: "assistant", content: "x".repeat(200) }, finish_reason: "stop" }],
        usage,
      }),
    );
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  const chunk = (choices: unknown[], more: object): string =>
    `data: ${JSON.stringify({ id: `c${n}`, model: "gpt-4o-mini", choices, ...more })}\n\n`;
  for (let i = 0; i < 5; i++) {
    response.write(chunk([{ index: 0, delta: { content: `word${i} ` }, finish_reason: null }], { usage: null }));
    await sleep(1);
  }
  response.write(chunk([], { usage }));
  response.end("data: [DONE]\n\n");
};

type Saw = { readonly n: number; readonly end: boolean };

describe("kill -9", () => {
  let provider: FakeProvider;
  beforeAll(async () => {
    provider = await startFakeProvider(answerSlowly);
  });
  afterAll(() => provider.close());

  it.each(KILL_POINTS)(
    "%s: one event for each attempt the provider saw, exact where the client saw the end",
    async (point) => {
      const next = random(SEED);
      console.log(`seed ${SEED}`);
      for (let round = 0; round < ROUNDS_AT_POINTS; round++)
        await killRound(provider, { point, nth: 1 + Math.floor(next() * 40) }, `seed ${SEED}, round ${round}`);
    },
  );

  it("at random points", async () => {
    const next = random(SEED);
    console.log(`seed ${SEED}`);
    for (let round = 0; round < ROUNDS_AT_RANDOM; round++)
      await killRound(provider, { afterMs: 30 + next() * 300 }, `seed ${SEED}, round ${round}`);
  });
});

async function killRound(
  provider: FakeProvider,
  how: { point: string; nth: number } | { afterMs: number },
  label: string,
): Promise<void> {
  const dataDir = temporaryFolder();
  const before = provider.journal.length;
  const { child, url } = await forkProxy(provider.url, dataDir, "point" in how ? how : undefined);
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const saw = await load(url, child, "afterMs" in how ? how.afterMs : undefined);
  await exited;
  expect(child.signalCode, label).toBe("SIGKILL");

  // The restart books what was open.
  const restarted = await startProxy(provider.url, { KEYMETER_DATA_DIR: dataDir });
  const { differences, reservedNanoUsd } = await restarted.proxy.writer.verify();
  await restarted.stop();
  expect(differences, label).toEqual([]);
  expect(reservedNanoUsd, label).toBe(0n);

  const events = await readAllEvents(dataDir);
  const byN = new Map<number, typeof events>();
  for (const event of events) {
    const n = Number(event.tags["user"]);
    byN.set(n, [...(byN.get(n) ?? []), event]);
  }
  const arrived = provider.journal
    .slice(before)
    .map((one) => Number((JSON.parse(one.body.toString("utf8")) as { user: string }).user));
  expect(new Set(arrived).size, `${label}: the proxy sent an attempt twice`).toBe(arrived.length);
  for (const n of arrived) expect(byN.get(n)?.length, `${label}: attempt ${n}`).toBe(1);
  for (const { n, end } of saw) {
    if (!end) continue;
    const [event] = byN.get(n) ?? [];
    expect(event?.usageState, `${label}: attempt ${n} ended for the client`).toBe("reported");
    expect(event?.usage, `${label}: attempt ${n}`).toEqual({ input: 100 + n, output: 10 + n });
    expect(event?.costNanoUsd, `${label}: attempt ${n}`).toBe(String((100 + n) * 150 + (10 + n) * 600));
  }
  const without = events.filter((event) => !arrived.includes(Number(event.tags["user"])));
  expect(
    without.every((event) => event.outcome === "crash"),
    `${label}: an event without an attempt that is no crash`,
  ).toBe(true);
  expect(without.length, label).toBeLessThanOrEqual(PARALLEL);
}

/** Clients that go on until the proxy is dead. */
async function load(url: string, child: ChildProcess, killAfterMs: number | undefined): Promise<Saw[]> {
  const saw: Saw[] = [];
  let n = 0;
  const timer = killAfterMs === undefined ? undefined : setTimeout(() => child.kill("SIGKILL"), killAfterMs);
  await Promise.all(
    Array.from({ length: PARALLEL }, async () => {
      while (child.exitCode === null && child.signalCode === null) {
        const mine = (n += 1);
        const stream = mine % 2 === 0;
        try {
          const answer = await fetch(`${url}/openai/v1/chat/completions`, {
            method: "POST",
            headers: { "content-type": "application/json", authorization: "Bearer sk-test-kill-client-key" },
            body: JSON.stringify({
              model: "gpt-4o-mini",
              user: String(mine),
              max_tokens: 500,
              messages: [{ role: "user", content: "hi" }],
              ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
            }),
          });
          const text = await answer.text();
          saw.push({ n: mine, end: stream ? text.includes("[DONE]") : text.endsWith("}") });
        } catch {
          saw.push({ n: mine, end: false });
        }
      }
    }),
  );
  clearTimeout(timer);
  return saw;
}
