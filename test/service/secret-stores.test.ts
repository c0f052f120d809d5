// 1Password's Connect server and Google's Secret Manager, by stand-ins of ours that their makers' own clients read as well.
import { generateKeyPairSync } from "node:crypto";
import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { loadProxyConfig } from "../../proxy/config.ts";
import { createGoogleStore } from "../../service/secrets/google.ts";
import { machineCredentials } from "../../service/google-credentials.ts";
import { openSecrets } from "../../service/secrets/index.ts";
import { createOnePassword } from "../../service/secrets/onepassword.ts";
import { MalformedReference, readReference } from "../../service/secrets/reference.ts";
import type { Reference } from "../../service/secrets/reference.ts";
import type { Found, Store } from "../../service/secrets/store.ts";
import { startFakeProvider } from "../fake/provider.ts";
import { startFakeConnect, startFakeSecretManager } from "../fake/secret-stores.ts";
import type { ConnectItem, FakeStore, GoogleVersion } from "../fake/secret-stores.ts";
import { noteSkipped } from "../skipped.ts";

const SERVERS = fileURLToPath(new URL("../servers/", import.meta.url));
const hasClients = existsSync(join(SERVERS, "node_modules/@1password/connect"));
if (!hasClients)
  noteSkipped("clients of secret stores are not here (test/servers, npm ci); our stand-ins are not held against them");
const requireClient = createRequire(join(SERVERS, "package.json"));

function referenceTo(text: string): Reference {
  const found = readReference(text);
  if (!found) throw new Error(`${text} is no reference`);
  return found;
}
const read = (store: Store, text: string): Promise<Found> => store.read(referenceTo(text), AbortSignal.timeout(5_000));
const log = { warn: () => undefined, info: () => undefined };

describe("a reference", () => {
  it.each([
    ["op://Keymeter/OpenAI/credential", "//Keymeter/OpenAI/credential"],
    ["op://Team vault/Open AI key/prod/credential", "//Team vault/Open AI key/prod/credential"],
    ["gcp-sm:projects/p-1/secrets/openai", "projects/p-1/secrets/openai"],
    ["gcp-sm:projects/example.com:p/secrets/openai/versions/3#key", "projects/example.com:p/secrets/openai/versions/3"],
  ])("%s", (text, path) => {
    expect(readReference(text)?.path).toBe(path);
  });

  it.each([
    "op:Keymeter/OpenAI/credential",
    "op://Keymeter/OpenAI",
    'op://Keymeter/a" or title eq "b/credential',
    "op://Keymeter/../credential",
    "op://a/b/c/d/e",
    "gcp-sm:openai",
    "gcp-sm:projects/p/secrets/s/versions/../../x",
    "gcp-sm:projects/p/secrets/s#",
  ])("%s is none", (text) => {
    expect(() => readReference(text)).toThrow(MalformedReference);
  });
});

