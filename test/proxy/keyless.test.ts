// Credentials that nobody keeps: what Keymeter signs is traded for tokens of minutes, by the makers' own code, at stand-ins that
// verify each signature with the key that the command prints.
import { createPublicKey, verify } from "node:crypto";
import type { JsonWebKey } from "node:crypto";
import { statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadProxyConfig } from "../../proxy/config.ts";
import { checkCredentials } from "../../proxy/check.ts";
import { makeSigningKey, signingKeyOf } from "../../service/signing-key.ts";
import { chatAnswer, json, messageAnswer, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { startProxy, temporaryFolder, writeSettings } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

const ISSUER = "https://keymeter.test";
type Claims = {
  readonly iss: string;
  readonly sub: string;
  readonly aud: string;
  readonly exp: number;
  readonly jti: string;
};

/** The claims of a JWT that this key signed; throws for any other. */
function verified(jwt: string, jwk: JsonWebKey & { readonly kid?: string }): Claims {
  const [head = "", body = "", signature = ""] = jwt.split(".");
  const { alg, kid } = JSON.parse(Buffer.from(head, "base64url").toString()) as { alg: string; kid: string };
  const key = createPublicKey({ key: jwk, format: "jwk" });
  const isRight = verify(
    "sha256",
    Buffer.from(`${head}.${body}`),
    { key, dsaEncoding: "ieee-p1363" },
    Buffer.from(signature, "base64url"),
  );
  if (alg !== "ES256" || kid !== jwk.kid || !isRight) throw new Error("not signed by it");
  return JSON.parse(Buffer.from(body, "base64url").toString()) as Claims;
}

describe("a proxy without provider keys", () => {
  let provider: FakeProvider;
  let running: RunningProxy;
  let dataDir: string;
  let jwk: JsonWebKey & { readonly kid: string };
  let claims: Claims[];
  let bodies: { [name: string]: unknown }[];
  let given = 0;
  let lifetime = 600;
  let isRefusing = false;
  const tokens = new Set<string>();
  beforeEach(async () => {
    dataDir = temporaryFolder();
    claims = [];
    bodies = [];
    lifetime = 600;
    isRefusing = false;
    ({ jwk } = signingKeyOf(makeSigningKey(dataDir).reveal()) as unknown as { jwk: typeof jwk });
    provider = await startFakeProvider((arrived, response, request) => {
      if (arrived.url.endsWith("/oauth/token")) {
        const body = JSON.parse(arrived.body.toString()) as { [name: string]: string };
        bodies.push(body);
        if (isRefusing) return json({ error: "invalid_grant" }, 401)(arrived, response, request);
        claims.push(verified(body["assertion"] ?? body["subject_token"] ?? "", jwk));
        const token = `token-${(given += 1)}`;
        tokens.add(token);
        return json({ access_token: token, token_type: "Bearer", expires_in: lifetime })(arrived, response, request);
      }
      const presented = arrived.headers.authorization?.replace("Bearer ", "") ?? "";
      if (!tokens.has(presented)) return json({ error: { message: "who is that" } }, 401)(arrived, response, request);
      return json(arrived.url.includes("messages") ? messageAnswer() : chatAnswer())(arrived, response, request);
    });
    running = await startProxy(provider.url, {
      KEYMETER_DATA_DIR: dataDir,
      KEYMETER_CONFIG: writeSettings(`proxy:
  keyless: { issuer: ${ISSUER} }
  anthropic: { keyless: { organization: org-1, rule: fdrl_1, service_account: svac_1 } }
  openai: { keyless: { identity_provider: idp_1, service_account: user-1, token_url: ${provider.url}/oauth/token } }
`),
      OPENAI_API_KEY: "",
      ANTHROPIC_API_KEY: "",
      GEMINI_API_KEY: "",
    });
  });
  afterEach(async () => {
    await running.stop();
    await provider.close();
    tokens.clear();
  });

  const chat = async (secret: string): Promise<number> => {
    const answer = await fetch(`${running.url}/openai/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
      body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }),
    });
    await answer.text();
    return answer.status;
  };
  const message = async (secret: string, headers: { [name: string]: string } = {}): Promise<number> => {
    const answer = await fetch(`${running.url}/anthropic/v1/messages`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-api-key": secret,
        "anthropic-version": "2023-06-01",
        ...headers,
      },
      body: JSON.stringify({ model: "claude-haiku-4-5", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }),
    });
    await answer.text();
    return answer.status;
  };
  const calls = () => provider.journal.filter(({ url }) => !url.endsWith("/oauth/token"));

  it("signs who it is, keeps a token while it lasts, and books one credential that stays the same", async () => {
    const { secret } = await running.createKey();
    expect(await Promise.all([chat(secret), chat(secret)])).toEqual([200, 200]);
    expect(await chat(secret)).toBe(200);
    expect(bodies).toHaveLength(1);
    expect(bodies[0]).toMatchObject({
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      identity_provider_id: "idp_1",
      service_account_id: "user-1",
    });
    expect(claims[0]).toMatchObject({ iss: ISSUER, sub: "keymeter", aud: "https://api.openai.com/v1" });
    expect((claims[0]?.exp ?? 0) - Date.now() / 1000).toBeLessThan(301);
    expect(new Set(calls().map(({ headers }) => headers.authorization))).toEqual(new Set(["Bearer token-1"]));
    // Refused, though it should still be good: another one is asked for, and nothing is sent twice.
    tokens.clear();
    expect(await chat(secret)).toBe(401);
    await sleep(50);
    expect(await chat(secret)).toBe(200);
    const payers = new Set((await running.events()).map(({ payer }) => payer));
    expect(payers.size).toBe(1);
    expect([...payers][0]).toMatch(/^fp_/);
    expect(calls()).toHaveLength((await running.events()).length);
  });

  it("goes on with a token that one request was refused with, while no other can be had", async () => {
    const { secret } = await running.createKey();
    expect(await chat(secret)).toBe(200);
    // A request that is refused for its own reason.
    const kept = [...tokens];
    tokens.clear();
    isRefusing = true;
    expect(await chat(secret)).toBe(401);
    await sleep(50);
    for (const token of kept) tokens.add(token);
    expect([await chat(secret), await chat(secret)]).toEqual([200, 200]);
    expect(bodies.length).toBe(2);
  });

  it("sends Anthropic's as a bearer, beside the betas that the client asks for", async () => {
    const { secret } = await running.createKey();
    expect(await message(secret, { "anthropic-beta": "context-1m-2025-08-07" })).toBe(200);
    expect(await message(secret)).toBe(200);
    expect(bodies[0]).toMatchObject({
      federation_rule_id: "fdrl_1",
      organization_id: "org-1",
      service_account_id: "svac_1",
    });
    expect(claims[0]).toMatchObject({ iss: ISSUER, aud: "https://api.anthropic.com" });
    expect(calls().map(({ headers }) => [headers["x-api-key"], headers["anthropic-beta"]])).toEqual([
      [undefined, "context-1m-2025-08-07,oauth-2025-04-20"],
      [undefined, "oauth-2025-04-20"],
    ]);
  });

  it("answers 503 while no token can be had, without a word of what was signed, and goes on when one can", async () => {
    const { secret } = await running.createKey();
    isRefusing = true;
    expect([await chat(secret), await message(secret)]).toEqual([503, 503]);
    expect(calls()).toEqual([]);
    const findings = await checkCredentials(running.proxy.context.config, false);
    const failed = findings.filter(({ state }) => state === "fail");
    expect(failed.map(({ what }) => what)).toEqual(["OpenAI", "Anthropic"]);
    expect(JSON.stringify(failed)).not.toMatch(/eyJ/);
    isRefusing = false;
    expect([await chat(secret), await message(secret)]).toEqual([200, 200]);
  });

  it("is set up by one command, whose key is the one that signs", { timeout: 30_000 }, async () => {
    const { secret } = await running.createKey();
    expect(await chat(secret)).toBe(200);
    const { code, text } = await runKeymeter(running, "keyless", "openai", "--issuer", ISSUER);
    expect(code, text).toBe(0);
    expect(text).toContain(`"kid": "${jwk.kid}"`);
    expect(text).not.toContain('"d"');
    const other = { ...running, dataDir: temporaryFolder(), place: undefined as never };
    const made = await runKeymeter(
      { dataDir: other.dataDir, opsUrl: running.opsUrl },
      "keyless",
      "anthropic",
      "--issuer",
      ISSUER,
    );
    expect(made.text).toContain("The signing key was made");
    expect(statSync(join(other.dataDir, "signing-key.json")).mode & 0o777).toBe(0o600);
    expect((await runKeymeter(running, "keyless", "openai", "--issuer", "http://x")).code).toBe(2);
  });
});

describe("settings without provider keys", () => {
  const load = (yaml: string, more: { [name: string]: string } = {}): unknown =>
    loadProxyConfig({ KEYMETER_DATA_DIR: temporaryFolder(), KEYMETER_CONFIG: writeSettings(yaml), ...more });
  const ROW = "proxy: { anthropic: { keyless: { organization: o, rule: r } } }";

  it("say what they lack, and no key", () => {
    expect(() => load(ROW)).toThrow(
      /KEYMETER_KEYLESS_ISSUER\): keyless needs it[\s\S]*KEYMETER_SIGNING_KEY\): there is none/,
    );
    expect(() => load(ROW, { ANTHROPIC_API_KEY: "sk-ant-one-0123456789" })).toThrow("say api_key or keyless, not both");
    expect(() =>
      load(ROW, { KEYMETER_KEYLESS_ISSUER: ISSUER, KEYMETER_SIGNING_KEY: '{"kty":"EC","d":"secret-of-a-key"}' }),
    ).toThrow(/^(?![\s\S]*secret-of-a-key)[\s\S]*a private key for ES256/);
  });
});
