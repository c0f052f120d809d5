// Several credentials of one provider: whose keys are swapped for which, what the books say of who paid, and what a request
// cannot change of it.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { environmentOf } from "../../command/settings.ts";
import { openUsage } from "../../ledger/open.ts";
import { readMeteredCredentials } from "../../ledger/usage/credentials.ts";
import { loadProxyConfig } from "../../proxy/config.ts";
import { checkCredentials } from "../../proxy/check.ts";
import { json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { answerSlowly, slowChat } from "../fake/slow-chat.ts";
import { startProxy, temporaryFolder, writeSettings } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

const PRODUCTION = "sk-production-0123456789";
const STAGING = "sk-staging-0123456789";
const SEARCH = "sk-search-staging-0123456789";
const GROQ = "gsk-of-research-0123456789";

describe("several credentials of a provider", () => {
  let provider: FakeProvider;
  let running: RunningProxy;
  let folder: string;
  let asked = 0;
  beforeEach(async () => {
    provider = await startFakeProvider(answerSlowly);
    folder = temporaryFolder();
    writeFileSync(join(folder, "staging"), STAGING);
    const config = writeSettings(`
proxy:
  openai:
    credentials:
      production: { api_key: ${PRODUCTION}, env: [production, canary] }
      staging: { api_key: "file:${join(folder, "staging")}", env: staging }
      search-staging: { api_key_env: SEARCH_STAGING_KEY, env: staging, team: search }
  upstreams:
    groq:
      url: ${provider.url}
      credentials: { research: { api_key: ${GROQ}, project: research } }
`);
    running = await startProxy(provider.url, {
      KEYMETER_CONFIG: config,
      OPENAI_API_KEY: "",
      SEARCH_STAGING_KEY: SEARCH,
      KEYMETER_SECRETS_REFRESH: "1",
    });
  });
  afterEach(async () => {
    await running.stop();
    await provider.close();
  });

  const ask = async (
    secret: string,
    more: { path?: string; stream?: boolean; headers?: { [name: string]: string } } = {},
  ): Promise<{ status: number; text: string }> => {
    const answer = await fetch(`${running.url}${more.path ?? "/openai/v1/chat/completions"}`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, ...more.headers },
      body: slowChat((asked += 1), more.stream === true),
    });
    return { status: answer.status, text: await answer.text() };
  };
  const sentWith = (): (string | undefined)[] =>
    provider.journal.map(({ headers }) => headers.authorization?.replace("Bearer ", ""));

  it("are for the keys that their scopes name, the narrowest first; what a request says of itself changes nothing", async () => {
    const production = await running.createKey({ env: "production", team: "web" });
    const canary = await running.createKey({ env: "canary", team: "search" });
    const staging = await running.createKey({ env: "staging", team: "web" });
    const search = await running.createKey({ env: "staging", team: "search" });
    for (const { secret } of [production, canary, staging, search])
      expect(
        (await ask(secret, { headers: { "x-keymeter-env": "production", "x-keymeter-team": "web" } })).status,
      ).toBe(200);
    expect(sentWith()).toEqual([PRODUCTION, PRODUCTION, STAGING, SEARCH]);
    expect((await ask(search.secret, { stream: true })).status).toBe(200);
    expect(sentWith().at(-1)).toBe(SEARCH);

    const events = await running.events();
    const payerOf = (keyId: string): string[] => [
      ...new Set(events.filter((event) => event.keyId === keyId).map(({ payer }) => payer)),
    ];
    const [a, b, c, d] = [production, canary, staging, search].map(({ id }) => payerOf(id));
    expect(a).toEqual(b);
    expect(new Set([...(a ?? []), ...(c ?? []), ...(d ?? [])]).size).toBe(3);
    const usage = await openUsage(running.place);
    const known = usage ? await readMeteredCredentials(usage) : [];
    const named = Object.fromEntries(known.map(({ credential, name }) => [credential, name]));
    expect(named[a?.[0] ?? ""]).toBe(`openai credential "production" of this Keymeter …${PRODUCTION.slice(-4)}`);
    expect(named[c?.[0] ?? ""]).toBe(`openai credential "staging" of this Keymeter …${STAGING.slice(-4)}`);
    expect(named[d?.[0] ?? ""]).toBe(`openai credential "search-staging" of this Keymeter …${SEARCH.slice(-4)}`);
    await usage?.close();
  });

  it("leave keys that none is for without one: the refusal says whose they are, and nothing goes out", async () => {
    const { secret } = await running.createKey({ env: "test", team: "search" });
    const { status, text } = await ask(secret);
    expect(status).toBe(403);
    expect(JSON.parse(text)).toMatchObject({
      error: {
        message: expect.stringContaining(
          'no credential for openai is for keys of team "search", project (none), env "test"',
        ) as string,
      },
    });
    expect(provider.journal).toEqual([]);
  });

  it("may be an upstream's too", async () => {
    const research = await running.createKey({ project: "research" });
    const other = await running.createKey({ project: "other" });
    expect((await ask(research.secret, { path: "/groq/v1/chat/completions" })).status).toBe(200);
    expect(sentWith()).toEqual([GROQ]);
    expect((await ask(other.secret, { path: "/groq/v1/chat/completions" })).status).toBe(403);
  });

  it("that are replaced behind our back are told apart by request, not by hour", async () => {
    const { id, secret } = await running.createKey({ env: "staging", team: "web" });
    expect((await ask(secret)).status).toBe(200);
    writeFileSync(join(folder, "staging"), "sk-staging-the-second");
    await expect
      .poll(
        async () => {
          await ask(secret);
          return sentWith().at(-1);
        },
        { timeout: 10_000 },
      )
      .toBe("sk-staging-the-second");
    await sleep(100);
    const events = (await running.events()).filter(({ keyId }) => keyId === id);
    expect(events).toHaveLength(provider.journal.length);
    // Each request by the credential that its provider saw.
    const byPayer = Map.groupBy(
      events.map(({ payer }, i) => ({ payer, sent: sentWith()[i] })),
      ({ payer }) => payer,
    );
    expect([...byPayer.values()].map((all) => new Set(all.map(({ sent }) => sent)).size)).toEqual([1, 1]);
  });

  it("that a provider refuses are named all the same, at no cost: that they are still used has to be seen", async () => {
    const { secret } = await running.createKey({ env: "production" });
    expect((await ask(secret)).status).toBe(200);
    provider.script = json({ error: { message: "revoked" } }, 401);
    expect((await ask(secret)).status).toBe(401);
    const [taken, refused] = await running.events();
    expect(taken?.payer).toMatch(/^fp_/);
    expect(refused).toMatchObject({ payer: taken?.payer, outcome: "upstream_rejected", costNanoUsd: "0" });
  });

  it("are each looked at by doctor", async () => {
    provider.script = (arrived, response, request) =>
      json({ data: [] }, arrived.headers.authorization === `Bearer ${SEARCH}` ? 403 : 200)(arrived, response, request);
    const findings = await checkCredentials(running.proxy.context.config, false);
    const said = findings.filter(({ what }) => what.startsWith("OpenAI"));
    expect(said.map(({ what, state }) => [what, state])).toEqual([
      ['OpenAI, credential "production"', "ok"],
      ['OpenAI, credential "staging"', "ok"],
      ['OpenAI, credential "search-staging"', "fail"],
    ]);
    expect(said[1]?.said).toContain("file:");
  });
});

