// Providers that make keys, after the documented answers of OpenAI's, Anthropic's, OpenRouter's and xAI's admin APIs, and that
// answer chats to keys of theirs: which key each request came with stands in the journal. One server plays all of them.
import { randomBytes } from "node:crypto";
import { startFakeProvider } from "./provider.ts";
import type { FakeProvider, Script } from "./provider.ts";
import { answerSlowly } from "./slow-chat.ts";

export const ADMIN_KEY = "sk-admin-of-a-test-0123456789";

export type FakeKey = {
  readonly id: string;
  name: string;
  readonly value: string;
  state: "active" | "disabled" | "revoked";
  /** Other parts of the provider do not know it before. */
  usableAtMs: number;
  readonly usedAtMs: number[];
  revokedAtMs: number | undefined;
  /** What it may do, and how much, as its provider writes it. */
  limits: object;
};

export type FakeMakers = {
  readonly url: string;
  readonly provider: FakeProvider;
  readonly keys: FakeKey[];
  /** A key that is there already. */
  add(name: string, value?: string): FakeKey;
  /** How long a new key is refused. */
  delayMs: number;
  /** Answers the admin API instead. */
  instead: Script | undefined;
  close(): Promise<void>;
};

type Answer = { readonly status: number; readonly body: object };

export async function startFakeMakers(): Promise<FakeMakers> {
  const keys: FakeKey[] = [];
  const fake = {
    keys,
    delayMs: 0,
    instead: undefined as Script | undefined,
    add(name: string, value = `sk-made-${randomBytes(12).toString("hex")}`): FakeKey {
      const key: FakeKey = {
        id: `key_${randomBytes(6).toString("hex")}`,
        name,
        value,
        state: "active",
        usableAtMs: Date.now() + fake.delayMs,
        usedAtMs: [],
        revokedAtMs: undefined,
        limits: {},
      };
      keys.push(key);
      return key;
    },
  };
  const provider = await startFakeProvider(async (arrived, response, request) => {
    const url = new URL(arrived.url, "http://127.0.0.1");
    const { pathname } = url;
    const presented = arrived.headers.authorization?.replace("Bearer ", "") ?? String(arrived.headers["x-api-key"]);
    const send = ({ status, body }: Answer): void =>
      void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    const isAdmin = ADMIN_PATHS.test(pathname);
    if (isAdmin && fake.instead) return fake.instead(arrived, response, request);
    if (isAdmin) {
      if (presented !== ADMIN_KEY) return send({ status: 401, body: { error: { message: "no admin key" } } });
      const body = arrived.body.length > 0 ? (JSON.parse(arrived.body.toString()) as Body) : {};
      return send(administer(fake, arrived.method, url, body));
    }
    const key = keys.find(({ value }) => value === presented);
    if (!key || key.state !== "active" || Date.now() < key.usableAtMs)
      return send({ status: 401, body: { error: { type: "authentication_error", message: "invalid key" } } });
    if (arrived.method === "GET") return send({ status: 200, body: { data: [] } });
    key.usedAtMs.push(Date.now());
    await answerSlowly(arrived, response, request);
    key.usedAtMs.push(Date.now());
  });
  return Object.assign(fake, { url: provider.url, provider, close: () => provider.close() });
}

const ADMIN_PATHS = /^\/(?:v1\/organizations?\/|api\/v1\/keys(?:\/|$)|auth\/)/;
type Body = {
  readonly name?: string;
  readonly status?: string;
  readonly disabled?: boolean;
  readonly apiKey?: { readonly disabled?: boolean };
};

function administer(
  { keys, add }: Pick<FakeMakers, "keys" | "add">,
  method: string,
  { pathname: path, searchParams: query }: URL,
  body: Body,
): Answer {
  const last = decodeURIComponent(path.split("/").at(-1) ?? "");
  const one = keys.find(({ id, state }) => id === last && state !== "revoked");
  const missing: Answer = { status: 404, body: { error: { message: `no key ${last}` } } };
  const live = keys.filter(({ state }) => state !== "revoked");
  const shown = ({ value }: FakeKey): string => `${value.slice(0, 7)}...${value.slice(-4)}`;
  const set = (state: FakeKey["state"]): Answer => {
    if (!one) return missing;
    one.state = state;
    if (state === "revoked") one.revokedAtMs = Date.now();
    return { status: 200, body: { id: one.id, deleted: true } };
  };
  if (path.startsWith("/v1/organization/projects/")) {
    const show = (key: FakeKey): object => ({
      object: "organization.project.api_key",
      id: key.id,
      name: key.name,
      redacted_value: shown(key),
      created_at: 1_790_000_000,
      last_used_at: key.usedAtMs.length === 0 ? null : Math.floor((key.usedAtMs.at(-1) ?? 0) / 1000),
      owner: { type: "service_account" },
    });
    if (method === "POST" && path.endsWith("/api_keys")) {
      const made = add(body.name ?? "");
      return {
        status: 200,
        body: { object: "api_key", id: made.id, name: made.name, value: made.value, created_at: 1 },
      };
    }
    if (method === "DELETE") return set("revoked");
    if (path.endsWith("/api_keys")) {
      // Pages of two, so that they are followed.
      const from = live.findIndex(({ id }) => id === query.get("after")) + 1;
      const data = live.slice(from, from + 2).map(show);
      const ids = { first_id: live[from]?.id ?? null, last_id: live.slice(from, from + 2).at(-1)?.id ?? null };
      return { status: 200, body: { object: "list", data, ...ids, has_more: from + 2 < live.length } };
    }
    return one ? { status: 200, body: show(one) } : missing;
  }
  if (path.startsWith("/v1/organizations/api_keys")) {
    const STATES = { active: "active", inactive: "disabled", archived: "revoked" } as const;
    if (method === "POST") return set(STATES[body.status as keyof typeof STATES]);
    const data = live.map((key) => ({
      type: "api_key",
      id: key.id,
      name: key.name,
      partial_key_hint: shown(key),
      status: key.state === "active" ? "active" : "inactive",
    }));
    return {
      status: 200,
      body: { data, has_more: false, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null },
    };
  }
  if (path.startsWith("/api/v1/keys")) {
    const show = (key: FakeKey): object => ({
      hash: key.id,
      name: key.name,
      label: shown(key),
      disabled: key.state !== "active",
      usage: 0,
      ...key.limits,
    });
    if (method === "POST") {
      const { name = "", ...limits } = body;
      const made = add(name);
      made.limits = limits;
      return { status: 201, body: { key: made.value, data: show(made) } };
    }
    if (method === "PATCH") return set(body.disabled === true ? "disabled" : "active");
    if (method === "DELETE") return set("revoked");
    if (!path.endsWith("/keys")) return one ? { status: 200, body: { data: show(one) } } : missing;
    const offset = Number(query.get("offset") ?? 0);
    return { status: 200, body: { data: live.slice(offset, offset + 2).map(show) } };
  }
  if (method === "POST") {
    const made = add(body.name ?? "");
    return { status: 200, body: { apiKey: made.value, apiKeyId: made.id } };
  }
  if (method === "PUT") return set(body.apiKey?.disabled === true ? "disabled" : "active");
  if (method === "DELETE") return set("revoked");
  return {
    status: 200,
    body: {
      apiKeys: live.map((key) => ({
        apiKeyId: key.id,
        name: key.name,
        redactedApiKey: shown(key),
        acls: ["api-key:model:grok-4", "api-key:endpoint:chat"],
        qps: 5,
        disabled: key.state !== "active",
      })),
    },
  };
}
