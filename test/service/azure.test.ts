// Azure Key Vault and the sign-in to it, by a stand-in of ours over TLS that Azure's own client reads as well.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { fileURLToPath } from "node:url";
import { generate } from "selfsigned";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { loadProxyConfig } from "../../proxy/config.ts";
import { createAzureStore } from "../../service/secrets/azure.ts";
import { openSecrets } from "../../service/secrets/index.ts";
import { MalformedReference, readReference } from "../../service/secrets/reference.ts";
import type { Reference } from "../../service/secrets/reference.ts";
import type { Found, Store } from "../../service/secrets/store.ts";
import { startFakeKeyVault } from "../fake/secret-stores.ts";
import type { AzureVersion, FakeStore } from "../fake/secret-stores.ts";
import { noteSkipped } from "../skipped.ts";
import { temporaryFolder } from "../start-proxy.ts";

const SERVERS = fileURLToPath(new URL("../servers/", import.meta.url));
const hasClient = existsSync(join(SERVERS, "node_modules/@azure/keyvault-secrets"));
if (!hasClient)
  noteSkipped("Azure's client of Key Vault is not here (test/servers, npm ci); our stand-in is not held against it");

const FIRST = "a".repeat(32);
const SECOND = "b".repeat(32);

describe("a reference to Azure", () => {
  it.each([
    "azure-kv:https://my-vault.vault.azure.net/openai",
    `azure-kv:https://my-vault.vault.azure.net/openai/${FIRST}#key`,
  ])("%s", (text) => {
    expect(readReference(text)?.scheme).toBe("azure-kv");
  });

  it.each([
    "azure-kv:my-vault/openai",
    "azure-kv:http://my-vault.vault.azure.net/openai",
    "azure-kv:https://my-vault.vault.azure.net/openai?x=1",
    "azure-kv:https://user@my-vault.vault.azure.net/openai",
    "azure-kv:https://my-vault.vault.azure.net/a/../b",
  ])("%s is none", (text) => {
    expect(() => readReference(text)).toThrow(MalformedReference);
  });

  it("whose application is half named is refused at the start", () => {
    const base = { KEYMETER_DATA_DIR: temporaryFolder(), OPENAI_API_KEY: "azure-kv:https://v.vault.azure.net/openai" };
    expect(() => loadProxyConfig({ ...base, KEYMETER_SECRETS_AZURE_CLIENT_ID: "one" })).toThrow(
      "secrets.azure.tenant_id beside client_id and client_secret",
    );
    expect(() =>
      loadProxyConfig({ ...base, KEYMETER_SECRETS_AZURE_TENANT_ID: "t", KEYMETER_SECRETS_AZURE_CLIENT_ID: "one" }),
    ).toThrow("secrets.azure.client_secret beside tenant_id and client_id");
  });
});