describe("1Password's Connect", () => {
  const VAULT = "vaultvaultvaultvaultvault1";
  const ITEM = "itemitemitemitemitemitem12";
  let item: ConnectItem;
  let items: ConnectItem[];
  let connect: FakeStore;
  let store: Store;
  beforeEach(async () => {
    item = {
      id: ITEM,
      title: "OpenAI",
      version: 3,
      sections: [
        { id: "s1", label: "prod" },
        { id: "s2", label: "dev" },
      ],
      fields: [
        { id: "credential", label: "credential", value: "sk-one" },
        { id: "f1", label: "key", value: "sk-prod", section: { id: "s1" } },
        { id: "f2", label: "key", value: "sk-dev", section: { id: "s2" } },
      ],
    };
    items = [item];
    connect = await startFakeConnect({ Keymeter: { id: VAULT, items } });
    store = createOnePassword({ address: connect.url, token: () => "connect-token" });
  });
  afterEach(async () => connect.close());

  it("reads by names and by ids, a field of a section too, and looks places up once", async () => {
    expect(await read(store, "op://Keymeter/OpenAI/credential")).toEqual({ text: "sk-one", version: "3" });
    expect(connect.journal.map(({ url }) => decodeURIComponent(url))).toEqual([
      '/v1/vaults?filter=name eq "Keymeter"',
      `/v1/vaults/${VAULT}/items?filter=title eq "OpenAI"`,
      `/v1/vaults/${VAULT}/items/${ITEM}`,
    ]);
    expect(new Set(connect.journal.map(({ authorization }) => authorization))).toEqual(
      new Set(["Bearer connect-token"]),
    );
    item.version = 4;
    (item.fields[0] as { value: string }).value = "sk-two";
    expect(await read(store, "op://Keymeter/OpenAI/credential")).toEqual({ text: "sk-two", version: "4" });
    expect(connect.journal).toHaveLength(4);
    expect((await read(store, "op://Keymeter/OpenAI/dev/key")).text).toBe("sk-dev");
    expect((await read(store, `op://${VAULT}/${ITEM}/f1`)).text).toBe("sk-prod");
    await expect(read(store, "op://Keymeter/OpenAI/key")).rejects.toThrow("2 fields are named key");
    await expect(read(store, "op://Keymeter/OpenAI/nothing")).rejects.toMatchObject({ why: "missing" });
    await expect(read(store, "op://Keymeter/Nobody/credential")).rejects.toThrow("there is no item Nobody");
    await expect(read(store, "op://Nowhere/OpenAI/credential")).rejects.toThrow("there is no vault Nowhere");
  });

  it("finds an item that was made anew under its name, and says what is refused, ambiguous or away", async () => {
    await read(store, "op://Keymeter/OpenAI/credential");
    items.splice(0, 1, { ...item, id: "anotheranotheranotheranot1", version: 1 });
    expect((await read(store, "op://Keymeter/OpenAI/credential")).version).toBe("1");
    items.push({ ...item });
    await expect(
      read(createOnePassword({ address: connect.url, token: () => "t" }), "op://Keymeter/OpenAI/credential"),
    ).rejects.toThrow("2 are named OpenAI");
    items.length = 0;
    await expect(read(store, "op://Keymeter/OpenAI/credential")).rejects.toMatchObject({ why: "missing" });
    connect.instead = (_request, response) => response.writeHead(401).end('{"status":401,"message":"Invalid token"}');
    await expect(read(store, "op://Keymeter/OpenAI/credential")).rejects.toMatchObject({ why: "refused" });
    connect.instead = (_request, response) => response.writeHead(502).end("bad gateway");
    await expect(read(store, "op://Keymeter/OpenAI/credential")).rejects.toMatchObject({ why: "away" });
  });

  it("may be asked as a service account instead; the real package refuses what is no token, and nothing repeats it", async () => {
    const account = createOnePassword({ account: () => "ops_no-token-of-any-account" });
    const refusal = await read(account, "op://Keymeter/OpenAI/credential").catch((error: unknown) => error);
    expect(refusal).toMatchObject({ name: "StoreError", why: "refused" });
    expect(String(refusal)).not.toContain("no-token-of");
    const config = loadProxyConfig({
      KEYMETER_DATA_DIR: mkdtempSync(join(tmpdir(), "keymeter-")),
      OP_SERVICE_ACCOUNT_TOKEN: "ops_one",
      OPENAI_API_KEY: "op://Keymeter/OpenAI/credential",
    });
    expect(config.own.openai.credential).toBeDefined();
    // A server that is named comes first, as for 1Password's own command.
    const both = loadProxyConfig({
      KEYMETER_DATA_DIR: mkdtempSync(join(tmpdir(), "keymeter-")),
      OP_SERVICE_ACCOUNT_TOKEN: "ops_one",
      OP_CONNECT_HOST: connect.url,
      OP_CONNECT_TOKEN: "connect-token",
      OPENAI_API_KEY: "op://Keymeter/OpenAI/credential",
    });
    (await openSecrets(both, log)).stop();
    expect(await both.own.openai.credential?.reveal()).toBe("sk-one");
  });

  it.skipIf(!hasClients)("answers here as its own client reads it", async () => {
    const { OnePasswordConnect } = requireClient("@1password/connect") as {
      OnePasswordConnect: (of: object) => {
        getVault(name: string): Promise<{ id: string }>;
        getItem(vault: string, name: string): Promise<{ version: number; fields: { label: string; value: string }[] }>;
      };
    };
    const client = OnePasswordConnect({ serverURL: connect.url, token: "connect-token", keepAlive: false });
    expect((await client.getVault("Keymeter")).id).toBe(VAULT);
    const found = await client.getItem(VAULT, "OpenAI");
    expect(found.version).toBe(3);
    expect(found.fields.find(({ label }) => label === "credential")?.value).toBe("sk-one");
  });
});

