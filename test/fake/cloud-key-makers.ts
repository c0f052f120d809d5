// Clouds that make keys, after the documented answers of Google's IAM, of AWS's IAM (its Query protocol) and of Azure's management
// API with the sign-in of a machine. Keys have no names there.
import { createPrivateKey, createPublicKey, createVerify, generateKeyPairSync, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingHttpHeaders, Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { FakeKey, KeyRing } from "./made-keys.ts";

export const IAM_KEY_ID = "AKIAOFATEST0123456789";
const ACCOUNT = "proxy@a-test.iam.gserviceaccount.com";
const AWS_ACCOUNT = "123456789012";
export const AZURE_RESOURCE =
  "/subscriptions/0-1/resourceGroups/rg/providers/Microsoft.CognitiveServices/accounts/models";

type Given = {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly adminKey: string;
};
export type CloudAnswer = { readonly status: number; readonly body: object | string };

/** A service account's key file, as Google makes it. */
export function serviceAccountFile(email = ACCOUNT): { readonly id: string; readonly text: string } {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const id = randomBytes(20).toString("hex");
  const file = {
    type: "service_account",
    project_id: "a-test",
    private_key_id: id,
    private_key: privateKey.export({ type: "pkcs8", format: "pem" }),
    client_email: email,
    token_uri: "https://oauth2.googleapis.com/token",
  };
  return { id, text: `${JSON.stringify(file, null, 2)}\n` };
}

/** When it was made, as clouds say it: to the second. */
function secondOf({ madeAtMs }: FakeKey): string {
  return `${new Date(madeAtMs).toISOString().slice(0, 19)}Z`;
}

/** Whether a token was signed by that key, and holds now. */
export function isSignedBy(token: string, keyFile: string): boolean {
  const [head = "", body = "", signature = ""] = token.split(".");
  if (signature === "" || !keyFile.startsWith("{")) return false;
  const { private_key: pem, private_key_id: id } = JSON.parse(keyFile) as {
    private_key: string;
    private_key_id: string;
  };
  const parse = (part: string): { readonly kid?: string; readonly exp?: number } =>
    JSON.parse(Buffer.from(part, "base64url").toString()) as object;
  if (parse(head).kid !== id || (parse(body).exp ?? 0) * 1000 < Date.now()) return false;
  const verify = createVerify("RSA-SHA256").update(`${head}.${body}`);
  return verify.verify(createPublicKey(createPrivateKey(pem)), signature, "base64url");
}

/** A Bedrock key: the name that IAM shows of it, and what is secret. */
export function bedrockKey(user: string): { readonly alias: string; readonly value: string } {
  const alias = `${user}-at-${AWS_ACCOUNT}-${randomBytes(3).toString("hex")}`;
  return { alias, value: `ABSK${Buffer.from(`${alias}:${randomBytes(24).toString("base64")}`).toString("base64")}` };
}

/** What a cloud's admin API answers; undefined: it is none of theirs. */
export function administerCloud(fake: KeyRing, given: Given): CloudAnswer | undefined {
  const { url } = given;
  if (url.pathname.startsWith("/v1/projects/-/serviceAccounts/")) return googleIam(fake, given);
  if (url.pathname.startsWith(AZURE_RESOURCE)) return azureAccount(fake, given);
  return url.pathname === "/" && given.method === "POST" ? awsIam(fake, given) : undefined;
}

/** As App Service and others sign a machine in: variables for a program that is to be such a machine. One server for all of a
 *  process, for Azure's package asks where it asked first. */
export async function machineOfAzure(token: string): Promise<{ readonly [name: string]: string }> {
  machine ??= new Promise((resolve) => {
    const server = createServer(({ url = "/", headers }, response) => {
      const resource = new URL(url, "http://127.0.0.1").searchParams.get("resource");
      const until = String(Math.floor(Date.now() / 1000) + 3600);
      const body = { access_token: token, expires_on: until, resource, token_type: "Bearer" };
      response.writeHead(headers["x-identity-header"] === undefined ? 401 : 200, {
        "content-type": "application/json",
      });
      response.end(JSON.stringify(body));
    });
    server.listen(0, "127.0.0.1", () => resolve(server.unref()));
  });
  const { port } = (await machine).address() as AddressInfo;
  return { IDENTITY_ENDPOINT: `http://127.0.0.1:${port}/msi/token`, IDENTITY_HEADER: "of-a-test" };
}
let machine: Promise<Server> | undefined;

function googleIam({ keys, add, adminFile }: KeyRing, { method, url, headers }: Given): CloudAnswer {
  const failed = (code: number, status: string): CloudAnswer => ({
    status: code,
    body: { error: { code, status, message: `${status} of a test` } },
  });
  const token = headers.authorization?.replace("Bearer ", "") ?? "";
  if (!isSignedBy(token, adminFile)) return failed(401, "UNAUTHENTICATED");
  const [, email = "", last = "", verb] =
    /^\/v1\/projects\/-\/serviceAccounts\/([^/]+)\/keys(?:\/(\w+))?(?::(\w+))?$/.exec(
      decodeURIComponent(url.pathname),
    ) ?? [];
  const named = (key: FakeKey): string => `projects/a-test/serviceAccounts/${email}/keys/${key.id}`;
  const live = keys.filter(({ state }) => state !== "revoked");
  if (last === "" && method === "GET")
    return {
      status: 200,
      body: {
        keys: live.map((key) => ({
          name: named(key),
          keyType: "USER_MANAGED",
          keyOrigin: "GOOGLE_PROVIDED",
          validAfterTime: secondOf(key),
          ...(key.state === "disabled" ? { disabled: true } : {}),
        })),
      },
    };
  if (last === "") {
    const { id, text } = serviceAccountFile(email);
    const made = add("", text, id);
    return { status: 200, body: { name: named(made), privateKeyData: Buffer.from(text).toString("base64") } };
  }
  const one = live.find(({ id }) => id === last);
  if (!one) return failed(404, "NOT_FOUND");
  if (method === "DELETE") {
    one.state = "revoked";
    one.revokedAtMs = Date.now();
  } else one.state = verb === "disable" ? "disabled" : "active";
  return { status: 200, body: {} };
}

function awsIam({ keys, add }: KeyRing, { headers, body }: Given): CloudAnswer {
  const asked = new URLSearchParams(body.toString("utf8"));
  const action = asked.get("Action") ?? "";
  const user = asked.get("UserName") ?? "";
  const failed = (status: number, code: string): CloudAnswer => ({
    status,
    body: `<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>${code}</Code><Message>${code} of a test</Message></Error><RequestId>r</RequestId></ErrorResponse>`,
  });
  if (!headers.authorization?.includes(`Credential=${IAM_KEY_ID}/`)) return failed(403, "InvalidClientTokenId");
  const answer = (result: string): CloudAnswer => ({
    status: 200,
    body: `<${action}Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><${action}Result>${result}</${action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></${action}Response>`,
  });
  const tag = (name: string, text: string): string => `<${name}>${text}</${name}>`;
  const aliasOf = ({ value }: FakeKey): string => Buffer.from(value.slice(4), "base64").toString().split(":")[0] ?? "";
  const shown = (key: FakeKey): string =>
    tag("UserName", user) +
    tag("Status", key.state === "active" ? "Active" : "Inactive") +
    tag("ServiceCredentialAlias", aliasOf(key)) +
    tag("CreateDate", secondOf(key)) +
    tag("ExpirationDate", new Date(key.madeAtMs + 60 * 86_400_000).toISOString()) +
    tag("ServiceSpecificCredentialId", key.id) +
    tag("ServiceName", "bedrock.amazonaws.com");
  const live = keys.filter(({ state }) => state !== "revoked");
  const one = live.find(({ id }) => id === asked.get("ServiceSpecificCredentialId"));
  switch (action) {
    case "ListServiceSpecificCredentials":
      return answer(tag("ServiceSpecificCredentials", live.map((key) => tag("member", shown(key))).join("")));
    case "CreateServiceSpecificCredential": {
      if (live.length >= 2) return failed(409, "LimitExceeded");
      const made = add("", bedrockKey(user).value, `ACCA${randomBytes(10).toString("hex").toUpperCase()}`);
      made.limits = { days: asked.get("CredentialAgeDays") };
      return answer(tag("ServiceSpecificCredential", shown(made) + tag("ServiceCredentialSecret", made.value)));
    }
    case "UpdateServiceSpecificCredential":
      if (!one) return failed(404, "NoSuchEntity");
      one.state = asked.get("Status") === "Active" ? "active" : "disabled";
      return answer("");
    case "DeleteServiceSpecificCredential":
      if (!one) return failed(404, "NoSuchEntity");
      one.state = "revoked";
      one.revokedAtMs = Date.now();
      return answer("");
    default:
      return failed(400, "InvalidAction");
  }
}

/** Two slots, each with a key at any time. */
function azureAccount({ keys, add }: KeyRing, { url, headers, body, adminKey }: Given): CloudAnswer {
  if (headers.authorization !== `Bearer ${adminKey}`) return { status: 401, body: { error: { code: "no token" } } };
  const inSlot = (slot: string): FakeKey | undefined => keys.find((key) => key.id === slot && key.state !== "revoked");
  if (url.pathname.endsWith("/regenerateKey")) {
    const { keyName } = JSON.parse(body.toString("utf8")) as { keyName: string };
    const before = inSlot(keyName);
    if (before) {
      before.state = "revoked";
      before.revokedAtMs = Date.now();
    }
    add("", randomBytes(16).toString("hex"), keyName);
  }
  return { status: 200, body: { key1: inSlot("Key1")?.value ?? "", key2: inSlot("Key2")?.value ?? "" } };
}
