// What coding agents need of the command: settings pointed here and taken back, repository and branch in the headers of
// their requests, a status line, and what a pull request cost.
import { execFileSync } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parse } from "yaml";
import { openUsage } from "../../ledger/open.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { startProxy, temporaryFolder } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

const START = fileURLToPath(new URL("../../start.mjs", import.meta.url));
const KEY = "km_test_0123456789_secret";
const FILES = {
  claude: [".claude/settings.json", '{\n\t"model": "opus",\n\t"env": { "A": "1" }\n}'],
  codex: [".codex/config.toml", 'model = "gpt-5.2"\n\n[tui]\ntheme = "dark"'],
  gemini: [".gemini/.env", "A=1"],
  aider: [".aider.conf.yml", "# mine\ndark-mode: true # at night\nset-env:\n  - OTHER=1\n"],
  continue: [
    ".continue/config.yaml",
    "name: mine # kept\nversion: 0.0.1\nschema: v1\nmodels:\n  - name: Claude\n    provider: anthropic\n    model: claude-haiku-4-5\n  - name: Local\n    provider: ollama\n    model: llama\n",
  ],
  opencode: [".config/opencode/opencode.json", '{"provider":{"openai":{"options":{"timeout":5}}}}'],
} as const;
const NAMES = Object.keys(FILES) as (keyof typeof FILES)[];

let provider: FakeProvider;
let running: RunningProxy;
beforeAll(async () => {
  provider = await startFakeProvider(
    json({
      id: "msg_1",
      type: "message",
      role: "assistant",
      model: "claude-haiku-4-5",
      content: [],
      usage: { input_tokens: 1_000_000, output_tokens: 0 },
    }),
  );
  running = await startProxy(provider.url);
});
afterAll(async () => {
  await running.stop();
  await provider.close();
});

const keymeter = (environment: { [name: string]: string }, ...args: string[]) =>
  runKeymeter({ ...running, environment }, ...args);

async function ask(secret: string, headers: { [name: string]: string } = {}): Promise<void> {
  const answer = await fetch(`${running.url}/anthropic/v1/messages`, {
    method: "POST",
    headers: { "content-type": "application/json", "x-api-key": secret, "anthropic-version": "2023-06-01", ...headers },
    body: JSON.stringify({ model: "claude-haiku-4-5", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }),
  });
  await answer.text();
  expect(answer.status).toBe(200);
}

