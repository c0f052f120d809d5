// The places beside a secret, for the one that follows it and the one that it followed: the same in a file, in Vault and at
// AWS. Other fields of the same secret stay as they are, whoever writes them meanwhile.
import { PutSecretValueCommand, CreateSecretCommand, GetSecretValueCommand } from "@aws-sdk/client-secrets-manager";
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createAwsStore } from "../../service/secrets/aws.ts";
import { createFileStore } from "../../service/secrets/local.ts";
import { readReference } from "../../service/secrets/reference.ts";
import type { Reference } from "../../service/secrets/reference.ts";
import type { Staging, Store } from "../../service/secrets/store.ts";
import { createVault } from "../../service/secrets/vault.ts";
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
];

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
