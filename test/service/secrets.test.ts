// Secrets by reference: what a reference is, what a held secret does while its store is away, sealed, slow or answers
// nonsense; a real OpenBao with each of its sign-ins; and a proxy whose providers' keys are there.
import { generateKeyPairSync, createSign } from "node:crypto";
import { mkdirSync, mkdtempSync, renameSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { RequestListener, Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { loadProxyConfig } from "../../proxy/config.ts";
import { loadCommandConfig } from "../../command/config.ts";
import { SettingsError } from "../../service/settings.ts";
import { HeldSecret, openSecrets, secretsOf, secretStates, SecretUnavailable } from "../../service/secrets/index.ts";
import { createEnvironmentStore, createFileStore } from "../../service/secrets/local.ts";
import { MalformedReference, readReference } from "../../service/secrets/reference.ts";
import type { Reference } from "../../service/secrets/reference.ts";
import { StoreError } from "../../service/secrets/store.ts";
import type { Found, Store } from "../../service/secrets/store.ts";
import { createVault } from "../../service/secrets/vault.ts";
import type { VaultLogin } from "../../service/secrets/vault.ts";
import { chatAnswer, json, messageAnswer, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { hasOpenBao, ROOT_TOKEN, startOpenBao } from "../openbao.ts";
import type { OpenBao } from "../openbao.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

const folder = mkdtempSync(join(tmpdir(), "keymeter-secrets-"));
const now = (): AbortSignal => AbortSignal.timeout(5_000);
const log = { warn: () => undefined, info: () => undefined };

function referenceTo(text: string): Reference {
  const found = readReference(text);
  if (!found) throw new Error(`${text} is no reference`);
  return found;
}

describe("a reference", () => {
  it.each([
    ["env:OPENAI_KEY", { scheme: "env", path: "OPENAI_KEY" }],
    ["file:/run/secrets/openai", { scheme: "file", path: "/run/secrets/openai" }],
    ["file:/etc/keys.json#openai", { scheme: "file", path: "/etc/keys.json", field: "openai" }],
    ["vault:secret/keymeter/openai#api_key", { scheme: "vault", path: "secret/keymeter/openai", field: "api_key" }],
  ])("%s", (text, parts) => {
    expect(readReference(text)).toEqual({ text, ...parts });
  });

  it.each([
    "sk-proj-0123456789abcdef",
    "sk-ant-api03-x:y",
    "postgres://user:password@host:5432/keymeter",
    "a token of words: with a colon",
    "xoxb-1-2-3",
    "AIzaSy:not-a-scheme",
    "keymeter:pa55/word",
    "svc:Zm9vYmFy/+=#",
    "Secret: the words of somebody",
  ])("%s is none: it is the secret itself", (text) => {
    expect(readReference(text)).toBeUndefined();
  });

  it.each([
    ["valut:secret/openai#key", "is no store, did you mean vault?"],
    ["vault:secret/openai", "write vault:MOUNT/PATH#FIELD"],
    ["vault:openai#key", "write vault:MOUNT/PATH#FIELD"],
    ["vault:secret/../sys/seal#key", "write vault:MOUNT/PATH#FIELD"],
    ["vault:secret/openai?version=1#key", "write vault:MOUNT/PATH#FIELD"],
    ["vault:secret/openai#", "write vault:MOUNT/PATH#FIELD"],
    ["file:secrets/openai", "write file:/run/secrets/NAME"],
    ["env:OPENAI KEY", "write env:NAME"],
    ["env:gsk_0123456789abcdef", "write env:NAME"],
    ["Vault:secret/openai#key", "did you mean vault?"],
    ["env:", "write env:NAME"],
    ["arn:aws:secretsmanager:eu-central-1:123456789012:secret:x", "is no store"],
  ])("%s is refused: %s", (text, message) => {
    expect(() => readReference(text)).toThrow(MalformedReference);
    expect(() => readReference(text)).toThrow(message);
    // Somebody may have put the secret itself there.
    expect(() => readReference(text)).not.toThrow(text.slice(text.indexOf(":") + 1) || "nothing");
  });
});

describe("settings with references", () => {
  it("that cannot be right are named all together, each with its place", () => {
    const file = join(folder, "wrong.yaml");
    writeFileSync(
      file,
      `proxy:
  openai: { api_key: "file:/run/one" }
  anthropic: { api_key: "valut:secret/anthropic#key" }
  google: { api_key: "vault:secret/google#key" }
  upstreams:
    groq: { url: https://api.groq.com/openai, api_key: "vault:groq" }
    both: { url: https://api.both.com/openai, api_key: "env:A", api_key_env: B }
`,
    );
    const environment = {
      KEYMETER_CONFIG: file,
      OPENAI_API_KEY: "file:/run/other",
      KEYMETER_DATA_DIR: folder,
      B: "sk-b",
    };
    let problems: readonly string[] = [];
    try {
      loadProxyConfig(environment);
    } catch (error) {
      if (error instanceof SettingsError) ({ problems } = error);
    }
    const text = problems.join("\n");
    for (const part of [
      "OPENAI_API_KEY: the variable and the file name two secrets",
      'proxy.anthropic.api_key: "valut:" is no store',
      "proxy.google.api_key: vault:secret/google#key needs secrets.vault.address (VAULT_ADDR)",
      'proxy.upstreams.groq.api_key: what stands behind "vault:" is no such reference',
      "proxy.upstreams.both: say api_key_env or api_key, not both",
    ])
      expect(text).toContain(part);
    expect(problems).toHaveLength(5);
    expect(text).not.toContain("sk-b");
  });

  it("ask for a sign-in only where something is in the store", () => {
    const base = { KEYMETER_DATA_DIR: mkdtempSync(join(tmpdir(), "keymeter-")), VAULT_ADDR: "http://127.0.0.1:1" };
    expect(secretsOf(loadProxyConfig(base))).toEqual([]);
    expect(() => loadProxyConfig({ ...base, OPENAI_API_KEY: "vault:secret/a#b" })).toThrow("needs a sign-in");
    const itself = { ...base, OPENAI_API_KEY: "vault:secret/a#b", VAULT_TOKEN: "vault:secret/token#t" };
    expect(() => loadProxyConfig(itself)).toThrow("cannot open the store that it is in");
  });

  it("may say that a secret is in its own variable; other programs' variables matter to nobody who names no store", () => {
    const file = join(folder, "own.yaml");
    writeFileSync(file, 'proxy: { openai: { api_key: "env:OPENAI_API_KEY" } }\n');
    const base = { KEYMETER_DATA_DIR: mkdtempSync(join(tmpdir(), "keymeter-")), OPENAI_API_KEY: "sk-of-a-variable" };
    expect(loadProxyConfig({ ...base, KEYMETER_CONFIG: file }).own.openai.credential?.reveal()).toBe(
      "sk-of-a-variable",
    );
    const others = {
      VAULT_ADDR: "unix:///run/vault.sock",
      VAULT_TOKEN: "with a\nline",
      OP_CONNECT_HOST: "connect:8080",
    };
    expect(secretsOf(loadProxyConfig({ ...base, ...others }))).toEqual([]);
    const named = { ...base, ...others, OPENAI_API_KEY: "vault:secret/a#b" };
    expect(() => loadProxyConfig(named)).toThrow("needs an http or https URL in secrets.vault.address (VAULT_ADDR)");
  });

  it("in which something else is wrong repeat no key", () => {
    const file = join(folder, "slip.yaml");
    writeFileSync(file, "proxy: { upstreams: { groq: { urll: x, api_key: gsk_0123456789abcdef } } }\n");
    const load = (): unknown => loadProxyConfig({ KEYMETER_CONFIG: file, KEYMETER_DATA_DIR: folder });
    expect(load).toThrow("proxy.upstreams");
    expect(load).not.toThrow("gsk_0123");
  });

  it("of which an installation's own are weak are refused as they are without a reference", async () => {
    writeFileSync(join(folder, "weak"), "secret");
    const environment = { KEYMETER_DATA_DIR: folder, KEYMETER_PEPPER: `file:${join(folder, "weak")}` };
    const config = loadProxyConfig(environment);
    await openSecrets(config, log);
    expect(() => config.pepper.reveal()).toThrow("the pepper that was given is too short or a placeholder");
  });

  it("of what a start cannot do without are waited for, and named", async () => {
    const file = join(folder, "admin");
    const environment = { KEYMETER_DATA_DIR: folder, KEYMETER_ADMIN_TOKEN: `file:${file}` };
    const config = loadCommandConfig(environment);
    writeFileSync(file, "not an admin token\n of one line\n");
    const opened = openSecrets(config, log, [config.adminToken]);
    await sleep(300);
    writeFileSync(file, "an admin token from a file\n");
    await opened;
    expect(config.adminToken?.reveal()).toBe("an admin token from a file");
    // What a program began with holds until it ends.
    writeFileSync(file, "another admin token\n");
    await (config.adminToken as HeldSecret).refresh();
    expect(config.adminToken?.reveal()).toBe("an admin token from a file");
    expect(secretStates(config)).toEqual([]);
    expect(JSON.stringify(config)).not.toContain("from a file");
  });
});

describe("a secret of this machine", () => {
  it("is a variable, or a file, without the end of its line", async () => {
    const env = createEnvironmentStore({ A: "of the environment" });
    expect(await env.read(referenceTo("env:A"), now())).toEqual({ text: "of the environment" });
    await expect(env.read(referenceTo("env:B"), now())).rejects.toMatchObject({ why: "missing" });
    const path = join(folder, "one");
    writeFileSync(path, "of a file\r\n");
    const ofFile = hold(createFileStore(), `file:${path}`);
    await ofFile.refresh();
    expect(ofFile.reveal()).toBe("of a file");
    writeFileSync(path, '{"openai":"of a field","number":7,"nested":{"type":"service_account"}}');
    const read = async (field: string): Promise<string> =>
      (await createFileStore().read(referenceTo(`file:${path}#${field}`), now())).text;
    expect(await read("openai")).toBe("of a field");
    expect(await read("nested")).toBe('{"type":"service_account"}');
    await expect(read("other")).rejects.toMatchObject({ why: "missing" });
    writeFileSync(path, "no JSON");
    await expect(read("openai")).rejects.toMatchObject({ why: "unusable" });
    await expect(createFileStore().read(referenceTo(`file:${folder}`), now())).rejects.toBeInstanceOf(StoreError);
    await expect(createFileStore().read(referenceTo(`file:${path}/x`), now())).rejects.toMatchObject({
      why: "missing",
    });
    writeFileSync(path, Buffer.alloc(300 * 1024, "a"));
    await expect(createFileStore().read(referenceTo(`file:${path}`), now())).rejects.toMatchObject({ why: "unusable" });
  });

  it("that Kubernetes mounts is swapped whole by a link: it is one or the other", async () => {
    const mount = mkdtempSync(join(tmpdir(), "keymeter-mount-"));
    const put = (name: string, text: string): void => {
      mkdirSync(join(mount, name));
      writeFileSync(join(mount, name, "key"), text);
      symlinkSync(name, join(mount, "..next"));
      renameSync(join(mount, "..next"), join(mount, "..data"));
    };
    put("..1", "the first one");
    symlinkSync(join("..data", "key"), join(mount, "key"));
    const held = hold(createFileStore(), `file:${join(mount, "key")}`);
    await held.refresh();
    expect(held.reveal()).toBe("the first one");
    put("..2", "the second one");
    await held.refresh();
    expect(held.reveal()).toBe("the second one");
    unlinkSync(join(mount, "..data"));
    await held.refresh();
    expect(held.reveal()).toBe("the second one");
    expect(held.state.failure).toMatchObject({ why: "missing" });
  });
});

describe("a held secret", () => {
  it("goes on as it was while its store fails, says so once, and once when it is read again", async () => {
    let answer: () => Promise<Found> = async () => ({ text: "good", version: "1" });
    const held = hold({ read: () => answer() });
    const told: (string | undefined)[] = [];
    let changes = 0;
    held.onTrouble(({ failure }) => told.push(failure?.message));
    held.onChange(() => (changes += 1));
    expect(() => held.reveal()).toThrow(SecretUnavailable);
    await held.refresh();
    expect(held.reveal()).toBe("good");
    for (const fault of [
      async () => Promise.reject(new StoreError("away", "no way there")),
      async () => Promise.reject(new Error("a stack with the secret good in it")),
      async () => ({ text: " \n" }),
      async () => ({ text: "good\nand more" }),
      async () => ({ text: "bad" }),
    ]) {
      answer = fault;
      await held.refresh();
      await held.refresh();
      expect(held.reveal()).toBe("good");
    }
    expect(told).toEqual([
      "no way there",
      "the reading failed",
      "it is empty",
      "it has more than one line",
      "this is bad",
    ]);
    answer = async () => ({ text: "better", version: "2" });
    await held.refresh();
    expect(held.reveal()).toBe("better");
    expect(told.at(-1)).toBeUndefined();
    expect([told.length, changes, held.state.failures, held.state.version]).toEqual([6, 2, 10, "2"]);
    expect(`${String(held)} ${JSON.stringify(held)} ${JSON.stringify(held.state)}`).not.toContain("better");
  });

  it("is asked for by one reading at a time, and not again within five seconds when it was refused", async () => {
    let readings = 0;
    const held = hold({
      async read() {
        readings += 1;
        await sleep(20);
        return { text: "good" };
      },
    });
    await Promise.all(Array.from({ length: 50 }, () => held.refresh()));
    await held.refreshSoon();
    expect(readings).toBe(1);
  });

  it("is not used beyond the age that settings allow", async () => {
    let isAway = false;
    const store: Store = {
      read: async () => (isAway ? Promise.reject(new StoreError("away", "gone")) : { text: "good" }),
    };
    const held = new HeldSecret("place", referenceTo("env:A"), store, () => undefined, { maxStaleSeconds: 0.05 });
    await held.refresh();
    expect(held.reveal()).toBe("good");
    await sleep(80);
    // Nobody has asked again, and nothing failed.
    expect(held.reveal()).toBe("good");
    isAway = true;
    await held.refresh();
    expect(() => held.reveal()).toThrow("was not read for more than 0.05 s: gone");
  });

  it("whose store never answers is late, and the store is not asked again before it does", async () => {
    let readings = 0;
    let answer: ((found: Found) => void) | undefined;
    const held = hold({
      read: () => {
        readings += 1;
        return new Promise((resolve) => (answer = resolve));
      },
    });
    await held.refresh();
    await held.refresh();
    expect(held.state.failure).toMatchObject({ why: "away", message: "it did not answer in time" });
    expect(readings).toBe(1);
    answer?.({ text: "late" });
    await sleep(10);
    const again = held.refresh();
    answer?.({ text: "good" });
    await again;
    expect(held.reveal()).toBe("good");
  }, 20_000);

  it("is refreshed beside all work, sooner while it was never read", async () => {
    let readings = 0;
    const held = new HeldSecret(
      "place",
      referenceTo("env:A"),
      {
        read: async () =>
          (readings += 1) < 2 ? Promise.reject(new StoreError("away", "gone")) : { text: `${readings}` },
      },
      () => undefined,
      { refreshSeconds: 1 },
    );
    held.start();
    await expect.poll(() => readings, { timeout: 6_000 }).toBeGreaterThanOrEqual(3);
    held.stop();
    expect(Number(held.reveal())).toBeGreaterThanOrEqual(2);
  });
});

function hold(store: Store, reference = "env:A"): HeldSecret {
  return new HeldSecret("place", referenceTo(reference), store, (text) => (text === "bad" ? "this is bad" : undefined));
}

describe("what a Vault may answer", () => {
  let server: Server;
  let answer: RequestListener;
  let url: string;
  beforeAll(async () => {
    server = createServer((request, response) => answer(request, response));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  it.each<[string, RequestListener, string, string]>([
    ["garbage", (_, to) => to.end("<html>"), "away", "is no JSON"],
    ["nothing of a secret", (_, to) => to.end("{}"), "unusable", "no key-value store of version 2"],
    ["another host", (_, to) => to.writeHead(307, { location: "http://127.0.0.2/" }).end(), "away", "another host"],
    ["500", (_, to) => to.writeHead(500).end("{}"), "away", "answered 500"],
    ["429", (_, to) => to.writeHead(429).end("{}"), "away", "answered 429"],
    ["too much", (_, to) => to.end(Buffer.alloc(5 * 1024 * 1024, "a")), "away", "more than a secret can have"],
    [
      "half of it",
      (_, to) => to.writeHead(200, { "content-length": "100" }).write("{", () => to.destroy()),
      "away",
      "broke off",
    ],
    ["nothing at all", () => undefined, "away", "did not answer in time"],
  ])("%s: it is away, or what it has is no secret", async (_what, script, why, message) => {
    answer = script;
    const store = createVault({ address: url, login: { by: "token", token: () => "t" } });
    const reading = store.read(referenceTo("vault:secret/a#b"), AbortSignal.timeout(1_000));
    const error = await reading.catch((caught: unknown) => caught as StoreError);
    expect(error).toMatchObject({ name: "StoreError", why });
    expect((error as StoreError).message).toContain(message);
  });
});

describe.skipIf(!hasOpenBao)("a real OpenBao", () => {
  let bao: OpenBao;
  beforeAll(async () => {
    bao = await startOpenBao();
    await bao.ask("PUT", "sys/policies/acl/keymeter", {
      policy: 'path "secret/data/keymeter/*" { capabilities = ["read"] }',
    });
  }, 60_000);
  afterAll(async () => bao?.stop());

  const storeBy = (login: VaultLogin): Store => createVault({ address: bao.url, login });
  const read = (store: Store, text: string): Promise<Found> => store.read(referenceTo(text), now());

  it("by a token: versions, what is missing, what was deleted, what is not ours to read", async () => {
    await bao.put("keymeter/openai", { api_key: "sk-one", other: { nested: true } });
    const { auth } = (await bao.ask("POST", "auth/token/create", { policies: ["keymeter"] })) as {
      auth: { client_token: string };
    };
    const store = storeBy({ by: "token", token: () => auth.client_token });
    expect(await read(store, "vault:secret/keymeter/openai#api_key")).toEqual({ text: "sk-one", version: "1" });
    expect((await read(store, "vault:secret/keymeter/openai#other")).text).toBe('{"nested":true}');
    await bao.put("keymeter/openai", { api_key: "sk-two" });
    expect(await read(store, "vault:secret/keymeter/openai#api_key")).toEqual({ text: "sk-two", version: "2" });
    await expect(read(store, "vault:secret/keymeter/openai#nothing")).rejects.toMatchObject({ why: "missing" });
    await expect(read(store, "vault:secret/keymeter/none#api_key")).rejects.toMatchObject({ why: "missing" });
    await expect(read(store, "vault:secret/others/openai#api_key")).rejects.toMatchObject({ why: "refused" });
    await bao.ask("DELETE", "secret/data/keymeter/openai");
    await expect(read(store, "vault:secret/keymeter/openai#api_key")).rejects.toThrow("was deleted");
    await bao.ask("POST", "sys/mounts/old", { type: "kv", options: { version: "1" } });
    await bao.ask("POST", "old/data/keymeter", { data: "x" });
    const root = storeBy({ by: "token", token: () => ROOT_TOKEN });
    await expect(read(root, "vault:old/keymeter#data")).rejects.toBeInstanceOf(StoreError);
    // Whoever keeps the token fresh has another one.
    let current = "no such token";
    const rotated = storeBy({ by: "token", token: () => current });
    await expect(read(rotated, "vault:secret/keymeter/none#api_key")).rejects.toMatchObject({ why: "refused" });
    current = auth.client_token;
    await expect(read(rotated, "vault:secret/keymeter/none#api_key")).rejects.toMatchObject({ why: "missing" });
    const wrong = storeBy({ by: "token", token: () => "no such token" });
    await expect(read(wrong, "vault:secret/keymeter/openai#api_key")).rejects.toMatchObject({ why: "refused" });
  });

  it("by AppRole: a token is renewed, and made anew when it ended", async () => {
    await bao.put("keymeter/anthropic", { api_key: "sk-ant-one" });
    await bao.ask("POST", "sys/auth/approle", { type: "approle" });
    await bao.ask("POST", "auth/approle/role/keymeter", {
      token_policies: ["keymeter"],
      token_ttl: "2s",
      token_max_ttl: "4s",
    });
    const { data: role } = (await bao.ask("GET", "auth/approle/role/keymeter/role-id")) as {
      data: { role_id: string };
    };
    const { data: secret } = (await bao.ask("POST", "auth/approle/role/keymeter/secret-id")) as {
      data: { secret_id: string };
    };
    let signIns = 0;
    const store = storeBy({
      by: "approle",
      mount: "approle",
      roleId: role.role_id,
      secretId: () => ((signIns += 1), secret.secret_id),
    });
    await Promise.all(Array.from({ length: 8 }, () => read(store, "vault:secret/keymeter/anthropic#api_key")));
    expect(signIns).toBe(1);
    const until = Date.now() + 7_000;
    while (Date.now() < until) {
      expect((await read(store, "vault:secret/keymeter/anthropic#api_key")).text).toBe("sk-ant-one");
      await sleep(250);
    }
    // Renewed to the end of what the role allows, and then made anew: not with each reading.
    expect(signIns).toBeGreaterThanOrEqual(2);
    expect(signIns).toBeLessThanOrEqual(4);
    // Somebody revoked it.
    await bao.ask("POST", "auth/approle/role/keymeter", {
      token_policies: ["keymeter"],
      token_ttl: "1h",
      token_max_ttl: "1h",
    });
    await sleep(4_100);
    await read(store, "vault:secret/keymeter/anthropic#api_key");
    const before = signIns;
    await bao.ask("PUT", "sys/leases/revoke-prefix/auth/approle/login");
    expect((await read(store, "vault:secret/keymeter/anthropic#api_key")).text).toBe("sk-ant-one");
    expect(signIns).toBe(before + 1);
    // What the policy forbids is asked again with the same token.
    for (let i = 0; i < 3; i++)
      await expect(read(store, "vault:secret/others/x#y")).rejects.toMatchObject({ why: "refused" });
    expect(signIns).toBe(before + 2);
    const wrong = storeBy({ by: "approle", mount: "approle", roleId: role.role_id, secretId: () => "wrong" });
    await expect(read(wrong, "vault:secret/keymeter/anthropic#api_key")).rejects.toThrow("sign-in by approle");
  }, 60_000);

  it("by a JWT in a file, as Kubernetes and CI leave one", async () => {
    const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    await bao.put("keymeter/google", { api_key: "AIza-one" });
    await bao.ask("POST", "sys/auth/jwt", { type: "jwt" });
    await bao.ask("POST", "auth/jwt/config", {
      jwt_validation_pubkeys: [publicKey.export({ type: "spki", format: "pem" })],
    });
    await bao.ask("POST", "auth/jwt/role/keymeter", {
      role_type: "jwt",
      user_claim: "sub",
      bound_audiences: ["vault"],
      token_policies: ["keymeter"],
      token_ttl: "1h",
    });
    const base64 = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
    const seconds = Math.floor(Date.now() / 1000);
    const head = `${base64({ alg: "RS256", typ: "JWT" })}.${base64({ sub: "keymeter", aud: "vault", iat: seconds, exp: seconds + 600 })}`;
    const signed = `${head}.${createSign("RSA-SHA256").update(head).sign(privateKey, "base64url")}`;
    const file = join(folder, "jwt");
    writeFileSync(file, `${signed}\n`);
    const store = storeBy({ by: "jwt", mount: "jwt", role: "keymeter", file });
    expect((await read(store, "vault:secret/keymeter/google#api_key")).text).toBe("AIza-one");
    writeFileSync(file, "no token");
    const wrong = storeBy({ by: "jwt", mount: "jwt", role: "keymeter", file });
    await expect(read(wrong, "vault:secret/keymeter/google#api_key")).rejects.toMatchObject({ why: "refused" });
    const none = storeBy({ by: "kubernetes", mount: "jwt", role: "keymeter", file: join(folder, "none") });
    await expect(read(none, "vault:secret/keymeter/google#api_key")).rejects.toThrow("cannot be read");
  });

  describe("and a proxy whose keys are there", () => {
    let provider: FakeProvider;
    let running: RunningProxy | undefined;
    beforeEach(async () => {
      provider = await startFakeProvider(json(chatAnswer()));
    });
    afterEach(async () => {
      await running?.stop();
      running = undefined;
      await provider.close();
    });

    const start = (more: { [name: string]: string } = {}): Promise<RunningProxy> =>
      startProxy(provider.url, {
        VAULT_ADDR: bao.url,
        VAULT_TOKEN: `file:${join(folder, "vault-token")}`,
        OPENAI_API_KEY: "vault:secret/keymeter/proxy#openai",
        ANTHROPIC_API_KEY: `file:${join(folder, "anthropic")}`,
        KEYMETER_SECRETS_REFRESH: "1",
        ...more,
      });
    const ask = async ({ url }: RunningProxy, secret: string): Promise<number> => {
      const answer = await fetch(`${url}/openai/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
        body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }),
      });
      await answer.text();
      return answer.status;
    };
    const sent = (): (string | undefined)[] => provider.journal.map(({ headers }) => headers.authorization);

    it("takes another key without a restart, asks at once when its provider refuses one, and sends nothing twice", async () => {
      writeFileSync(join(folder, "vault-token"), `${ROOT_TOKEN}\n`);
      writeFileSync(join(folder, "anthropic"), "sk-ant-of-a-file");
      await bao.put("keymeter/proxy", { openai: "sk-first-0123456789" });
      running = await start({ KEYMETER_SECRETS_REFRESH: "3600" });
      const { secret } = await running.createKey();
      expect(await ask(running, secret)).toBe(200);
      expect(sent()).toEqual(["Bearer sk-first-0123456789"]);
      // Behind our back.
      await bao.put("keymeter/proxy", { openai: "sk-second-0123456789" });
      await sleep(5_000);
      provider.script = (arrived, response, request) =>
        json(
          arrived.headers.authorization === "Bearer sk-second-0123456789"
            ? chatAnswer()
            : { error: { message: "revoked" } },
          arrived.headers.authorization === "Bearer sk-second-0123456789" ? 200 : 401,
        )(arrived, response, request);
      expect(await ask(running, secret)).toBe(401);
      const { url } = running;
      await expect.poll(() => ask({ url } as RunningProxy, secret), { timeout: 3_000 }).toBe(200);
      expect(sent().filter((one) => one?.includes("first")).length).toBeGreaterThanOrEqual(2);
      expect(sent().at(-1)).toBe("Bearer sk-second-0123456789");
      expect(provider.journal).toHaveLength((await running.events()).length);
      const metrics = await (await fetch(`${running.opsUrl}/metrics`)).text();
      expect(metrics).toMatch(/keymeter_secret_age_seconds\{secret="proxy.openai.api_key"\} \d/);
      expect(metrics).not.toContain("sk-second");
    });

    it("without its store answers 503 for that provider, serves the others, and begins when the key is there", async () => {
      await bao.ask("DELETE", "secret/metadata/keymeter/proxy");
      provider.script = (arrived, response, request) =>
        json(arrived.url.includes("messages") ? messageAnswer() : chatAnswer())(arrived, response, request);
      running = await start();
      const { secret } = await running.createKey();
      expect(await ask(running, secret)).toBe(503);
      expect(provider.journal).toEqual([]);
      const other = await fetch(`${running.url}/anthropic/v1/messages`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-api-key": secret, "anthropic-version": "2023-06-01" },
        body: JSON.stringify({ model: "claude-haiku-4-5", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }),
      });
      expect(other.status).toBe(200);
      expect(provider.journal[0]?.headers["x-api-key"]).toBe("sk-ant-of-a-file");
      await bao.put("keymeter/proxy", { openai: "sk-third-0123456789" });
      const { url } = running;
      await expect.poll(() => ask({ url } as RunningProxy, secret), { timeout: 10_000 }).toBe(200);
      // Sealed for good: the last one goes on.
      await bao.ask("PUT", "sys/seal");
      await sleep(2_500);
      expect(await ask(running, secret)).toBe(200);
      const metrics = await (await fetch(`${running.opsUrl}/metrics`)).text();
      expect(metrics).toMatch(/keymeter_secret_refresh_errors_total\{secret="proxy.openai.api_key"\} [1-9]/);
    });
  });
});
