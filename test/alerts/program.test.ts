// The alerts program as a process, beside real Alertmanagers: how many messages there are, whatever dies or doubles.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { FakeSlack } from "../fake/slack.ts";
import { startFakeSlack } from "../fake/slack.ts";
import { freePorts } from "../free-ports.ts";
import { IS_CI, random, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { hasPrometheus } from "../tools.ts";

const KEYMETER = fileURLToPath(new URL("../../keymeter.ts", import.meta.url));
const TOKEN = "a-webhook-token-of-tests";
const CONFIG = fileURLToPath(new URL("../../alerts/alertmanager.yaml", import.meta.url));

let slack: FakeSlack;
let folder: string;
let env: { [name: string]: string };
const children: ChildProcess[] = [];

beforeEach(async () => {
  slack = await startFakeSlack();
  folder = temporaryFolder();
  env = {
    PATH: process.env["PATH"] ?? "",
    HOME: folder,
    KEYMETER_DATA_DIR: folder,
    ...(await freePorts()),
    KEYMETER_OWN_RULES: "never",
    KEYMETER_WEBHOOK_TOKEN: TOKEN,
    SLACK_BOT_TOKEN: "xoxb-test",
    SLACK_CHANNEL: "C0TEST",
    KEYMETER_SLACK_URL: slack.url,
  };
});
afterEach(async () => {
  for (const child of children.splice(0)) await kill(child, "SIGTERM");
  await slack.close();
});

async function kill(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  await exited;
}

async function startAlerts(): Promise<ChildProcess> {
  const child = spawn(process.execPath, [KEYMETER, "alerts"], { env, stdio: ["ignore", "ignore", "pipe"] });
  children.push(child);
  const url = `http://127.0.0.1:${env["KEYMETER_ALERTS_PORT"]}/readyz`;
  await expect.poll(async () => (await fetch(url).catch(() => undefined))?.ok, { timeout: 20_000 }).toBe(true);
  return child;
}

const mainMessages = (): string[] =>
  slack.posted.filter(({ threadTs }) => threadTs === undefined).map(({ text }) => text);
const waiting = async (): Promise<number> => {
  const page = await (await fetch(`http://127.0.0.1:${env["KEYMETER_ALERTS_PORT"]}/metrics`)).text();
  return Number(/^keymeter_outbox_deliveries (\d+)$/m.exec(page)?.[1] ?? NaN);
};

describe("kill -9 in the middle of a post", () => {
  it("leaves one message for each group, whether Slack had taken it or not", async () => {
    const next = random(SEED);
    const rounds = IS_CI ? 25 : 3;
    process.stdout.write(`seed ${SEED}\n`);
    let child = await startAlerts();
    for (let round = 0; round < rounds; round++) {
      const isTaken = next() < 0.5;
      slack.failures.push({ hang: true, isTaken, method: "chat.postMessage" });
      const labels = {
        alertname: "KeymeterUnpricedModel",
        topic: "prices",
        provider: `p${round}`,
        severity: "warning",
      };
      const alert = {
        status: "firing",
        labels,
        annotations: {},
        startsAt: new Date().toISOString(),
        endsAt: "0001-01-01T00:00:00Z",
      };
      const answer = await fetch(`http://127.0.0.1:${env["KEYMETER_ALERTS_PORT"]}/webhook`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${TOKEN}` },
        body: JSON.stringify({ groupKey: `round ${round}`, status: "firing", commonLabels: labels, alerts: [alert] }),
      });
      expect(answer.status).toBe(200);
      await expect.poll(() => slack.failures.length, { timeout: 15_000, interval: 10 }).toBe(0);
      await kill(child, "SIGKILL");
      child = await startAlerts();
      await expect.poll(waiting, { timeout: 30_000 }).toBe(0);
      expect(mainMessages().length, `round ${round}, ${isTaken ? "taken" : "not taken"}, seed ${SEED}`).toBe(round + 1);
    }
  }, 300_000);
});

describe("a second alerts program", () => {
  it("on the same data is refused", async () => {
    await startAlerts();
    const other = spawn(process.execPath, [KEYMETER, "alerts"], {
      env: { ...env, ...(await freePorts()) },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    other.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    const code = await new Promise((resolve) => other.once("exit", resolve));
    expect(code).not.toBe(0);
    expect(said).toContain("notices.db");
  });
});

describe.skipIf(!hasPrometheus)(
  "500 keys over their forecast at once, in two Alertmanagers that do not know of each other",
  () => {
    it("are one message for each of four teams, that resolves once", async () => {
      const ports = [env["KEYMETER_ALERTMANAGER_PORT"], env["KEYMETER_PROMETHEUS_PORT"]];
      const urls = ports.map((port) => `http://127.0.0.1:${port}`);
      env["KEYMETER_ALERTMANAGER_URLS"] = urls.join(",");
      await startAlerts();
      const config = readFileSync(CONFIG, "utf8")
        .replaceAll("alerts:4003", `127.0.0.1:${env["KEYMETER_ALERTS_PORT"]}`)
        .replace("/etc/alertmanager/webhook-token", join(folder, "webhook-token-of-alertmanager"))
        .replace("group_wait: 10s", "group_wait: 2s")
        .replace("group_interval: 1m", "group_interval: 3s");
      writeFileSync(join(folder, "webhook-token-of-alertmanager"), `${TOKEN}\n`);
      for (const [i, port] of ports.entries()) {
        const own = join(folder, `alertmanager-${i}`);
        mkdirSync(own);
        writeFileSync(join(own, "config.yaml"), config);
        children.push(
          spawn(
            "prometheus-alertmanager",
            [
              `--config.file=${join(own, "config.yaml")}`,
              `--storage.path=${own}`,
              `--web.listen-address=127.0.0.1:${port}`,
              "--cluster.listen-address=",
            ],
            { stdio: "ignore" },
          ),
        );
      }
      for (const url of urls)
        await expect
          .poll(async () => (await fetch(`${url}/-/ready`).catch(() => undefined))?.ok, { timeout: 20_000 })
          .toBe(true);
      const send = async (endsAt?: string): Promise<void> => {
        const alerts = Array.from({ length: 500 }, (_, i) => ({
          labels: {
            alertname: "KeymeterKeyOverForecast",
            severity: "warning",
            domain: "spend",
            topic: "forecast",
            scope: "key",
            window: "day",
            id: `key_${i}`,
            team: `team-${i % 4}`,
          },
          startsAt,
          ...(endsAt === undefined ? {} : { endsAt }),
        }));
        for (const url of urls) {
          const answer = await fetch(`${url}/api/v2/alerts`, {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: JSON.stringify(alerts),
          });
          expect(answer.status).toBe(200);
        }
      };
      const startsAt = new Date().toISOString();
      await send();
      await expect.poll(() => mainMessages().length, { timeout: 60_000 }).toBe(4);
      await expect.poll(waiting, { timeout: 60_000 }).toBe(0);
      expect(mainMessages().length).toBe(4);
      expect(mainMessages().filter((text) => text.startsWith("Resolved")).length).toBe(0);
      await send(new Date().toISOString());
      await expect
        .poll(() => mainMessages().filter((text) => text.startsWith("Resolved")).length, { timeout: 60_000 })
        .toBe(4);
      await expect.poll(waiting, { timeout: 60_000 }).toBe(0);
      const replies = slack.posted.filter(
        ({ threadTs, text }) => threadTs !== undefined && text.startsWith("Resolved"),
      );
      expect([mainMessages().length, replies.length]).toEqual([4, 4]);
    }, 240_000);
  },
);
