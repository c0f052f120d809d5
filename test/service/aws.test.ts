// AWS Secrets Manager by moto, whose IAM checks each signature, and what comes of sign-ins, rights and packages that are not
// there.
import {
  CreateSecretCommand,
  DeleteSecretCommand,
  PutSecretValueCommand,
  UpdateSecretVersionStageCommand,
} from "@aws-sdk/client-secrets-manager";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadProxyConfig } from "../../proxy/config.ts";
import { environmentOf } from "../../command/settings.ts";
import { createAwsStore } from "../../service/secrets/aws.ts";
import { openSecrets, secretsOf } from "../../service/secrets/index.ts";
import { loadPackage } from "../../service/secrets/package.ts";
import { MalformedReference, readReference } from "../../service/secrets/reference.ts";
import type { Reference } from "../../service/secrets/reference.ts";
import type { Found, Store } from "../../service/secrets/store.ts";
import { hasMoto, REGION, startMoto } from "../moto.ts";
import type { AccessKey, Moto } from "../moto.ts";
import { temporaryFolder } from "../start-proxy.ts";

const read = (store: Store, text: string): Promise<Found> =>
  store.read(readReference(text) as Reference, AbortSignal.timeout(5_000));

describe("a reference to AWS", () => {
  it.each([
    ["aws-sm:prod/openai#api_key", "prod/openai", "api_key"],
    ["aws-sm:openai", "openai", undefined],
    [
      "aws-sm:arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/openai-AbCdEf#key",
      "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/openai-AbCdEf",
      "key",
    ],
  ])("%s", (text, path, field) => {
    expect(readReference(text)).toMatchObject({ scheme: "aws-sm", path, ...(field === undefined ? {} : { field }) });
  });

  it.each(["aws-sm:", "aws-sm:a b", "aws-sm:a#", "aws-sm:arn:aws:s3:::bucket"])("%s is none", (text) => {
    expect(() => readReference(text)).toThrow(MalformedReference);
  });
});