describe("Google's Secret Manager", () => {
  const NAME = "projects/p-1/secrets/openai";
  let versions: GoogleVersion[];
  let google: FakeStore;
  let store: Store;
  /** CRC32C as RFC 3720 has it: "123456789" is 0xe3069283. */
  const CHECKSUMS: { [data: string]: string } = {
    "123456789": String(0xe3069283),
    '{"key":"sk-of-a-field"}': "0",
  };
  beforeEach(async () => {
    versions = [{ data: "123456789", state: "ENABLED" }];
    google = await startFakeSecretManager({ [NAME]: versions }, (data) => CHECKSUMS[data] ?? "0");
    store = createGoogleStore({ address: google.url, token: async () => "a-token" });
  });
  afterEach(async () => google.close());

  it("is read as the newest version or a named one, whole by its checksum", async () => {
    expect(await read(store, `gcp-sm:${NAME}`)).toEqual({ text: "123456789", version: "1" });
    expect(google.journal[0]).toEqual({
      method: "GET",
      url: `/v1/${NAME}/versions/latest:access`,
      authorization: "Bearer a-token",
    });
    versions.push({ data: "not what was sent", state: "ENABLED" });
    await expect(read(store, `gcp-sm:${NAME}`)).rejects.toThrow("CRC32C");
    expect((await read(store, `gcp-sm:${NAME}/versions/1`)).text).toBe("123456789");
    (versions[0] as { state: string }).state = "DESTROYED";
    await expect(read(store, `gcp-sm:${NAME}/versions/1`)).rejects.toMatchObject({ why: "missing" });
    await expect(read(store, `gcp-sm:${NAME}/versions/9`)).rejects.toMatchObject({ why: "missing" });
    await expect(read(store, "gcp-sm:projects/p-1/secrets/none")).rejects.toMatchObject({ why: "missing" });
    google.instead = (_request, response) =>
      response.writeHead(403).end('{"error":{"code":403,"status":"PERMISSION_DENIED"}}');
    await expect(read(store, `gcp-sm:${NAME}`)).rejects.toMatchObject({ why: "refused" });
    const unsigned = createGoogleStore({
      address: google.url,
      token: () => Promise.reject(new Error("the key itself")),
    });
    await expect(read(unsigned, `gcp-sm:${NAME}`)).rejects.toThrow("there is no sign-in to Google");
  });

  it.skipIf(!hasClients)("answers here as its own client reads it", async () => {
    const { SecretManagerServiceClient } = requireClient("@google-cloud/secret-manager") as {
      SecretManagerServiceClient: new (of: object) => {
        accessSecretVersion(of: object): Promise<[{ payload?: { data?: Uint8Array } }]>;
        addSecretVersion(of: object): Promise<[{ name: string }]>;
        listSecretVersions(of: object): Promise<[{ name: string; state: string }[]]>;
        destroySecretVersion(of: object): Promise<unknown>;
        close(): Promise<void>;
      };
    };
    const { GoogleAuth, PassThroughClient } = requireClient("google-auth-library") as {
      GoogleAuth: new (of: object) => object;
      PassThroughClient: new () => object;
    };
    const client = new SecretManagerServiceClient({
      fallback: true,
      apiEndpoint: "127.0.0.1",
      port: google.port,
      protocol: "http",
      auth: new GoogleAuth({ authClient: new PassThroughClient() }),
    });
    const [{ payload }] = await client.accessSecretVersion({ name: `${NAME}/versions/latest` });
    expect(Buffer.from(payload?.data ?? []).toString()).toBe("123456789");
    const [added] = await client.addSecretVersion({ parent: NAME, payload: { data: Buffer.from("sk-two") } });
    expect([added.name, versions.at(-1)?.data]).toEqual([`${NAME}/versions/2`, "sk-two"]);
    await client.destroySecretVersion({ name: `${NAME}/versions/1` });
    const [all] = await client.listSecretVersions({ parent: NAME });
    expect(all.map(({ name, state }) => [name.split("/").at(-1), state])).toEqual([
      ["2", "ENABLED"],
      ["1", "DESTROYED"],
    ]);
    await client.close();
  });

  it("is asked as what the machine is, though the variable for a path is a reference", async () => {
    const metadata = await startFakeProvider(({ url }, response) => {
      response.writeHead(200, { "metadata-flavor": "Google", "content-type": "application/json" });
      response.end(
        url.includes("token") ? '{"access_token":"of-the-machine","expires_in":3600,"token_type":"Bearer"}' : "{}",
      );
    });
    vi.stubEnv("GCE_METADATA_HOST", new URL(metadata.url).host);
    vi.stubEnv("GOOGLE_APPLICATION_CREDENTIALS", `gcp-sm:${NAME}`);
    expect(await machineCredentials().reveal()).toBe("of-the-machine");
    expect(process.env["GOOGLE_APPLICATION_CREDENTIALS"]).toBe(`gcp-sm:${NAME}`);
    vi.unstubAllEnvs();
    await metadata.close();
  });

  it("is asked by a service account's own key file, and both stores through a proxy's settings", async () => {
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const folder = mkdtempSync(join(tmpdir(), "keymeter-google-"));
    const file = join(folder, "account.json");
    const key = privateKey.export({ type: "pkcs8", format: "pem" });
    writeFileSync(file, JSON.stringify({ type: "service_account", client_email: "k@p-1.test", private_key: key }));
    const config = loadProxyConfig({
      KEYMETER_DATA_DIR: folder,
      KEYMETER_SECRETS_GOOGLE_URL: google.url,
      KEYMETER_SECRETS_GOOGLE_CREDENTIALS: file,
      OPENAI_API_KEY: `gcp-sm:${NAME}`,
    });
    (await openSecrets(config, log)).stop();
    expect(await config.own.openai.credential?.reveal()).toBe("123456789");
    const [head = "", claims = ""] = (google.journal[0]?.authorization ?? "").replace("Bearer ", "").split(".");
    expect(JSON.parse(Buffer.from(head, "base64url").toString())).toMatchObject({ alg: "RS256" });
    expect(JSON.parse(Buffer.from(claims, "base64url").toString())).toMatchObject({ iss: "k@p-1.test" });
    const base = { KEYMETER_DATA_DIR: folder, OPENAI_API_KEY: "op://Keymeter/OpenAI/credential" };
    expect(() => loadProxyConfig(base)).toThrow("needs secrets.onepassword.address (OP_CONNECT_HOST)");
    expect(() => loadProxyConfig({ ...base, OP_CONNECT_HOST: "http://127.0.0.1:1" })).toThrow(
      "needs secrets.onepassword.token (OP_CONNECT_TOKEN)",
    );
    const gone = {
      KEYMETER_DATA_DIR: folder,
      OPENAI_API_KEY: `gcp-sm:${NAME}`,
      KEYMETER_SECRETS_GOOGLE_CREDENTIALS: "/none",
    };
    expect(() => loadProxyConfig(gone)).toThrow(
      "needs another secrets.google.credentials (KEYMETER_SECRETS_GOOGLE_CREDENTIALS): /none cannot be used",
    );
  });
});
