// The whole stack as a user starts it: `keymeter up` in a folder of its own, with the real Prometheus and Alertmanager
// where they are installed, a provider and a Slack on loopback.
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { createDemoProvider } from "../../command/demo/provider.ts";
import type { FakeSlack } from "../fake/slack.ts";
import { startFakeSlack } from "../fake/slack.ts";
import { freePorts } from "../free-ports.ts";
import { readAllEvents, temporaryFolder } from "../start-proxy.ts";
import { hasPrometheus } from "../tools.ts";

const START = fileURLToPath(new URL("../../start.mjs", import.meta.url));
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const children: ChildProcess[] = [];
const closers: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const child of children.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      const exited = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await exited;
    }
  }
  for (const close of closers.splice(0)) await close();
});

type Environment = { [name: string]: string };

async function environmentIn(dataDir: string, more: Environment = {}): Promise<Environment> {
  return {
    PATH: process.env["PATH"] ?? "",
    HOME: dataDir,
    KEYMETER_DATA_DIR: dataDir,
    ...(await freePorts()),
    KEYMETER_DRAIN_SECONDS: "1",
    ...more,
  };
}

type Running = { readonly child: ChildProcess; output(): string; readonly exit: Promise<number | null> };

function keymeter(args: string[], env: Environment, cwd: string): Running {
  const child = spawn(process.execPath, [START, ...args], { env, cwd, stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
  return { child, output: () => text, exit: new Promise((resolve) => child.once("exit", (code) => resolve(code))) };
}

async function run(args: string[], env: Environment, cwd: string): Promise<{ code: number | null; output: string }> {
  const running = keymeter(args, env, cwd);
  const code = await running.exit;
  return { code, output: running.output() };
}

describe("keymeter up", () => {
  it("without any configuration: starts, says where to point SDKs and what is missing, refuses a second start, drains on Ctrl-C and exits 0", async () => {
    const folder = temporaryFolder();
    const env = await environmentIn(folder, { KEYMETER_PROMETHEUS: "off" });
    const up = keymeter(["up"], env, folder);
    await expect.poll(up.output, { timeout: 60_000 }).toContain("Ctrl-C stops it");
    for (const part of [
      `OPENAI_BASE_URL=http://127.0.0.1:${env["KEYMETER_PORT"]}/openai/v1`,
      "ANTHROPIC_BASE_URL=",
      "GOOGLE_GEMINI_BASE_URL=",
      "usage.db",
      "SLACK_BOT_TOKEN",
      "OPENAI_ADMIN_KEY",
    ])
      expect(up.output()).toContain(part);

    const second = await run(["up"], env, folder);
    expect(second.code).toBe(1);
    expect(second.output).toContain("runs already on the data folder");

    for (const port of ["KEYMETER_OPS_PORT", "KEYMETER_COLLECTOR_PORT", "KEYMETER_ALERTS_PORT"])
      expect((await fetch(`http://127.0.0.1:${env[port]}/readyz`)).status, port).toBe(200);
    // Keys through the running proxy, and a program that dies is started again.
    const created = await run(
      ["keys", "create", "--name", "ci", "--team", "search", "--env", "prod", "--budget", "50/month", "--hard"],
      env,
      folder,
    );
    expect(created.output).toMatch(/km_prod_\w+/);
    expect((await run(["keys", "list"], env, folder)).output).toContain("search");
    expect((await run(["budgets", "list", "--json"], env, folder)).output).toContain('"amountNanoUsd":"50000000000"');
    expect((await run(["keys", "create", "--name", "ci"], env, folder)).output).toContain("exists already");

    up.child.kill("SIGINT");
    expect(await up.exit).toBe(0);
  });

  it.each(["SIGINT", "SIGTERM"] as const)("through npm: %s to npm alone drains and exits 0", async (signal) => {
    const folder = temporaryFolder();
    const env = await environmentIn(folder, { KEYMETER_PROMETHEUS: "off" });
    const child = spawn("npm", ["start"], { env, cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] });
    children.push(child);
    let text = "";
    child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
    const exited = new Promise((resolve) => child.once("exit", resolve));
    await expect.poll(() => text, { timeout: 60_000 }).toContain("Ctrl-C stops it");
    child.kill(signal);
    expect(await exited).toBe(0);
    await expect(fetch(`http://127.0.0.1:${env["KEYMETER_OPS_PORT"]}/healthz`)).rejects.toThrow("fetch failed");
  });

  it("names every wrong setting at once, with its place and what is allowed", async () => {
    const folder = temporaryFolder();
    const env = await environmentIn(folder, {
      KEYMETER_TIMEZONE: "Mars/Olympus",
      KEYMETER_DURABILITY: "wish",
      KEYMETER_PORT: "70000",
      KEYMETER_RECONCILE_CRON: "never",
      KEYMETER_SLACK_URL: "not a url",
      KEYMETER_ADMIN_TOKEN: "short",
      KEYMETER_DRAIN_SECOND: "5",
    });
    const { code, output } = await run(["up"], env, folder);
    expect(code).toBe(1);
    for (const part of [
      "KEYMETER_TIMEZONE",
      "Europe/Berlin",
      "KEYMETER_DURABILITY",
      '"power"|"power_before_send"|"process"',
      "KEYMETER_PORT",
      "0 to 65535",
      "KEYMETER_RECONCILE_CRON",
      "KEYMETER_SLACK_URL",
      "admin-token",
      "KEYMETER_DRAIN_SECOND: there is no setting of this name",
    ])
      expect(output).toContain(part);
  });

  it("names ports that two listeners would fight over", async () => {
    const folder = temporaryFolder();
    const env = await environmentIn(folder);
    const { code, output } = await run(["up"], { ...env, KEYMETER_OPS_PORT: env["KEYMETER_PORT"] ?? "" }, folder);
    expect(code).toBe(1);
    expect(output).toContain(`KEYMETER_OPS_PORT: ${env["KEYMETER_PORT"]} is the port of KEYMETER_PORT too`);
  });

  it.each([
    [["nonsense"], 2, "there is no verb"],
    [["keys", "create"], 2, "--name"],
    [["budgets", "set", "--amount", "50"], 2, "50/month"],
    [["spend", "--by", "mood"], 2, "mood"],
    [["spend"], 1, "nothing has been metered here yet"],
  ])("%j exits with %i and says %s", async (args, expected, part) => {
    const folder = temporaryFolder();
    const { code, output } = await run(args, await environmentIn(folder), folder);
    expect(code).toBe(expected);
    expect(output).toContain(part);
  });
});

describe.skipIf(!hasPrometheus)("the alert chain, with the real Prometheus and Alertmanager", () => {
  it("a cap that refuses becomes one Slack message, updated as it goes on, resolved when it ends", async () => {
    const folder = temporaryFolder();
    const provider = createDemoProvider();
    const slack: FakeSlack = await startFakeSlack();
    closers.push(
      () => provider.close(),
      () => slack.close(),
    );
    const url = `http://127.0.0.1:${await provider.listen()}`;
    const env = await environmentIn(folder, {
      KEYMETER_OPENAI_URL: url,
      OPENAI_API_KEY: "sk-test",
      SLACK_BOT_TOKEN: "xoxb-test",
      SLACK_CHANNEL: "#spend",
      KEYMETER_SLACK_URL: slack.url,
      KEYMETER_SCRAPE_SECONDS: "1",
    });
    const up = keymeter(["up"], env, folder);
    await expect.poll(up.output, { timeout: 60_000 }).toContain("Prometheus  http");
    const { output } = await run(
      ["keys", "create", "--name", "capped", "--team", "search", "--budget", "0.0001/month", "--hard", "--json"],
      env,
      folder,
    );
    const { key } = JSON.parse(output) as { key: string };
    const ask = async (): Promise<number> =>
      (
        await fetch(`http://127.0.0.1:${env["KEYMETER_PORT"]}/openai/v1/chat/completions`, {
          method: "POST",
          headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
          body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 100, messages: [] }),
        })
      ).status;
    const statuses: number[] = [];
    for (let i = 0; i < 10; i++) statuses.push(await ask());
    expect(statuses).toContain(200);
    expect(statuses).toContain(402);

    const capMessages = (): string[] =>
      [...slack.messages.values()].filter((text) => text.includes("refuses requests"));
    await expect.poll(() => capMessages().length, { timeout: 90_000, interval: 500 }).toBe(1);
    expect(capMessages()[0]).toContain("key capped (key_");
    expect(capMessages()[0]).toContain("of $0.0001");
    // The budget goes; with it the alert.
    const budgets = JSON.parse((await run(["budgets", "list", "--json"], env, folder)).output) as { id: string }[];
    await run(["budgets", "remove", budgets[0]?.id ?? ""], env, folder);
    await expect.poll(() => capMessages()[0] ?? "", { timeout: 150_000, interval: 500 }).toContain("Resolved");
    expect(capMessages().length).toBe(1);
    const methods = slack.calls.filter(({ text }) => text.includes("refuses requests")).map(({ method }) => method);
    expect(methods[0]).toBe("chat.postMessage");
    expect(methods.slice(1).every((method) => method === "chat.update")).toBe(true);

    const targets = (await (
      await fetch(`http://127.0.0.1:${env["KEYMETER_PROMETHEUS_PORT"]}/api/v1/targets`)
    ).json()) as { data: { activeTargets: { health: string }[] } };
    expect(targets.data.activeTargets.map(({ health }) => health)).toEqual(["up", "up", "up"]);
    up.child.kill("SIGTERM");
    expect(await up.exit).toBe(0);
    expect((await readAllEvents(folder)).length).toBe(statuses.filter((status) => status === 200).length);
    expect(readFileSync(join(folder, "logs", "proxy.log"), "utf8")).not.toContain(key);
  });
});
