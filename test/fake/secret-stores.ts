// Stand-ins of secret stores that no package has as a server: 1Password's Connect, Google's Secret Manager, Azure's Key Vault
// with its sign-in, after their documented answers. Their makers' own clients read them too (secret-stores.test.ts,
// azure.test.ts). Each keeps a journal.
import { createServer } from "node:http";
import type { RequestListener, Server } from "node:http";
import { createServer as createSecureServer } from "node:https";
import type { AddressInfo } from "node:net";

type Journal = { readonly method: string; readonly url: string; readonly authorization: string }[];

export type FakeStore = {
  readonly url: string;
  readonly port: number;
  readonly journal: Journal;
  /** Answers instead of it, when so many calls more were answered. */
  instead: RequestListener | undefined;
  spared: number;
  close(): Promise<void>;
};

type Given = { readonly method: string; readonly body: unknown };
type Answered = { status: number; body: object; headers?: { [name: string]: string } };

async function serve(
  answer: (path: string, query: URLSearchParams, authorization: string, given: Given) => Answered,
  tls?: { readonly key: string; readonly cert: string },
): Promise<FakeStore> {
  const journal: Journal = [];
  const listener: RequestListener = (request, response) => {
    const url = new URL(request.url ?? "/", "http://127.0.0.1");
    journal.push({
      method: request.method ?? "",
      url: request.url ?? "",
      authorization: request.headers.authorization ?? "",
    });
    if (fake.instead && fake.spared-- <= 0) {
      fake.instead(request, response);
      return;
    }
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const sent = Buffer.concat(chunks).toString("utf8");
      const { status, body, headers } = answer(
        decodeURIComponent(url.pathname),
        url.searchParams,
        request.headers.authorization ?? "",
        { method: request.method ?? "", body: sent.startsWith("{") || sent.startsWith("[") ? JSON.parse(sent) : sent },
      );
      response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
    });
  };
  const server: Server = tls ? createSecureServer(tls, listener) : createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const fake: FakeStore = {
    url: `http${tls ? "s" : ""}://127.0.0.1:${port}`,
    port,
    journal,
    instead: undefined,
    spared: 0,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  return fake;
}

type Field = { readonly id: string; readonly label: string; value: string; readonly section?: { readonly id: string } };
type Change = { readonly op: string; readonly path: string; readonly value?: unknown };
export type ConnectItem = {
  readonly id: string;
  title: string;
  version: number;
  readonly sections: readonly { readonly id: string; readonly label: string }[];
  readonly fields: Field[];
};

/** Vaults by name, each with its items. */
export function startFakeConnect(vaults: { [name: string]: { id: string; items: ConnectItem[] } }): Promise<FakeStore> {
  const named = (query: URLSearchParams, field: string): string | undefined =>
    new RegExp(`^${field} eq "(.*)"$`).exec(query.get("filter") ?? "")?.[1];
  return serve((path, query, _authorization, { method, body }) => {
    const [, , vaultId, , itemId] = path.replace(/\/$/, "").split("/").slice(1);
    const all = Object.entries(vaults).map(([name, { id, items }]) => ({
      id,
      name,
      attributeVersion: 1,
      contentVersion: 1,
      items: items.length,
      type: "USER_CREATED",
    }));
    if (vaultId === undefined) {
      const wanted = named(query, "name");
      return { status: 200, body: all.filter(({ name }) => wanted === undefined || name === wanted) };
    }
    const vault = Object.values(vaults).find(({ id }) => id === vaultId);
    if (!vault) return { status: 404, body: { status: 404, message: `Vault ${vaultId} not found` } };
    const summary = ({ id, title, version }: ConnectItem): object => ({
      id,
      title,
      version,
      vault: { id: vaultId },
      category: "API_CREDENTIAL",
    });
    if (itemId === undefined) {
      const wanted = named(query, "title");
      return {
        status: 200,
        body: vault.items.filter(({ title }) => wanted === undefined || title === wanted).map(summary),
      };
    }
    const item = vault.items.find(({ id }) => id === itemId);
    if (!item) return { status: 404, body: { status: 404, message: `Item ${itemId} not found` } };
    if (method === "PATCH") {
      const failed = patchFields(item.fields, body as readonly Change[]);
      if (failed !== undefined) return { status: 400, body: { status: 400, message: failed } };
      item.version += 1;
    }
    return { status: 200, body: { ...summary(item), sections: item.sections, fields: item.fields } };
  });
}