describe("settings of several credentials", () => {
  const load = (yaml: string, more: { [name: string]: string } = {}): unknown =>
    loadProxyConfig({ KEYMETER_DATA_DIR: temporaryFolder(), KEYMETER_CONFIG: writeSettings(yaml), ...more });

  it("that are wrong are named with their place, all together", () => {
    const wrong = `
proxy:
  anthropic:
    credentials:
      both: { api_key: sk-ant-one-0123456789, api_key_env: TWO, team: a }
      none: { team: a }
      gone: { api_key_env: NOBODY_SET_THIS, team: a }
      slip: { api_key: "valut:secret/a#b", team: a }
`;
    expect(() => load(wrong)).toThrow(
      /credentials\.both: say api_key_env or api_key, not both[\s\S]*credentials\.none: say api_key_env or api_key, one of them[\s\S]*credentials\.gone\.api_key_env: NOBODY_SET_THIS is not set[\s\S]*credentials\.slip\.api_key: "valut:" is no store/,
    );
    expect(() => load("proxy: { openai: { credentials: { all: { api_key: sk-one-0123456789 } } } }")).toThrow(
      "say for whom it is",
    );
  });

  it("hand the variables that they name to the proxy alone", () => {
    const yaml = writeSettings(`
proxy:
  openai: { credentials: { a: { api_key: "env:STAGING_KEY", env: staging }, b: { api_key_env: OTHER_KEY, env: test } } }
`);
    const environment = { KEYMETER_CONFIG: yaml, STAGING_KEY: "sk-a", OTHER_KEY: "sk-b" };
    expect(environmentOf("proxy", environment)).toMatchObject({ STAGING_KEY: "sk-a", OTHER_KEY: "sk-b" });
    for (const program of ["collector", "alerts"] as const) {
      expect(environmentOf(program, environment)).not.toHaveProperty("STAGING_KEY");
      expect(environmentOf(program, environment)).not.toHaveProperty("OTHER_KEY");
    }
  });
});
