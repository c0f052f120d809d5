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
  /** Answers instead of it. */
  instead: RequestListener | undefined;
  close(): Promise<void>;
};

type Answered = { status: number; body: object; headers?: { [name: string]: string } };

async function serve(
  answer: (path: string, query: URLSearchParams, authorization: string) => Answered,
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
    if (fake.instead) {
      fake.instead(request, response);
      return;
    }
    const { status, body, headers } = answer(
      decodeURIComponent(url.pathname),
      url.searchParams,
      request.headers.authorization ?? "",
    );
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
  };
  const server: Server = tls ? createSecureServer(tls, listener) : createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const fake: FakeStore = {
    url: `http${tls ? "s" : ""}://127.0.0.1:${port}`,
    port,
    journal,
    instead: undefined,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  return fake;
}

type Field = { readonly id: string; readonly label: string; value: string; readonly section?: { readonly id: string } };
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
  return serve((path, query) => {
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
    return { status: 200, body: { ...summary(item), sections: item.sections, fields: item.fields } };
  });
}

export type GoogleVersion = { readonly data: string; state: "ENABLED" | "DISABLED" | "DESTROYED" };

/** Secrets by `projects/p/secrets/s`, each with its versions. `checksum` of what is sent along. */
export function startFakeSecretManager(
  secrets: { [name: string]: GoogleVersion[] },
  checksum: (data: string) => string,
): Promise<FakeStore> {
  return serve((path) => {
    const [, name = "", version = "", method] =
      /^\/v1\/(projects\/[^/]+\/secrets\/[^/]+)\/versions\/(\w+):(\w+)$/.exec(path) ?? [];
    const versions = secrets[name];
    const failed = (code: number, status: string): { status: number; body: object } => ({
      status: code,
      body: { error: { code, status, message: `${path}: ${status}` } },
    });
    if (!versions || method !== "access") return failed(404, "NOT_FOUND");
    const number = version === "latest" ? versions.length : Number(version);
    const found = versions[number - 1];
    if (!found) return failed(404, "NOT_FOUND");
    if (found.state !== "ENABLED") return failed(400, "FAILED_PRECONDITION");
    const data = Buffer.from(found.data).toString("base64");
    return {
      status: 200,
      body: { name: `${name}/versions/${number}`, payload: { data, dataCrc32c: checksum(found.data) } },
    };
  });
}

export type AzureVersion = { readonly id: string; readonly value: string; isEnabled: boolean };

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
  const fake = serve((path, _query, authorization) => {
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
    const found = version ? versions.find(({ id }) => id === version) : versions.at(-1);
    if (!found) return failed(404, "SecretNotFound");
    if (!found.isEnabled) return failed(403, "Forbidden", "SecretDisabled");
    const attributes = { enabled: true, created: 1_790_000_000, updated: 1_790_000_000, recoveryLevel: "Recoverable" };
    return { status: 200, body: { value: found.value, id: `${base}/secrets/${name}/${found.id}`, attributes } };
  }, tls);
  let port = 0;
  const portOf = (): number => port;
  return fake.then((started) => {
    ({ port } = started);
    return started;
  });
}