/** JSON Patch of an item's fields, whole or not at all; what was wrong. */
function patchFields(fields: Field[], changes: readonly Change[]): string | undefined {
  const made = structuredClone(fields);
  for (const { op, path, value } of changes) {
    const [, id, part] = /^\/fields(?:\/([^/]+)(\/value)?)?$/.exec(path) ?? [];
    const at = made.findIndex((one) => one.id === id);
    if (op === "add" && id === undefined)
      made.push({ id: `f-${made.length}-${Date.now()}`, ...(value as Omit<Field, "id">) });
    else if (op === "replace" && part !== undefined && at >= 0) (made[at] as Field).value = String(value);
    else if (op === "remove" && part === undefined && at >= 0) made.splice(at, 1);
    else return `no such change: ${op} ${path}`;
  }
  fields.splice(0, fields.length, ...made);
  return undefined;
}

export type GoogleVersion = { readonly data: string; state: "ENABLED" | "DISABLED" | "DESTROYED" };

/** Secrets by `projects/p/secrets/s`, each with its versions. `checksum` of what is sent along. */
export function startFakeSecretManager(
  secrets: { [name: string]: GoogleVersion[] },
  checksum: (data: string) => string | undefined,
): Promise<FakeStore> {
  return serve((path, query, _authorization, { method: how, body: sent }) => {
    const [, name = "", version = "", method] =
      /^\/v1\/(projects\/[^/]+\/secrets\/[^/:]+)(?:\/versions(?:\/(\w+))?)?(?::(\w+))?$/.exec(path) ?? [];
    const versions = secrets[name];
    const failed = (code: number, status: string): { status: number; body: object } => ({
      status: code,
      body: { error: { code, status, message: `${path}: ${status}` } },
    });
    const [, project] = /^\/v1\/(projects\/[^/]+)\/secrets$/.exec(path) ?? [];
    if (project !== undefined && how === "POST") {
      const made = `${project}/secrets/${query.get("secretId")}`;
      if (secrets[made]) return failed(409, "ALREADY_EXISTS");
      secrets[made] = [];
      return { status: 200, body: { name: made, ...(sent as object) } };
    }
    if (!versions) return failed(404, "NOT_FOUND");
    if (method === "addVersion") {
      const { data } = (sent as { payload: { data: string } }).payload;
      versions.push({ data: Buffer.from(data, "base64").toString("utf8"), state: "ENABLED" });
      return { status: 200, body: { name: `${name}/versions/${versions.length}`, state: "ENABLED" } };
    }
    if (path.endsWith("/versions")) {
      const all = versions.map(({ state }, i) => ({ name: `${name}/versions/${i + 1}`, state }));
      const isOpen = query.get("filter") === "state:ENABLED";
      return { status: 200, body: { versions: all.filter((one) => !isOpen || one.state === "ENABLED").toReversed() } };
    }
    if (version === "" && method === undefined)
      return {
        status: 200,
        body: { name, replication: { userManaged: { replicas: [{ location: "europe-west3" }] } } },
      };
    const number = version === "latest" ? versions.length : Number(version);
    const found = versions[number - 1];
    if (!found) return failed(404, "NOT_FOUND");
    if (method === "destroy") {
      found.state = "DESTROYED";
      return { status: 200, body: { name: `${name}/versions/${number}`, state: "DESTROYED" } };
    }
    if (found.state !== "ENABLED") return failed(400, "FAILED_PRECONDITION");
    const data = Buffer.from(found.data).toString("base64");
    return {
      status: 200,
      body: { name: `${name}/versions/${number}`, payload: { data, dataCrc32c: checksum(found.data) } },
    };
  });
}

