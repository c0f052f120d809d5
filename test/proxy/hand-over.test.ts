// An upgrade on one machine under traffic: a second proxy listens beside the first, which then ends. No request is refused or
// broken, each is booked once, and streams that were open end in the first one.
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { request as httpRequest, Agent } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { isAwaited } from "../../proxy/beside.ts";
import { issueVirtualKey, createDigest } from "../../ledger/usage/keys.ts";
import { openUsage } from "../../ledger/open.ts";
import { walkEvents } from "../../ledger/usage/events.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import { freePorts } from "../free-ports.ts";
import { IS_CI } from "../seed.ts";
import { isTurnOf } from "../skipped.ts";
import { temporaryFolder } from "../start-proxy.ts";

const ENTRY = fileURLToPath(new URL("../../keymeter.ts", import.meta.url));
const PEPPER = "pepper-of-this-test-0123456789";
const CLIENTS = 8;
const HANDOVERS = IS_CI ? 4 : 1;

type Running = { readonly child: ChildProcess; readonly ready: Promise<void>; readonly said: () => string };

function startProgram(environment: { readonly [name: string]: string }): Running {
  const child = spawn(process.execPath, [ENTRY, "proxy"], {
    env: { PATH: process.env["PATH"] ?? "", ...environment },
    stdio: ["ignore", "ignore", "pipe", "ipc"],
  });
  let text = "";
  child.stderr?.on("data", (chunk: Buffer) => (text += chunk.toString()));
  const ready = new Promise<void>((resolve, reject) => {
    child.on("message", (message: { readonly type?: string }) => message.type === "ready" && resolve());
    child.once("exit", (code) => reject(new Error(`it ended with ${code}: ${text}`)));
  });
  ready.catch(() => undefined);
  return { child, ready, said: () => text };
}

const ended = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode === null) await new Promise((resolve) => child.once("exit", resolve));
};

describe("a proxy that takes over", () => {
  it("refuses and breaks nothing under traffic, with new connections and with kept ones, but for what the system had taken in that very moment; each request is booked once", async () => {
    const folder = temporaryFolder();
    const writer = await openWriter({
      path: join(folder, "usage.db"),
      durability: "process",
      zone: "UTC",
      capMode: "enforce",
    });
    const { key, secret } = issueVirtualKey({ name: "anna" }, Date.now());
    await writer.change({ type: "createKey", key, digest: createDigest(PEPPER)(secret) }, "test");
    await writer.close();
    // A stream of two seconds, and short answers.
    const provider = await startFakeProvider((arrived, response, request) => {
      if (!arrived.body.includes('"stream":true')) return json(chatAnswer())(arrived, response, request);
      response.writeHead(200, { "content-type": "text/event-stream" });
      let i = 0;
      const timer = setInterval(() => {
        i += 1;
        response.write(
          `data: {"id":"c","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[{"index":0,"delta":{"content":"w${i}"}}]}\n\n`,
        );
        if (i < 20) return;
        clearInterval(timer);
        response.write(
          'data: {"id":"c","object":"chat.completion.chunk","model":"gpt-4o-mini","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":20,"total_tokens":25}}\n\n',
        );
        response.end("data: [DONE]\n\n");
      }, 100);
      return undefined;
    });
    const environment = {
      ...(await freePorts()),
      KEYMETER_DATA_DIR: folder,
      KEYMETER_PEPPER: PEPPER,
      KEYMETER_OPENAI_URL: provider.url,
      OPENAI_API_KEY: "sk-proj-provider-credential-openai",
      KEYMETER_DRAIN_SECONDS: "20",
    } as { [name: string]: string };
    const port = Number(environment["KEYMETER_PORT"]);
    const wrong: string[] = [];
    let answered = 0;
    let resets = 0;
    const ask = (agent: Agent, body: object): Promise<string> =>
      new Promise((resolve) => {
        const asked = httpRequest(
          {
            agent,
            port,
            host: "127.0.0.1",
            path: "/openai/v1/chat/completions",
            method: "POST",
            headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
          },
          (response) => {
            let text = "";
            response.on("data", (chunk: Buffer) => (text += chunk.toString()));
            response.on("error", (error) => resolve(`broken: ${error.message}`));
            response.on("end", () => resolve(response.statusCode === 200 ? text : `${response.statusCode}: ${text}`));
          },
        );
        asked.on("error", (error) => {
          // What the system had taken in and nobody had accepted when the old one closed its port: a new connection, and
          // no byte of it was read. Clients ask again; this one too, and counts it.
          if (asked.reusedSocket || !("code" in error) || error.code !== "ECONNRESET")
            return resolve(`refused: ${error.message}`);
          resets += 1;
          resolve(ask(agent, body));
        });
        asked.end(
          JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "hi" }], ...body }),
        );
      });
    const check = (text: string, part: string): void => {
      answered += 1;
      if (!text.includes(part)) wrong.push(text.slice(0, 200));
    };
    let running = startProgram(environment);
    await running.ready;
    // Another one, without being asked to take over, is told that the port is taken.
    const other = startProgram({ ...environment, KEYMETER_DATA_DIR: temporaryFolder() });
    await expect(other.ready).rejects.toThrow(`port ${port} on 127.0.0.1 is taken`);

    const life = { isOver: false };
    const clients = Array.from({ length: CLIENTS }, async (_, i) => {
      const agent = new Agent({ keepAlive: i % 2 === 0, maxSockets: 1 });
      while (!life.isOver) {
        check(await ask(agent, {}), '"total_tokens"');
        await sleep(5);
      }
      agent.destroy();
    });
    for (let i = 0; i < HANDOVERS; i++) {
      await sleep(300);
      const agent = new Agent({ keepAlive: false });
      const stream = ask(agent, { stream: true });
      await sleep(200);
      const next = startProgram({ ...environment, KEYMETER_TAKE_OVER: "on" });
      await expect.poll(() => isAwaited(folder), { timeout: 30_000 }).toBe(true);
      running.child.kill("SIGTERM");
      await ended(running.child);
      await next.ready;
      check(await stream, "[DONE]");
      running = next;
    }
    await sleep(300);
    life.isOver = true;
    await Promise.all(clients);
    // Who sends half a request is waited for as long as by a proxy that began alone.
    if (IS_CI) {
      const slow = connect(port, "127.0.0.1");
      slow.on("error", () => undefined).resume();
      slow.write("POST /openai/v1/chat/completions HTTP/1.1\r\nhost: x\r\n");
      await expect.poll(() => slow.closed, { timeout: 20_000 }).toBe(true);
    }
    running.child.kill("SIGTERM");
    await ended(running.child);
    expect(wrong).toEqual([]);
    expect(answered).toBeGreaterThan(100);
    console.log(`${answered} answered in ${HANDOVERS} upgrades, ${resets} connections reset`);
    expect(resets).toBeLessThanOrEqual(Math.max(5, answered / 100));
    const usage = await openUsage(folder);
    if (!usage) throw new Error("no books");
    const outcomes: string[] = [];
    for await (const { outcome } of walkEvents(usage)) outcomes.push(outcome);
    await usage.close();
    expect(new Set(outcomes)).toEqual(new Set(["complete"]));
    expect(outcomes.length).toBe(answered);
    expect(provider.journal.length).toBe(answered);
    expect(isAwaited(folder)).toBe(false);
    await provider.close();
  }, 180_000);
});