describe("a sign-in to AWS", () => {
  it("needs both parts of an access key, and its secret is in another store", () => {
    const base = { KEYMETER_DATA_DIR: temporaryFolder(), OPENAI_API_KEY: "aws-sm:openai" };
    expect(() => loadProxyConfig({ ...base, KEYMETER_SECRETS_AWS_ACCESS_KEY_ID: "AKIAONE" })).toThrow(
      "secrets.aws.secret_access_key beside its id",
    );
    expect(() => loadProxyConfig({ ...base, KEYMETER_SECRETS_AWS_SECRET_ACCESS_KEY: "one" })).toThrow(
      "secrets.aws.access_key_id beside its secret",
    );
    const inside = { KEYMETER_SECRETS_AWS_ACCESS_KEY_ID: "A", KEYMETER_SECRETS_AWS_SECRET_ACCESS_KEY: "aws-sm:key" };
    expect(() => loadProxyConfig({ ...base, ...inside })).toThrow("it cannot open the store that it is in");
  });

  it("of the machine goes to the programs that need it, and to no others", () => {
    const machine = { AWS_PROFILE: "prod", AWS_WEB_IDENTITY_TOKEN_FILE: "/token", AZURE_CLIENT_ID: "one" };
    const given = (more: object): object => environmentOf("alerts", { ...machine, ...more });
    expect(given({})).toEqual({});
    expect(given({ SLACK_BOT_TOKEN: "aws-sm:slack" })).toMatchObject({ AWS_PROFILE: "prod" });
    expect(given({ SLACK_BOT_TOKEN: "aws-sm:slack" })).not.toHaveProperty("AZURE_CLIENT_ID");
    // What opens a store is for whoever has a secret there; what writes to GitHub is the command's alone.
    const opens = { VAULT_TOKEN: "hvs.one", OP_CONNECT_TOKEN: "two", KEYMETER_SECRETS_GITHUB_TOKEN: "ghp_three" };
    expect(given(opens)).toEqual({});
    expect(given({ ...opens, SLACK_BOT_TOKEN: "vault:secret/a#b" })).toMatchObject({ VAULT_TOKEN: "hvs.one" });
    expect(given({ ...opens, SLACK_BOT_TOKEN: "vault:secret/a#b" })).not.toHaveProperty("OP_CONNECT_TOKEN");
    for (const program of ["proxy", "collector", "alerts"] as const)
      expect(environmentOf(program, opens)).not.toHaveProperty("KEYMETER_SECRETS_GITHUB_TOKEN");
    expect(given({ SLACK_BOT_TOKEN: "azure-kv:https://v.vault.azure.net/slack" })).toMatchObject({
      AZURE_CLIENT_ID: "one",
    });
  });

  it("whose package is not installed says how to install it", async () => {
    // The name comes from the caller, so that nothing finds it before the test runs.
    const missing = "@aws-sdk/client-of-nothing";
    await expect(loadPackage(missing, () => import(missing))).rejects.toMatchObject({
      name: "StoreError",
      message: expect.stringContaining(`npm install --no-save ${missing}`) as string,
    });
  });

  it("that cannot be had, or a service that is away or says nonsense, is a sentence without a secret", async () => {
    const server = createServer((_request, response) => void response.writeHead(500).end("<html>secret-of-a-page"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const accessKey = { id: "AKIAONE", secret: () => "secret-of-a-key" };
    const store = createAwsStore({ region: REGION, address, accessKey });
    const said = async (): Promise<unknown> => await read(store, "aws-sm:openai").catch((error: unknown) => error);
    expect(await said()).toMatchObject({ name: "StoreError", why: "away" });
    expect(String(await said())).not.toMatch(/secret-of/);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    expect(await said()).toMatchObject({
      why: "away",
      message: expect.stringMatching(/\(ECONN(REFUSED|RESET)\)/) as string,
    });
  });
});

describe.skipIf(!hasMoto)("AWS Secrets Manager", () => {
  let aws: Moto;
  const storeOf = (key: AccessKey): Store =>
    createAwsStore({ region: REGION, address: aws.url, accessKey: { id: key.id, secret: () => key.secret } });
  beforeAll(async () => {
    aws = await startMoto();
  }, 60_000);
  afterAll(() => aws.stop());

  it("is read by the current version, by name or ARN, whole or a field; a version that is pending is not it", async () => {
    const client = aws.clientOf(aws.owner);
    const made = await client.send(
      new CreateSecretCommand({ Name: "prod/openai", SecretString: '{"api_key":"sk-one","other":1}' }),
    );
    const store = storeOf(aws.owner);
    expect(await read(store, "aws-sm:prod/openai#api_key")).toEqual({ text: "sk-one", version: made.VersionId });
    expect((await read(store, `aws-sm:${made.ARN}#api_key`)).text).toBe("sk-one");
    expect((await read(store, "aws-sm:prod/openai")).text).toBe('{"api_key":"sk-one","other":1}');
    const pending = await client.send(
      new PutSecretValueCommand({
        SecretId: "prod/openai",
        SecretString: '{"api_key":"sk-two"}',
        VersionStages: ["AWSPENDING"],
      }),
    );
    expect((await read(store, "aws-sm:prod/openai#api_key")).text).toBe("sk-one");
    const move = (to: string | undefined, from: string | undefined) =>
      client.send(
        new UpdateSecretVersionStageCommand({
          SecretId: "prod/openai",
          VersionStage: "AWSCURRENT",
          MoveToVersionId: to,
          RemoveFromVersionId: from,
        }),
      );
    await move(pending.VersionId, made.VersionId);
    expect(await read(store, "aws-sm:prod/openai#api_key")).toEqual({ text: "sk-two", version: pending.VersionId });
    // Rolled back behind our back.
    await move(made.VersionId, pending.VersionId);
    expect((await read(store, "aws-sm:prod/openai#api_key")).version).toBe(made.VersionId);
    await expect(read(store, "aws-sm:prod/openai#none")).rejects.toMatchObject({ why: "missing" });
  });

  it("refuses a wrong signature, an unknown key and a user without rights; what is deleted is missing", async () => {
    const client = aws.clientOf(aws.owner);
    await client.send(new CreateSecretCommand({ Name: "one", SecretString: "sk-of-one" }));
    expect((await read(storeOf(aws.owner), "aws-sm:one")).text).toBe("sk-of-one");
    for (const key of [{ id: aws.owner.id, secret: "wrong" }, { id: "AKIAUNKNOWN", secret: "one" }, aws.nobody]) {
      const refusal = await read(storeOf(key), "aws-sm:one").catch((error: unknown) => error);
      expect(refusal).toMatchObject({ name: "StoreError", why: "refused" });
      expect(String(refusal)).not.toContain("sk-of-one");
    }
    await expect(read(storeOf(aws.owner), "aws-sm:nothing")).rejects.toMatchObject({ why: "missing" });
    await client.send(new DeleteSecretCommand({ SecretId: "one" }));
    await expect(read(storeOf(aws.owner), "aws-sm:one")).rejects.toMatchObject({ why: "missing" });
  });

  it("is read through a proxy's settings, signed in by a key whose secret is in a file", async () => {
    const { writeFileSync } = await import("node:fs");
    const folder = temporaryFolder();
    writeFileSync(`${folder}/aws-secret`, aws.owner.secret);
    await aws.clientOf(aws.owner).send(new CreateSecretCommand({ Name: "through", SecretString: "sk-through" }));
    const config = loadProxyConfig({
      KEYMETER_DATA_DIR: folder,
      AWS_REGION: REGION,
      KEYMETER_SECRETS_AWS_URL: aws.url,
      KEYMETER_SECRETS_AWS_ACCESS_KEY_ID: aws.owner.id,
      KEYMETER_SECRETS_AWS_SECRET_ACCESS_KEY: `file:${folder}/aws-secret`,
      OPENAI_API_KEY: "aws-sm:through",
    });
    (await openSecrets(config, { warn: () => undefined, info: () => undefined })).stop();
    expect(secretsOf(config).map(({ state }) => state.failure)).toEqual([undefined, undefined]);
    expect(await config.own.openai.credential?.reveal()).toBe("sk-through");
  });
});
