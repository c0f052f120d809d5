// AWS of a test, on 127.0.0.1: moto, whose IAM checks each signature. PyPI has it: test/servers/requirements.txt.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { freePorts } from "./free-ports.ts";
import { noteSkipped } from "./skipped.ts";

const program = fileURLToPath(new URL("servers/venv/bin/moto_server", import.meta.url));

export const hasMoto = existsSync(program);
if (!hasMoto)
  noteSkipped("moto is not here (test/servers/requirements.txt); tests of AWS, with signatures checked, are skipped");

const START_MS = 30_000;
export const REGION = "eu-central-1";

export type AccessKey = { readonly id: string; readonly secret: string };

export type Moto = {
  readonly url: string;
  /** May do everything with secrets and metrics. */
  readonly owner: AccessKey;
  /** May do nothing. */
  readonly nobody: AccessKey;
  clientOf(key: AccessKey): SecretsManagerClient;
  stop(): Promise<void>;
};

export async function startMoto(): Promise<Moto> {
  const port = Number((await freePorts())["KEYMETER_PORT"]);
  const url = `http://127.0.0.1:${port}`;
  const child = spawn(program, ["-H", "127.0.0.1", "-p", String(port)], {
    // So many actions make who may act; from then on none passes without a right signature.
    env: { PATH: process.env["PATH"] ?? "", INITIAL_NO_AUTH_ACTION_COUNT: "5" },
    stdio: "ignore",
  });
  const deadline = Date.now() + START_MS;
  for (;;) {
    const isUp = await fetch(`${url}/moto-api/data.json`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (isUp) break;
    if (Date.now() > deadline || child.exitCode !== null) throw new Error("moto did not start");
    await sleep(100);
  }
  const iam = async (action: string, more: { readonly [name: string]: string }): Promise<string> => {
    const answer = await fetch(url, {
      method: "POST",
      headers: {
        authorization: `AWS4-HMAC-SHA256 Credential=first/20260101/${REGION}/iam/aws4_request, SignedHeaders=host, Signature=none`,
      },
      body: new URLSearchParams({ Action: action, Version: "2010-05-08", ...more }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${action}: ${answer.status} ${text}`);
    return text;
  };
  const keyOf = async (user: string): Promise<AccessKey> => {
    const made = await iam("CreateAccessKey", { UserName: user });
    const part = (name: string): string => new RegExp(`<${name}>([^<]+)</${name}>`).exec(made)?.[1] ?? "";
    return { id: part("AccessKeyId"), secret: part("SecretAccessKey") };
  };
  const allow = {
    Version: "2012-10-17",
    Statement: [{ Effect: "Allow", Action: ["secretsmanager:*", "cloudwatch:*", "monitoring:*"], Resource: "*" }],
  };
  await iam("CreateUser", { UserName: "owner" });
  await iam("PutUserPolicy", { UserName: "owner", PolicyName: "all", PolicyDocument: JSON.stringify(allow) });
  const owner = await keyOf("owner");
  await iam("CreateUser", { UserName: "nobody" });
  const nobody = await keyOf("nobody");
  return {
    url,
    owner,
    nobody,
    clientOf: ({ id, secret }) =>
      new SecretsManagerClient({
        region: REGION,
        endpoint: url,
        maxAttempts: 1,
        credentials: { accessKeyId: id, secretAccessKey: secret },
      }),
    async stop() {
      const ended = new Promise((resolve) => child.once("close", resolve));
      child.kill("SIGKILL");
      await ended;
    },
  };
}