export type AzureVersion = {
  readonly id: string;
  readonly value: string;
  isEnabled: boolean;
  readonly created?: number;
  readonly contentType?: string;
};

/** Secrets of a vault by name, each with its versions, and the sign-in of tenant `tenant` to it, both over TLS. */
export function startFakeKeyVault(
  secrets: { [name: string]: AzureVersion[] },
  tls: { readonly key: string; readonly cert: string },
): Promise<FakeStore> {
  const failed = (status: number, code: string, inner?: string): Answered => ({
    status,
    body: { error: { code, message: `${code} of a test`, ...(inner ? { innererror: { code: inner } } : {}) } },
  });
  const TOKEN = "token-of-azure";
  const fake = serve((path, query, authorization, { method, body: sent }) => {
    const base = `https://127.0.0.1:${portOf()}`;
    if (path.endsWith("/.well-known/openid-configuration"))
      return {
        status: 200,
        body: {
          issuer: `${base}/tenant/v2.0`,
          authorization_endpoint: `${base}/tenant/oauth2/v2.0/authorize`,
          token_endpoint: `${base}/tenant/oauth2/v2.0/token`,
          jwks_uri: `${base}/tenant/discovery/v2.0/keys`,
        },
      };
    if (path === "/tenant/oauth2/v2.0/token")
      return { status: 200, body: { token_type: "Bearer", expires_in: 3600, access_token: TOKEN } };
    const [, name = "", version] = /^\/secrets\/([\w-]+)(?:\/(\w*))?$/.exec(path) ?? [];
    if (authorization !== `Bearer ${TOKEN}`)
      return {
        ...failed(401, "Unauthorized"),
        headers: {
          "www-authenticate": `Bearer authorization="${base}/tenant", resource="https://vault.azure.net"`,
        },
      };
    const versions = secrets[name] ?? [];
    const attributesOf = ({ isEnabled, created = 1_790_000_000 }: AzureVersion): object => ({
      enabled: isEnabled,
      created,
      updated: created,
      recoveryLevel: "Recoverable",
    });
    if (method === "PUT") {
      const { value, contentType } = sent as { value: string; contentType?: string };
      const created = 1_790_000_000 + versions.length;
      const id = String(created).padStart(32, "0");
      versions.push({ id, value, isEnabled: true, created, ...(contentType === undefined ? {} : { contentType }) });
      secrets[name] = versions;
    }
    if (version === "versions") {
      if (versions.length === 0) return failed(404, "SecretNotFound");
      // Pages of two, in no order.
      const from = Number(query.get("skip") ?? 0);
      const value = versions
        .slice(from, from + 2)
        .map((one) => ({ id: `${base}/secrets/${name}/${one.id}`, attributes: attributesOf(one) }));
      const nextLink =
        from + 2 < versions.length ? `${base}/secrets/${name}/versions?api-version=7.4&skip=${from + 2}` : null;
      return { status: 200, body: { value, nextLink } };
    }
    const found = version ? versions.find(({ id }) => id === version) : versions.at(-1);
    if (!found) return failed(404, "SecretNotFound");
    if (method === "PATCH") {
      found.isEnabled = (sent as { attributes: { enabled: boolean } }).attributes.enabled;
      return { status: 200, body: { id: `${base}/secrets/${name}/${found.id}`, attributes: attributesOf(found) } };
    }
    if (!found.isEnabled) return failed(403, "Forbidden", "SecretDisabled");
    const { contentType } = found;
    const id = `${base}/secrets/${name}/${found.id}`;
    return { status: 200, body: { value: found.value, id, contentType, attributes: attributesOf(found) } };
  }, tls);
  let port = 0;
  const portOf = (): number => port;
  return fake.then((started) => {
    ({ port } = started);
    return started;
  });
}