describe("Azure Key Vault", () => {
  const before = getCACertificates("default");
  let pems: { readonly private: string; readonly cert: string };
  let versions: AzureVersion[];
  let vault: FakeStore;
  let store: Store;
  beforeAll(async () => {
    pems = await generate([{ name: "commonName", value: "127.0.0.1" }], {
      extensions: [{ name: "subjectAltName", altNames: [{ type: 7, ip: "127.0.0.1" }] }],
    });
    setDefaultCACertificates([...before, pems.cert]);
  });
  afterAll(() => setDefaultCACertificates(before));
  beforeEach(async () => {
    versions = [{ id: FIRST, value: "sk-one", isEnabled: true }];
    vault = await startFakeKeyVault({ openai: versions }, { key: pems.private, cert: pems.cert });
    store = createAzureStore({
      application: { tenantId: "tenant", clientId: "app", secret: () => "secret-of-the-app" },
      authority: vault.url,
    });
  });
  afterEach(async () => vault.close());
  const read = (name: string): Promise<Found> =>
    store.read(readReference(`azure-kv:${vault.url}/${name}`) as Reference, AbortSignal.timeout(10_000));

  it("is read by an application that signs in with its secret: the newest version, one of its own, a field", async () => {
    expect(await read("openai")).toEqual({ text: "sk-one", version: FIRST });
    versions.push({ id: SECOND, value: '{"key":"sk-two"}', isEnabled: true });
    expect(await read("openai#key")).toEqual({ text: "sk-two", version: SECOND });
    expect((await read(`openai/${FIRST}`)).text).toBe("sk-one");
    // One sign-in for all of them.
    expect(vault.journal.filter(({ url }) => url.includes("oauth2"))).toHaveLength(1);
    (versions[1] as { isEnabled: boolean }).isEnabled = false;
    await expect(read("openai")).rejects.toMatchObject({ why: "missing" });
    await expect(read("nothing")).rejects.toMatchObject({ why: "missing" });
  });

  it("says what is refused or away, without a secret", async () => {
    await read("openai");
    vault.instead = (_request, response) => void response.writeHead(403).end('{"error":{"code":"Forbidden"}}');
    await expect(read("openai")).rejects.toMatchObject({ why: "refused" });
    vault.instead = (_request, response) => void response.writeHead(503).end("not now");
    await expect(read("openai")).rejects.toMatchObject({ why: "away" });
    store = createAzureStore({
      application: { tenantId: "tenant", clientId: "app", secret: () => "secret-of-the-app" },
      authority: vault.url,
    });
    vault.instead = (_request, response) =>
      void response.writeHead(400, { "content-type": "application/json" }).end('{"error":"invalid_client"}');
    const refusal = await read("openai").catch((error: unknown) => error);
    expect(refusal).toMatchObject({ name: "StoreError", why: "refused" });
    expect(String(refusal)).not.toContain("secret-of-the-app");
  });

  it("is read through a proxy's settings", async () => {
    const config = loadProxyConfig({
      KEYMETER_DATA_DIR: temporaryFolder(),
      KEYMETER_SECRETS_AZURE_TENANT_ID: "tenant",
      KEYMETER_SECRETS_AZURE_CLIENT_ID: "app",
      KEYMETER_SECRETS_AZURE_CLIENT_SECRET: "secret-of-the-app",
      KEYMETER_SECRETS_AZURE_AUTHORITY: vault.url,
      OPENAI_API_KEY: `azure-kv:${vault.url}/openai`,
    });
    (await openSecrets(config, { warn: () => undefined, info: () => undefined })).stop();
    expect(await config.own.openai.credential?.reveal()).toBe("sk-one");
  });

  it.skipIf(!hasClient)("answers here as Azure's own client reads it", async () => {
    const { SecretClient } = createRequire(join(SERVERS, "package.json"))("@azure/keyvault-secrets") as {
      SecretClient: new (
        url: string,
        credential: object,
        options: object,
      ) => {
        getSecret(name: string): Promise<{ value?: string; properties: { version?: string } }>;
        setSecret(name: string, value: string, options: object): Promise<{ properties: { version: string } }>;
        updateSecretProperties(name: string, version: string, options: object): Promise<unknown>;
        listPropertiesOfSecretVersions(name: string): AsyncIterable<{ version: string; enabled: boolean }>;
      };
    };
    const credential = { getToken: async () => ({ token: "token-of-azure", expiresOnTimestamp: Date.now() + 60_000 }) };
    const client = new SecretClient(vault.url, credential, { disableChallengeResourceVerification: true });
    const found = await client.getSecret("openai");
    expect([found.value, found.properties.version]).toEqual(["sk-one", FIRST]);
    const { version: second } = (await client.setSecret("openai", "sk-two", { contentType: "text" })).properties;
    const { version: third } = (await client.setSecret("openai", "sk-three", {})).properties;
    await client.updateSecretProperties("openai", second, { enabled: false });
    const all: { [version: string]: boolean } = {};
    for await (const { version, enabled } of client.listPropertiesOfSecretVersions("openai")) all[version] = enabled;
    expect(all).toEqual({ [FIRST]: true, [second]: false, [third]: true });
  });
});
