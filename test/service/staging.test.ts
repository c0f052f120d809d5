// The places beside a secret, for the one that follows it and the one that it followed: the same in a file, in Vault, at AWS,
// Google and Azure, and in 1Password. Other fields of the same secret stay as they are, whoever writes them meanwhile.
import { PutSecretValueCommand, CreateSecretCommand, GetSecretValueCommand } from "@aws-sdk/client-secrets-manager";
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { generate } from "selfsigned";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createAwsStore } from "../../service/secrets/aws.ts";
import { createAzureStore } from "../../service/secrets/azure.ts";
import { createGoogleStore } from "../../service/secrets/google.ts";
import { createFileStore } from "../../service/secrets/local.ts";
import { createOnePassword } from "../../service/secrets/onepassword.ts";
import { readReference } from "../../service/secrets/reference.ts";
import type { Reference } from "../../service/secrets/reference.ts";
import type { Staging, Store } from "../../service/secrets/store.ts";
import { createVault } from "../../service/secrets/vault.ts";
import { startFakeConnect, startFakeKeyVault, startFakeSecretManager } from "../fake/secret-stores.ts";
import type { AzureVersion, ConnectItem, FakeStore, GoogleVersion } from "../fake/secret-stores.ts";
import { hasMoto, REGION, startMoto } from "../moto.ts";
import type { Moto } from "../moto.ts";
import { hasOpenBao, ROOT_TOKEN, startOpenBao } from "../openbao.ts";
import type { OpenBao } from "../openbao.ts";
import { temporaryFolder } from "../start-proxy.ts";

type Bench = {
  readonly store: Store;
  readonly reference: string;
  /** All fields, as anybody writes and reads them. */
  write(fields: object): Promise<void>;
  read(): Promise<{ readonly [field: string]: unknown }>;
};

let bao: OpenBao | undefined;
let aws: Moto | undefined;
beforeAll(async () => {
  if (hasOpenBao) bao = await startOpenBao();
  if (hasMoto) aws = await startMoto();
}, 60_000);
afterAll(async () => {
  await bao?.stop();
  await aws?.stop();
});

let made = 0;
const KINDS: readonly (readonly [name: string, isHere: boolean, make: () => Promise<Bench>])[] = [
  [
    "a file",
    true,
    async () => {
      const path = join(temporaryFolder(), "keys.json");
      return {
        store: createFileStore(),
        reference: `file:${path}#key`,
        write: async (fields) => writeFileSync(path, JSON.stringify(fields), { mode: 0o640 }),
        read: async () => JSON.parse(readFileSync(path, "utf8")) as { [field: string]: unknown },
      };
    },
  ],
  [
    "Vault",
    hasOpenBao,
    async () => {
      const name = `staging/${(made += 1)}`;
      const { url, put, ask } = bao as OpenBao;
      return {
        store: createVault({ address: url, login: { by: "token", token: () => ROOT_TOKEN } }),
        reference: `vault:secret/${name}#key`,
        write: (fields) => put(name, fields as { [field: string]: unknown }),
        read: async () => {
          const { data } = (await ask("GET", `secret/data/${name}`)) as {
            data: { data: { [field: string]: unknown } };
          };
          return data.data;
        },
      };
    },
  ],
  [
    "AWS",
    hasMoto,
    async () => {
      const name = `staging/${(made += 1)}`;
      const { url, owner, clientOf } = aws as Moto;
      const client = clientOf(owner);
      let isMade = false;
      return {
        store: createAwsStore({
          region: REGION,
          address: url,
          accessKey: { id: owner.id, secret: () => owner.secret },
        }),
        reference: `aws-sm:${name}#key`,
        async write(fields) {
          const text = JSON.stringify(fields);
          if (isMade) await client.send(new PutSecretValueCommand({ SecretId: name, SecretString: text }));
          else await client.send(new CreateSecretCommand({ Name: name, SecretString: text }));
          isMade = true;
        },
        read: async () => {
          const answer = await client.send(new GetSecretValueCommand({ SecretId: name, VersionStage: "AWSCURRENT" }));
          return JSON.parse(answer.SecretString ?? "") as { [field: string]: unknown };
        },
      };
    },
  ],
  [
    "Google",
    true,
    async () => {
      const name = "projects/p-1/secrets/keys";
      const versions: GoogleVersion[] = [];
      const fake = await startFakeSecretManager({ [name]: versions }, () => undefined);
      fakes.push(fake);
      return {
        store: createGoogleStore({ address: fake.url, token: async () => "a-token" }),
        reference: `gcp-sm:${name}#key`,
        write: async (fields) => void versions.push({ data: JSON.stringify(fields), state: "ENABLED" }),
        read: async () => JSON.parse(versions.at(-1)?.data ?? "") as { [field: string]: unknown },
      };
    },
  ],
  [
    "Azure",
    true,
    async () => {
      const versions: AzureVersion[] = [];
      const fake = await startFakeKeyVault({ keys: versions }, { key: pems.private, cert: pems.cert });
      fakes.push(fake);
      const application = { tenantId: "tenant", clientId: "app", secret: () => "secret-of-the-app" };
      return {
        store: createAzureStore({ application, authority: fake.url }),
        reference: `azure-kv:${fake.url}/keys#key`,
        write: async (fields) => {
          const created = 1_790_000_000 + versions.length;
          const id = String(created).padStart(32, "0");
          versions.push({ id, value: JSON.stringify(fields), isEnabled: true, created, contentType: "json" });
        },
        read: async () => {
          const { value = "", contentType } = versions.at(-1) ?? {};
          expect(contentType).toBe("json");
          return JSON.parse(value) as { [field: string]: unknown };
        },
      };
    },
  ],
  [
    "1Password's Connect",
    true,
    async () => {
      const item: ConnectItem = { id: "i".repeat(26), title: "Keys", version: 1, sections: [], fields: [] };
      const fake = await startFakeConnect({ Keymeter: { id: "v".repeat(26), items: [item] } });
      fakes.push(fake);
      return {
        store: createOnePassword({ address: fake.url, token: () => "connect-token" }),
        reference: "op://Keymeter/Keys/key",
        async write(fields) {
          for (const [label, value] of Object.entries(fields)) {
            const found = item.fields.find((one) => one.label === label);
            if (found) found.value = String(value);
            else item.fields.push({ id: `f-${label}`, label, value: String(value) });
          }
        },
        read: async () => Object.fromEntries(item.fields.map(({ label, value }) => [label, value])),
      };
    },
  ],
];

