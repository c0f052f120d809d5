// keymeter doctor against what stands on loopback: what works, what is broken, and how it is to be mended.
import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openToWrite } from "../../ledger/open.ts";
import { openForReading } from "../../ledger/sqlite.ts";
import { freePorts } from "../free-ports.ts";
import type { FakeSlack } from "../fake/slack.ts";
import { startFakeSlack } from "../fake/slack.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

type Finding = { what: string; state: string; said: string; mend?: string };

let slack: FakeSlack;
let proxy: RunningProxy;
let answer: { status: number; body: string; date?: string };
const upstream = createServer((_request, response) =>
  response.writeHead(answer.status, answer.date === undefined ? {} : { date: answer.date }).end(answer.body),
);

beforeEach(async () => {
  slack = await startFakeSlack();
  answer = { status: 200, body: "{}" };
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  proxy = await startProxy(`http://127.0.0.1:${(upstream.address() as AddressInfo).port}`);
});
afterEach(async () => {
  await proxy.stop();
  await slack.close();
  upstream.closeAllConnections();
  await new Promise((resolve) => upstream.close(resolve));
});

async function doctor(...args: string[]): Promise<{ code: number | null; findings: Finding[] }> {
  const environment = {
    ...(await freePorts()),
    KEYMETER_OPS_PORT: new URL(proxy.opsUrl).port,
    KEYMETER_OPENAI_URL: `http://127.0.0.1:${(upstream.address() as AddressInfo).port}`,
    OPENAI_API_KEY: "sk-test",
    SLACK_BOT_TOKEN: "xoxb-test",
    SLACK_CHANNEL: "C0TEST",
    KEYMETER_SLACK_URL: slack.url,
  };
  const { code, text } = await runKeymeter({ ...proxy, environment }, "doctor", "--json", ...args);
  return { code, findings: (JSON.parse(text) as { findings: Finding[] }).findings };
}
const of = (findings: readonly Finding[], what: string): Finding | undefined =>
  findings.find((one) => one.what === what);

describe("keymeter doctor", () => {
  it("says what works, what is not set up, and what does not answer", async () => {
    const { code, findings } = await doctor();
    expect(of(findings, "OpenAI")).toMatchObject({ state: "ok" });
    // The running proxy holds a key of Anthropic's, the shell none: the proxy is asked.
    expect(of(findings, "Anthropic")).toMatchObject({ state: "ok" });
    expect(of(findings, "usage.db")).toMatchObject({ state: "ok" });
    expect(of(findings, "proxy")).toMatchObject({ state: "ok" });
    expect(of(findings, "disk")?.said).toContain("GiB free");
    expect(of(findings, "Slack")).toMatchObject({ state: "ok" });
    expect(of(findings, "Prometheus")).toMatchObject({ state: "off" });
    expect(of(findings, "collector")).toMatchObject({
      state: "fail",
      mend: expect.stringContaining("KEYMETER_COLLECTOR_PORT"),
    });
    expect(code).toBe(1);
    expect(JSON.stringify(findings)).not.toMatch(/sk-test|xoxb-test/);
  });

  it.each([
    [401, "{}", "wrong or was revoked", "OPENAI_API_KEY"],
    [403, "{}", "may not do this", "restrictions"],
    [429, '{"error":{"code":"rate_limit_exceeded"}}', "too many requests", "rate limit"],
    [429, '{"error":{"code":"insufficient_quota"}}', "no credit", "top up"],
    [404, "{}", "no such API", "without /v1"],
    [503, "{}", "503", "status page"],
  ])("tells an answer of %i (%s) with its mending", async (status, body, said, mend) => {
    answer = { status, body };
    const found = of((await doctor()).findings, "OpenAI");
    expect(found?.said).toContain(said);
    expect(found?.mend).toContain(mend);
  });

  it("says that the bills' book is damaged where it is, and all the rest", async () => {
    const path = join(proxy.dataDir, "billing.db");
    await (await openToWrite(proxy.dataDir, "billing", "process")).close();
    const raw = openForReading(path);
    const page = Number(raw?.prepare("SELECT rootpage FROM sqlite_master WHERE name = 'imports'").pluck().get());
    const size = Number(raw?.pragma("page_size", { simple: true }));
    raw?.close();
    const file = openSync(path, "r+");
    writeSync(file, Buffer.alloc(size, 0xff), 0, size, (page - 1) * size);
    closeSync(file);
    const { code, findings } = await doctor();
    expect([code, of(findings, "billing.db")?.state, of(findings, "usage.db")?.state]).toEqual([1, "fail", "ok"]);
    rmSync(path);
  });

  it("sees a clock that is off", async () => {
    answer = { status: 200, body: "{}", date: new Date(Date.now() - 10 * 60_000).toUTCString() };
    expect(of((await doctor()).findings, "clock")).toMatchObject({
      state: "fail",
      said: expect.stringMatching(/60\d s/),
    });
  });
});

describe("keymeter doctor slack", () => {
  it("sends a test message", async () => {
    const { code, findings } = await doctor("slack");
    expect(code).toBe(0);
    expect(findings.every(({ state }) => state === "ok")).toBe(true);
    expect(slack.posted.map(({ channel, text }) => `${channel} ${text}`)).toEqual([
      "C0TEST A test of Keymeter: alerts will come here.",
    ]);
  });

  it.each([
    ["a token that is wrong", () => (slack.outage = { error: "invalid_auth" }), "SLACK_BOT_TOKEN"],
    ["a scope that is missing", () => (slack.scopes = ["chat:write", "channels:history"]), "lacks files:write"],
    ["a channel without the bot", () => slack.closed.set("C0TEST", "not_in_channel"), "/invite"],
  ])("names %s", async (_name, breakIt, said) => {
    breakIt();
    const { code, findings } = await doctor("slack");
    expect(code).toBe(1);
    expect(findings.find(({ state }) => state === "fail")?.said).toContain(said);
  });
});