/** Everything under one supervisor: costly, so with full counts only. */
describe.skipIf(!isTurnOf(3, 8, "a whole Keymeter that takes over"))("a Keymeter that takes over", () => {
  it("has the folder and all ports when the other one has ended, and answers all the time", async () => {
    const folder = temporaryFolder();
    const provider = await startFakeProvider(json(chatAnswer()));
    const environment = {
      PATH: process.env["PATH"] ?? "",
      HOME: folder,
      ...(await freePorts()),
      KEYMETER_DATA_DIR: folder,
      KEYMETER_PROMETHEUS: "off",
      KEYMETER_OPENAI_URL: provider.url,
      OPENAI_API_KEY: "sk-proj-provider-credential-openai",
    };
    const up = (more: object) => {
      const child = spawn(process.execPath, [ENTRY, "up"], { env: { ...environment, ...more }, cwd: folder });
      const said = { text: "" };
      for (const stream of [child.stdout, child.stderr])
        stream.on("data", (chunk: Buffer) => (said.text += chunk.toString()));
      return { child, said };
    };
    const first = up({});
    await expect.poll(() => first.said.text, { timeout: 60_000 }).toContain("Ctrl-C stops it");
    const made = spawnSync(process.execPath, [ENTRY, "keys", "create", "--name", "ci"], {
      env: environment,
      cwd: folder,
      encoding: "utf8",
    });
    const secret = /km_\w+/.exec(made.stdout)?.[0] ?? "";
    const ask = async (): Promise<number> => {
      const answer = await fetch(
        `http://127.0.0.1:${(environment as { [name: string]: string })["KEYMETER_PORT"]}/openai/v1/chat/completions`,
        {
          method: "POST",
          headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, connection: "close" },
          body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }),
        },
      );
      await answer.text();
      return answer.status;
    };
    expect(await ask()).toBe(200);
    // One that is not asked to take over ends with a sentence.
    const refused = up({});
    await new Promise((resolve) => refused.child.once("exit", resolve));
    expect(refused.said.text).toContain("Keymeter runs already on the data folder");

    const second = up({ KEYMETER_TAKE_OVER: "on" });
    await expect.poll(() => isAwaited(folder), { timeout: 60_000 }).toBe(true);
    const asking = { isOver: false };
    const statuses: number[] = [];
    const traffic = (async () => {
      while (!asking.isOver) statuses.push(await ask());
    })();
    first.child.kill("SIGTERM");
    await new Promise((resolve) => first.child.once("exit", resolve));
    await expect.poll(() => second.said.text, { timeout: 60_000 }).toContain("Ctrl-C stops it");
    asking.isOver = true;
    await traffic;
    expect(statuses.length).toBeGreaterThan(5);
    expect(new Set(statuses)).toEqual(new Set([200]));
    expect(first.child.exitCode).toBe(0);
    second.child.kill("SIGTERM");
    await new Promise((resolve) => second.child.once("exit", resolve));
    expect(second.child.exitCode).toBe(0);
    await provider.close();
  }, 180_000);
});
