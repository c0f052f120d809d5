// A whole Keymeter whose every secret is named by a reference: no program's environment holds one, nor do the files that it
// leaves, its log, its pages of metrics. What programs of others have to read stands in its data folder, and is named here.
import { spawn } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { ALERTS_SETTINGS } from "../../alerts/config.ts";
import { COLLECTOR_SETTINGS } from "../../collector/config.ts";
import { PROXY_SETTINGS } from "../../proxy/config.ts";
import { settingsIn } from "../../service/settings.ts";
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
  "collector.sign_in.client_secret": `sign-in-${MARK}-0123456789`,
  "collector.telemetry.headers": `x-api-key=otlp-${MARK}-0123456789`,
  "collector.cloudwatch.secret_access_key": `cloudwatch-${MARK}-0123456789`,
  "collector.read_token": `read-${MARK}-0123456789`,
  "alerts.webhook_token": `webhook-${MARK}-0123456789`,
  "alerts.slack_bot_token": `xoxb-${MARK}-0123456789`,
  "alerts.slack_app_token": `xapp-${MARK}-0123456789`,
  "proxy.vertex.credentials": serviceAccount(),
  "collector.google.credentials": serviceAccount(),
  "collector.rotation.openai.admin_key": `sk-admin-maker-${MARK}-0123456789`,
  "secrets.github.token": `ghp_${MARK}-0123456789`,
  "secrets.google.credentials": serviceAccount(),
  "secrets.vault.token": `hvs-${MARK}-0123456789`,
  "secrets.vault.secret_id": `vault-${MARK}-0123456789`,
  "secrets.onepassword.token": `connect-${MARK}-0123456789`,
  "secrets.onepassword.service_account_token": `ops_${MARK}-0123456789`,
  "secrets.aws.secret_access_key": `aws-${MARK}-0123456789`,
  "secrets.azure.client_secret": `azure-${MARK}-0123456789`,
};
/** What else the settings need. */
const BESIDE: { readonly [place: string]: unknown } = {
  "collector.google.table": "my-project.billing.gcp_billing_export_v1_01AB23_456789_CDEF01",
  "collector.sign_in.issuer": "http://127.0.0.1:9",
  "collector.sign_in.client_id": "keymeter",
  "collector.sign_in.roles": { admin: ["platform"] },
  "collector.telemetry.endpoint": "http://127.0.0.1:9",
  "collector.cloudwatch.region": "eu-central-1",
  "collector.cloudwatch.by": "put",
  "collector.cloudwatch.access_key_id": "AKIAEXAMPLE",
  "collector.cloudwatch.url": "http://127.0.0.1:9",
  "collector.pages_url": "http://127.0.0.1:4002",
  "secrets.vault.address": "http://127.0.0.1:9",
};
/** Receivers beside Slack, which are rows of one setting; none is there, and what each says of that goes into the journal. */
const RECEIVERS: {
  readonly [name: string]: { readonly beside: object; readonly secret: { readonly [part: string]: string } };
} = {
  telegram: {
    beside: { kind: "telegram", chat: "-1", url: "http://127.0.0.1:9" },
    secret: { token: `1:telegram-${MARK}` },
  },
  discord: {
    beside: { kind: "discord", channel: "123456789012345678", url: "http://127.0.0.1:9" },
    secret: { token: `discord-${MARK}` },
  },
  webhook: { beside: { kind: "webhook", url: "http://127.0.0.1:9" }, secret: { secret: `webhook-${MARK}` } },
  teams: { beside: { kind: "teams" }, secret: { url: `http://127.0.0.1:9/${MARK}` } },
  email: {
    beside: { kind: "email", from: "a@example.com", to: ["b@example.com"] },
    secret: { smtp: `smtp://a:${MARK}@127.0.0.1:9` },
  },
};
/** Not here: books in Postgres, and a key that signs in place of provider keys; a client's own secret, which its settings name. */
const ELSEWHERE = ["ledger.url", "proxy.keyless.signing_key"];

/** A key file of Google's. */
function serviceAccount(): string {
  const pair = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const key = pair.privateKey.export({ type: "pkcs8", format: "pem" });
  return JSON.stringify({ type: "service_account", client_email: "a@b.test", private_key: key, of: MARK });
}

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

it("every setting that may hold a secret is tried", () => {
  const all = [PROXY_SETTINGS, COLLECTOR_SETTINGS, ALERTS_SETTINGS].flatMap((tree) => Object.values(settingsIn(tree)));
  const places = new Set(all.flatMap(({ place, isSecret, mayRefer }) => (isSecret || mayRefer ? [place] : [])));
  expect([...places].filter((place) => !(place in SECRETS)).toSorted()).toEqual(ELSEWHERE.toSorted());
});

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
      for (const [place, text] of Object.entries({ ...SECRETS, ...BESIDE })) {
        const secret = SECRETS[place];
        if (secret !== undefined) writeFileSync(join(secrets, place), `${secret}\n`);
        const parts = place.split(".");
        let at = settings;
        for (const part of parts.slice(0, -1)) at = (at[part] ??= {}) as { [name: string]: unknown };
        at[parts.at(-1) ?? ""] = secret !== undefined ? `file:${join(secrets, place)}` : text;
      }
      const rotated = { secret: `file:${join(secrets, "proxy.openai.api_key")}`, project: "p", service_account: "s" };
      Object.assign((settings["collector"] as { rotation: { openai: object } }).rotation.openai, rotated);
      Object.assign((settings["proxy"] as { upstreams: { groq: object } }).upstreams.groq, { url: provider.url });
      const receivers = Object.entries(RECEIVERS).map(([name, row]) => {
        const [part, secret] = Object.entries(row.secret)[0] ?? ["", ""];
        writeFileSync(join(secrets, name), secret);
        return [name, { ...row.beside, [part]: `file:${join(secrets, name)}` }];
      });
      Object.assign(settings["alerts"] as object, { receivers: Object.fromEntries(receivers) as object });
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
        for (const [name, { secret }] of Object.entries(RECEIVERS))
          expect(said).toContain(
            `keymeter_secret_loaded{secret="alerts.receivers.${name}.${Object.keys(secret)[0]}"} 1`,
          );

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
