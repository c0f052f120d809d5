// A leak, end to end: a key that runs away beside a week of usual traffic, and a provider key that is used past the
// proxy. With the real Prometheus and Alertmanager, and with neither: one message within two minutes, that grows with
// it and ends with it.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { createDemoProvider } from "../../command/demo/provider.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { startFakeOpenai } from "../fake/billing/openai.ts";
import { createTruth } from "../fake/billing/truth.ts";
import { startFakeSlack } from "../fake/slack.ts";
import type { FakeSlack } from "../fake/slack.ts";
import { freePorts } from "../free-ports.ts";
import { IS_CI, SEED } from "../seed.ts";
import { isTurnOf } from "../skipped.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { hasPrometheus } from "../tools.ts";
import { event } from "../usage-event.ts";

const START = fileURLToPath(new URL("../../start.mjs", import.meta.url));
const HOUR_MS = 3_600_000;
const DAYS = 8;
const closers: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

type Environment = { [name: string]: string };

function keymeter(
  args: string[],
  env: Environment,
): { child: ChildProcess; output: () => string; exit: Promise<number | null> } {
  const child = spawn(process.execPath, [START, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const exit = new Promise<number | null>((resolve) => child.once("exit", resolve));
  return { child, output: () => text, exit };
}

/** A week of a team that spends a tenth of a dollar an hour. */
async function writeHistory(folder: string): Promise<void> {
  const until = Math.floor(Date.now() / HOUR_MS) * HOUR_MS;
  let now = until - DAYS * 24 * HOUR_MS;
  const writer = await openWriter({
    path: join(folder, "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    now: () => now,
  });
  await writer.noteMeterRan(now, until);
  for (; now < until; now += HOUR_MS)
    await writer.settle(
      event(writer.nextAttemptId(), 100_000_000n, {
        keyId: "key_usual",
        team: "search",
        requestedModel: "gpt-5.2",
        servedModel: "gpt-5.2",
        priceConfidence: "exact",
      }),
    );
  await writer.close();
}

const WAYS: readonly (readonly [name: string, prometheus: string, isThere: boolean])[] = [
  ["with Prometheus and Alertmanager", "auto", hasPrometheus],
  ["without them", "off", true],
];
describe
  .skipIf(!isTurnOf(2, 4, "a leak, from its first request to Slack"))
  .each(IS_CI ? WAYS : WAYS.slice(SEED % 2, (SEED % 2) + 1))("a leak, %s", (_name, prometheus, isThere) => {
  it.skipIf(!isThere)(
    "is one message within two minutes, grows in place, and is over once",
    async () => {
      const folder = temporaryFolder();
      await writeHistory(folder);
      const provider = createDemoProvider();
      const slack: FakeSlack = await startFakeSlack();
      slack.hasLimit = true;
      const truth = createTruth(Date.now());
      const openai = await startFakeOpenai(truth);
      const env: Environment = {
        PATH: process.env["PATH"] ?? "",
        HOME: folder,
        KEYMETER_DATA_DIR: folder,
        ...(await freePorts()),
        KEYMETER_DRAIN_SECONDS: "1",
        KEYMETER_PROMETHEUS: prometheus,
        KEYMETER_OPENAI_URL: `http://127.0.0.1:${await provider.listen()}`,
        OPENAI_API_KEY: "sk-test",
        OPENAI_ADMIN_KEY: "sk-admin-test",
        KEYMETER_OPENAI_BILLING_URL: `${openai.url}/v1`,
        SLACK_BOT_TOKEN: "xoxb-test",
        SLACK_CHANNEL: "C0TEST",
        KEYMETER_SLACK_URL: slack.url,
        KEYMETER_SCRAPE_SECONDS: "1",
      };
      // A key that nobody has metered, used an hour ago.
      const usedAtMs = Date.now() - HOUR_MS;
      truth.keys.push({ provider: "openai", id: "key_lost", name: "lost", project: "proj_1", shown: "sk-...lost" });
      for (const unit of ["input", "output"] as const)
        truth.charges.push({
          provider: "openai",
          atMs: usedAtMs,
          billedKey: "key_lost",
          project: "proj_1",
          model: "gpt-5.2",
          unit,
          quantity: 5_000_000,
          amountNanoUsd: 9_000_000_000n,
          requests: 3,
        });
      const up = keymeter(["up"], env);
      closers.push(
        () => provider.close(),
        () => slack.close(),
        () => openai.close(),
        async () => {
          up.child.kill("SIGTERM");
          await up.exit;
        },
      );
      await expect.poll(up.output, { timeout: 90_000 }).toContain("Ctrl-C");
      const created = keymeter(["keys", "create", "--name", "runaway", "--team", "search", "--json"], env);
      await created.exit;
      const { key } = JSON.parse(created.output()) as { key: string };
      const gauge = async (name: string, labels: string): Promise<number> => {
        const page = await (await fetch(`http://127.0.0.1:${env["KEYMETER_COLLECTOR_PORT"]}/metrics`)).text();
        return Number(
          page
            .split("\n")
            .find((line) => line.startsWith(`${name}{${labels}`))
            ?.split(" ")
            .at(-1) ?? NaN,
        );
      };
      const TEAM = 'scope="team",id="search",team="search",window="day"';
      /** Spends until the team is so much over its forecast, in USD. */
      const spendUntil = async (target: number): Promise<void> => {
        expect(target).toBeGreaterThan(0.5);
        for (let over = -Infinity; over < target; over = await gauge("keymeter_over_forecast_usd", TEAM)) {
          await Promise.all(
            Array.from({ length: 20 }, async () => {
              const answer = await fetch(`http://127.0.0.1:${env["KEYMETER_PORT"]}/openai/v1/chat/completions`, {
                method: "POST",
                headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
                body: JSON.stringify({ model: "gpt-5.2", max_completion_tokens: 2_000, messages: [] }),
              });
              expect(answer.status).toBe(200);
              await answer.text();
            }),
          );
          await new Promise((resolve) => setTimeout(resolve, 500));
        }
      };
      const about = (what: RegExp): string[] =>
        slack.posted.filter(({ threadTs, text }) => threadTs === undefined && what.test(text)).map(({ text }) => text);
      const FORECAST = /forecast|more in one hour/;

      await spendUntil(1.2 * (await gauge("keymeter_over_forecast_line_usd", `${TEAM},level="warning"`)));
      const crossedMs = Date.now();
      await expect.poll(() => about(FORECAST).length, { timeout: 120_000, interval: 250 }).toBe(1);
      expect(Date.now() - crossedMs).toBeLessThan(120_000);
      await expect.poll(() => about(FORECAST)[0], { timeout: 90_000 }).toContain("Team search is heading");
      expect(about(FORECAST)[0]).toContain("runaway");
      await expect.poll(() => slack.posted.filter(({ file }) => file).length, { timeout: 30_000 }).toBeGreaterThan(0);
      const picture = slack.posted.find(({ file }) => file)?.file?.bytes;
      expect(picture?.includes(Buffer.from("PNG"))).toBe(true);

      // And the key that went round the proxy has its own.
      await expect.poll(() => about(/used past Keymeter/).length, { timeout: 120_000 }).toBe(1);
      expect(about(/used past Keymeter/)[0]).toContain("key_lost");
      // How it grows and ends takes minutes.
      if (!IS_CI) return;

      const before = about(FORECAST)[0];
      await spendUntil(1.5 * (await gauge("keymeter_over_forecast_usd", TEAM)));
      await expect.poll(() => about(FORECAST)[0], { timeout: 120_000, interval: 250 }).not.toBe(before);
      expect(about(FORECAST).length).toBe(1);

      // Somebody says that it was planned: it is over.
      const days = (offset: number): string => new Date(Date.now() + offset * 24 * HOUR_MS).toISOString().slice(0, 10);
      const planned = keymeter(
        [
          "forecast",
          "plan",
          "--team",
          "search",
          "--from",
          days(0),
          "--to",
          days(1),
          "--factor",
          "1000",
          "--why",
          "load test",
        ],
        env,
      );
      expect(await planned.exit, planned.output()).toBe(0);
      await expect.poll(() => about(FORECAST)[0], { timeout: 150_000, interval: 250 }).toMatch(/^Resolved after/);
      expect(about(FORECAST).length).toBe(1);

      expect(slack.limited).toBe(0);
    },
    600_000,
  );
});