const fakes: FakeStore[] = [];
let pems: { readonly private: string; readonly cert: string };
const before = getCACertificates("default");
beforeAll(async () => {
  pems = await generate([{ name: "commonName", value: "127.0.0.1" }], {
    extensions: [{ name: "subjectAltName", altNames: [{ type: 7, ip: "127.0.0.1" }] }],
  });
  setDefaultCACertificates([...before, pems.cert]);
});
afterAll(async () => {
  setDefaultCACertificates(before);
  for (const fake of fakes) await fake.close();
});

const soon = (): AbortSignal => AbortSignal.timeout(10_000);

describe.each(KINDS)("staging in %s", (_name, isHere, make) => {
  it.skipIf(!isHere)(
    "keeps the next one apart, makes it current, goes back, and clears; each may be said twice",
    async () => {
      const { store, reference: text, write, read } = await make();
      const reference = readReference(text) as Reference;
      const staging = store.staging?.(reference) as Staging;
      const current = async (): Promise<string> => (await store.read(reference, soon())).text;
      await write({ key: "sk-one", other: "theirs" });
      expect(await staging.staged(soon())).toBeUndefined();
      await staging.promote(soon());
      expect(await current()).toBe("sk-one");

      await staging.stage("sk-thrown away", soon());
      await staging.stage("sk-two", soon());
      expect([await current(), await staging.staged(soon())]).toEqual(["sk-one", "sk-two"]);
      await staging.promote(soon());
      await staging.promote(soon());
      expect([await current(), await staging.previous(soon())]).toEqual(["sk-two", "sk-one"]);
      expect(await staging.staged(soon())).toBeUndefined();
      expect(await read()).toMatchObject({ key: "sk-two", other: "theirs" });

      await staging.restore(soon());
      expect(await current()).toBe("sk-one");
      expect(await read()).toMatchObject({ other: "theirs" });
      await staging.clear(soon());
      await staging.clear(soon());
      expect([await current(), await staging.staged(soon())]).toEqual(["sk-one", undefined]);
    },
  );

  it.skipIf(!isHere)("takes along what others wrote into other fields meanwhile", async () => {
    const { store, reference: text, write, read } = await make();
    const staging = store.staging?.(readReference(text) as Reference) as Staging;
    await write({ key: "sk-one", other: "before" });
    await staging.stage("sk-two", soon());
    await write({ ...(await read()), other: "after" });
    await staging.promote(soon());
    expect(await read()).toMatchObject({ key: "sk-two", other: "after" });
  });
});

describe("a file that is replaced", () => {
  it("keeps its mode, is reached through a link, and leaves nothing beside it", async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "real"));
    const real = join(folder, "real", "key");
    writeFileSync(real, "sk-one\n");
    chmodSync(real, 0o640);
    const link = join(folder, "key");
    symlinkSync(real, link);
    const before = process.umask(0o077);
    const reference = readReference(`file:${link}`) as Reference;
    const staging = createFileStore().staging?.(reference) as Staging;
    await staging.stage("sk-two", soon());
    expect(statSync(`${real}.next`).mode & 0o777).toBe(0o640);
    await staging.promote(soon());
    process.umask(before);
    expect(readFileSync(link, "utf8")).toBe("sk-two");
    expect(statSync(real).mode & 0o777).toBe(0o640);
    await staging.clear(soon());
    expect([`${real}.next`, `${real}.previous`, `${real}.tmp`].filter((path) => existsSync(path))).toEqual([]);
  });

  it("in a folder that may not be written, or that is gone, says so", async () => {
    const gone = readReference("file:/nowhere/key") as Reference;
    const staging = createFileStore().staging?.(gone) as Staging;
    await expect(staging.stage("sk-two", soon())).rejects.toMatchObject({ name: "StoreError", why: "missing" });
  });
});