describe("keymeter connect", () => {
  it.each(NAMES)("%s: keeps what is there, and disconnect brings it back byte for byte", async (name) => {
    const [path, text] = FILES[name];
    const home = temporaryFolder();
    const file = join(home, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text, { mode: 0o644 });
    const connected = await keymeter({ HOME: home }, "connect", name, "--key", KEY, "--url", "http://127.0.0.1:4999/");
    expect(connected.code, connected.text).toBe(0);
    expect(connected.text).toContain("While Keymeter is down its requests fail");
    const now = readFileSync(file, "utf8");
    expect(now).toContain("http://127.0.0.1:4999/");
    expect(now).toContain(KEY);
    expect(statSync(file).mode & 0o077).toBe(0);
    for (const kept of text.match(/\w{4,}/g) ?? []) expect(now).toContain(kept);
    expect(await keymeter({ HOME: home }, "connect", name, "--key", KEY)).toMatchObject({ code: 2 });
    expect(await keymeter({ HOME: home }, "disconnect", name)).toMatchObject({ code: 0 });
    expect(readFileSync(file, "utf8")).toBe(text);
    expect(statSync(file).mode & 0o777).toBe(0o644);
    expect(await keymeter({ HOME: home }, "disconnect", name)).toMatchObject({ code: 2 });
  });

  it("of aider and Continue is what each reads, and leaves models of others alone", async () => {
    const home = temporaryFolder();
    mkdirSync(join(home, ".continue"));
    writeFileSync(join(home, ".continue/config.yaml"), FILES.continue[1]);
    for (const name of ["aider", "continue"] as const)
      expect(await keymeter({ HOME: home }, "connect", name, "--key", KEY)).toMatchObject({ code: 0 });
    expect(parse(readFileSync(join(home, ".aider.conf.yml"), "utf8"))).toEqual({
      "openai-api-base": "http://127.0.0.1:4000/openai/v1",
      "openai-api-key": KEY,
      "anthropic-api-key": KEY,
      "set-env": ["ANTHROPIC_BASE_URL=http://127.0.0.1:4000/anthropic"],
    });
    const { models } = parse(readFileSync(join(home, ".continue/config.yaml"), "utf8")) as { models: object[] };
    expect(models).toEqual([
      {
        name: "Claude",
        provider: "anthropic",
        model: "claude-haiku-4-5",
        apiBase: "http://127.0.0.1:4000/anthropic/v1/",
        apiKey: KEY,
      },
      { name: "Local", provider: "ollama", model: "llama" },
    ]);
    const empty = await keymeter({ HOME: temporaryFolder() }, "connect", "continue", "--key", KEY);
    expect([empty.code, empty.text]).toEqual([2, expect.stringContaining("add one")]);
    const cursor = await keymeter(
      { HOME: home },
      "connect",
      "cursor",
      "--key",
      KEY,
      "--url",
      "https://km.example.test",
    );
    expect([cursor.code, cursor.text]).toEqual([0, expect.stringContaining("https://km.example.test/openai/v1")]);
  });

  it("makes a file that is not there, and takes it away again; one that was changed since is left alone", async () => {
    const home = temporaryFolder();
    const file = join(home, FILES.claude[0]);
    expect(await keymeter({ HOME: home }, "connect", "claude", "--key", KEY, "--login")).toMatchObject({ code: 0 });
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual({
      env: {
        ANTHROPIC_BASE_URL: "http://127.0.0.1:4000/anthropic",
        ANTHROPIC_CUSTOM_HEADERS: `x-keymeter-key: ${KEY}`,
      },
    });
    writeFileSync(file, `${readFileSync(file, "utf8")}\n`);
    const left = await keymeter({ HOME: home }, "disconnect", "claude");
    expect([left.code, left.text]).toEqual([2, expect.stringContaining("changed since")]);
    writeFileSync(file, readFileSync(file, "utf8").slice(0, -1));
    expect(await keymeter({ HOME: home }, "disconnect", "claude")).toMatchObject({ code: 0 });
    expect(existsSync(file)).toBe(false);
  });

  it("keeps headers of its own, takes variables away that would switch the sign-in off, and follows a link", async () => {
    const home = temporaryFolder();
    const real = join(home, "dotfiles.json");
    const text = '{"env":{"ANTHROPIC_API_KEY":"sk-mine","ANTHROPIC_CUSTOM_HEADERS":"x-a: 1"}}';
    writeFileSync(real, text);
    mkdirSync(join(home, ".claude"));
    symlinkSync(real, join(home, FILES.claude[0]));
    expect(await keymeter({ HOME: home }, "connect", "claude", "--key", KEY, "--login")).toMatchObject({ code: 0 });
    expect(JSON.parse(readFileSync(real, "utf8"))).toEqual({
      env: {
        ANTHROPIC_BASE_URL: "http://127.0.0.1:4000/anthropic",
        ANTHROPIC_CUSTOM_HEADERS: `x-a: 1\nx-keymeter-key: ${KEY}`,
      },
    });
    expect(await keymeter({ HOME: home }, "disconnect", "claude")).toMatchObject({ code: 0 });
    expect(lstatSync(join(home, FILES.claude[0])).isSymbolicLink()).toBe(true);
    expect(readFileSync(real, "utf8")).toBe(text);
  });

  it.each([
    [["claude"], "which key?"],
    [["claud", "--key", KEY], "did you mean claude"],
    [["codex", "--key", KEY, "--login"], "--login is for claude"],
    [["claude", "--key", KEY, "--url", "here"], "is no URL"],
  ])("%j says what is wrong", async (args, words) => {
    const { code, text } = await keymeter({ HOME: temporaryFolder() }, "connect", ...args);
    expect([code, text]).toEqual([2, expect.stringContaining(words)]);
  });

  it("writes nothing where something of the client's own is in the way", async () => {
    const home = temporaryFolder();
    for (const [path, text] of [
      [FILES.claude[0], "{ // mine\n}"],
      [FILES.codex[0], 'model_provider = "other"'],
      [FILES.gemini[0], "export GEMINI_API_KEY=mine"],
    ] as const) {
      mkdirSync(dirname(join(home, path)), { recursive: true });
      writeFileSync(join(home, path), text);
      const name = NAMES.find((one) => FILES[one][0] === path) ?? "";
      expect(await keymeter({ HOME: home }, "connect", name, "--key", KEY)).toMatchObject({ code: 2 });
      expect(readFileSync(join(home, path), "utf8")).toBe(text);
    }
  });
});

describe("keymeter run", () => {
  it("puts repository, branch and ticket into the headers of what it starts, and ends as that ends", () => {
    const folder = temporaryFolder();
    const git = (...args: string[]): string => execFileSync("git", args, { cwd: folder, encoding: "utf8" });
    git("init", "-q", "-b", "feature/ABC-12-größer");
    git("remote", "add", "origin", "https://somebody:secret@git.example.com/acme/search.git");
    const script =
      "console.log(process.env.ANTHROPIC_CUSTOM_HEADERS); console.log(process.env.KEYMETER_TICKET); process.exit(7)";
    let [text, status] = ["", 0];
    try {
      execFileSync(process.execPath, [START, "run", process.execPath, "-e", script], {
        cwd: folder,
        encoding: "utf8",
        env: { PATH: process.env["PATH"] ?? "", ANTHROPIC_CUSTOM_HEADERS: "x-mine: 1" },
      });
    } catch (error) {
      ({ stdout: text, status } = error as { stdout: string; status: number });
    }
    expect(status).toBe(7);
    expect(text.trim().split("\n")).toEqual([
      "x-mine: 1",
      "x-keymeter-repo: acme/search",
      "x-keymeter-branch: feature/ABC-12-gr__er",
      "x-keymeter-ticket: ABC-12",
      "ABC-12",
    ]);
  });
});

