// A whole Keymeter whose every secret is named by a reference: no program's environment holds one, nor do the files that it
// leaves, its log, its pages of metrics. What programs of others have to read stands in its data folder, and is named here.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import { startFakeSlack } from "../fake/slack.ts";
import { freePorts } from "../free-ports.ts";
import { isTurnOf } from "../skipped.ts";
import { temporaryFolder } from "../start-proxy.ts";

const START = fileURLToPath(new URL("../../start.mjs", import.meta.url));
/** In each secret, and in nothing else. */
const MARK = "Secret0Mark";
/** Prometheus and Alertmanager read these from files. */
const OF_OTHERS = ["metrics-token", "webhook-token"];

/** Each place of a secret, and one that it takes. */
const SECRETS: { readonly [place: string]: string } = {
  metrics_token: `metrics-${MARK}-0123456789`,
  "proxy.admin_token": `admin-${MARK}-0123456789`,
  "proxy.pepper": `pepper-${MARK}-0123456789`,
  "proxy.openai.api_key": `sk-${MARK}-openai-0123456789`,
  "proxy.anthropic.api_key": `sk-ant-${MARK}-0123456789`,
  "proxy.google.api_key": `AIza${MARK}0123456789`,
  "proxy.upstreams.groq.api_key": `gsk_${MARK}0123456789`,
  "collector.openai_admin_key": `sk-admin-${MARK}-0123456789`,
  "collector.anthropic_admin_key": `sk-ant-admin-${MARK}-0123456789`,
  "collector.read_token": `read-${MARK}-0123456789`,
  "alerts.webhook_token": `webhook-${MARK}-0123456789`,
  "alerts.slack_bot_token": `xoxb-${MARK}-0123456789`,
  "alerts.slack_app_token": `xapp-${MARK}-0123456789`,
};

/** The processes that come from one. */
function descendantsOf(pid: number): number[] {
  const parents = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name): [number, number][] => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, "utf8");
        return [[Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1])]];
      } catch {
        return [];
      }
    });
  const below = (of: number): number[] =>
    parents.filter(([, parent]) => parent === of).flatMap(([child]) => [child, ...below(child)]);
  return below(pid);
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
}

describe.skipIf(!existsSync("/proc/self/environ") || !isTurnOf(2, 4, "every secret by a reference"))(
  "with every secret by a reference",
  () => {
    it("no environment, file, log or page of Keymeter's holds one, and all of it works", async () => {
      const provider = await startFakeProvider((arrived, response, request) =>
        json(arrived.url.includes("organization") ? { data: [], has_more: false } : chatAnswer())(
          arrived,
          response,
          request,
        ),
      );
      const slack = await startFakeSlack();
      const secrets = mkdtempSync(join(tmpdir(), "keymeter-secrets-"));
      const dataDir = temporaryFolder();
      const settings: { [name: string]: unknown } = {};
      for (const [place, text] of Object.entries(SECRETS)) {
        writeFileSync(join(secrets, place), `${text}\n`);
        const parts = place.split(".");
        let at = settings;
        for (const part of parts.slice(0, -1)) at = (at[part] ??= {}) as { [name: string]: unknown };
        at[parts.at(-1) ?? ""] = `file:${join(secrets, place)}`;
      }
      Object.assign((settings["proxy"] as { upstreams: { groq: object } }).upstreams.groq, { url: provider.url });
      const file = join(dataDir, "keymeter.yaml");
      // YAML reads JSON.
      writeFileSync(file, JSON.stringify(settings));
      const environment = {
        PATH: process.env["PATH"] ?? "",
        HOME: dataDir,
        KEYMETER_CONFIG: file,
        KEYMETER_DATA_DIR: dataDir,
        KEYMETER_PROMETHEUS: "off",
        KEYMETER_DRAIN_SECONDS: "1",
        KEYMETER_OPENAI_URL: provider.url,
        KEYMETER_ANTHROPIC_URL: provider.url,
        KEYMETER_GOOGLE_URL: provider.url,
        KEYMETER_OPENAI_BILLING_URL: `${provider.url}/v1`,
        KEYMETER_ANTHROPIC_BILLING_URL: provider.url,
        KEYMETER_SLACK_URL: `${slack.url}/api/`,
        SLACK_CHANNEL: "C0123ABCD",
        ...(await freePorts()),
      };
      const run = async (...args: string[]): Promise<string> => {
        const child = spawn(process.execPath, [START, ...args], { env: environment, cwd: dataDir });
        let text = "";
        child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
        child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
        await new Promise((resolve) => child.once("close", resolve));
        return text;
      };
      const up = spawn(process.execPath, [START, "up"], { env: environment, cwd: dataDir });
      let said = "";
      up.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
      up.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
      const ended = new Promise((resolve) => up.once("close", resolve));
      try {
        await expect.poll(() => said, { timeout: 60_000 }).toContain("Ctrl-C stops it");
        said += await run("keys", "create", "--name", "ci");
        const secret = /km_\w+/.exec(said)?.[0] ?? "";
        const answer = await fetch(
          `http://127.0.0.1:${environment["KEYMETER_PORT" as "PATH"]}/openai/v1/chat/completions`,
          {
            method: "POST",
            headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
            body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }),
          },
        );
        expect(answer.status).toBe(200);
        const sentBy = (path: string): string =>
          JSON.stringify(provider.journal.find(({ url }) => url.includes(path))?.headers ?? {});
        expect(sentBy("chat/completions")).toContain(SECRETS["proxy.openai.api_key"]);
        await expect.poll(() => sentBy("organization/costs"), { timeout: 30_000 }).toContain("sk-admin-");
        said += await run("doctor");
        for (const port of ["KEYMETER_OPS_PORT", "KEYMETER_COLLECTOR_PORT", "KEYMETER_ALERTS_PORT"])
          said += await (await fetch(`http://127.0.0.1:${environment[port as "PATH"]}/metrics`)).text();
        expect(said).toContain('keymeter_secret_loaded{secret="alerts.slack_bot_token"} 1');

        const programs = descendantsOf(up.pid ?? 0);
        expect(programs.length).toBeGreaterThanOrEqual(3);
        for (const pid of [up.pid ?? 0, ...programs]) {
          expect(readFileSync(`/proc/${pid}/environ`, "utf8"), `environment of ${pid}`).not.toContain(MARK);
          expect(readFileSync(`/proc/${pid}/cmdline`, "utf8"), `command line of ${pid}`).not.toContain(MARK);
        }
        expect(said).not.toContain(MARK);
      } finally {
        up.kill("SIGTERM");
        await ended;
        await provider.close();
        await slack.close();
      }
      const holding = filesIn(dataDir).filter((path) => readFileSync(path).includes(MARK));
      expect(holding.map((path) => path.slice(dataDir.length + 1)).toSorted()).toEqual(OF_OTHERS);
    }, 240_000);
  },
);