describe("what an agent says of itself", () => {
  it.each([
    [
      { "user-agent": "claude-cli/2.1.332 (external, cli)", "x-claude-code-session-id": "8442eaff-9a89" },
      "claude-code",
      "8442eaff-9a89",
    ],
    [
      { "user-agent": "codex_exec/0.171.0 (Debian 12.0.0; x86_64)", "session-id": "01a2298a-0998" },
      "codex",
      "01a2298a-0998",
    ],
    [{ "user-agent": "GeminiCLI-tui/0.61.0/gemini-2.5-flash (linux; x64; terminal)" }, "gemini-cli", undefined],
    [
      { "user-agent": "opencode/1.18.33 ai-sdk/provider-utils/4.0.46", "x-session-id": "ses_dd67" },
      "opencode",
      "ses_dd67",
    ],
    [{ "user-agent": "python-requests/2.31" }, undefined, undefined],
    [
      { "user-agent": "claude-cli/2", "x-keymeter-client": "mine", "x-keymeter-session": "s1", "session-id": "s2222" },
      "mine",
      "s1",
    ],
  ])("%j is client %s, session %s", async (headers, client, session) => {
    const { secret } = await running.createKey();
    await ask(secret, headers);
    const tags = (await running.events()).at(-1)?.tags ?? {};
    expect([tags["client"], tags["session"]]).toEqual([client, session]);
  });

  it("breaks spend down, and a pull request's part of it adds up", async () => {
    const { secret } = await running.createKey({ userName: "anna|<b>" });
    const of = (branch: string) => ({
      "user-agent": "claude-cli/2.1",
      "x-keymeter-repo": "acme/search",
      "x-keymeter-branch": branch,
    });
    await ask(secret, of("one"));
    await ask(secret, of("one"));
    await ask(secret, of("two"));
    const { text } = await keymeter({}, "spend", "--by", "repo,branch", "--json");
    const { rows, totalNanoUsd } = JSON.parse(text) as {
      rows: { "tag:branch": string; costNanoUsd: string }[];
      totalNanoUsd: string;
    };
    const books = await openUsage(running.place);
    const [all] = books ? await readSpend(books, [], "2020-01-01", "2100-01-01") : [];
    await books?.close();
    expect([totalNanoUsd, rows.reduce((sum, row) => sum + BigInt(row.costNanoUsd), 0n)]).toEqual([
      String(all?.costNanoUsd),
      all?.costNanoUsd,
    ]);
    const report = await keymeter({}, "report", "pr", "--repo", "acme/search", "--branch", "one");
    expect(report.text).toContain("**AI spend of acme/search, branch one: $2.00**");
    expect(report.text).toContain("| anna\\|\\<b\\> | claude-code | claude-haiku-4-5 | 2 | 2000000 | 0 | 0 | $2.00 |");
    expect((await keymeter({}, "report", "pr", "--repo", "acme/search", "--branch", "none")).text).toContain(
      "No AI spend was metered",
    );
  });
});

describe("keymeter status", () => {
  it("is one line, also where nobody answers", async () => {
    const { id, secret } = await running.createKey();
    await running.setBudget({ scope: { keyId: id }, amountNanoUsd: 5_000_000_000n });
    await ask(secret);
    const here = { ANTHROPIC_BASE_URL: `${running.url}/anthropic`, ANTHROPIC_AUTH_TOKEN: secret };
    expect(await keymeter(here, "status")).toEqual({
      code: 0,
      text: "$1.00 today, $1.00 this month, $4.00 left (month)\n",
    });
    const beside = { ANTHROPIC_BASE_URL: running.url, ANTHROPIC_CUSTOM_HEADERS: `x-a: 1\nx-keymeter-key: ${secret}` };
    expect((await keymeter(beside, "status")).text).toContain("$1.00 today");
    expect(await keymeter({ ...here, KEYMETER_URL: "http://127.0.0.1:9" }, "status")).toEqual({
      code: 0,
      text: "Keymeter: http://127.0.0.1:9 does not answer; KEYMETER_URL says where else Keymeter is\n",
    });
    expect(await keymeter({}, "status")).toMatchObject({ code: 2 });
  });
});
