// Providers that make keys, after the documented answers of OpenAI's, Anthropic's, OpenRouter's and xAI's admin APIs (of the clouds:
// cloud-key-makers.ts), and that answer chats to keys of theirs: which key each request came with stands in the journal. One
// server plays all of them.
import { randomBytes } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { administerCloud, isSignedBy, serviceAccountFile } from "./cloud-key-makers.ts";
import type { FakeKey, KeyRing } from "./made-keys.ts";
import { startFakeProvider } from "./provider.ts";
import type { CloudAnswer } from "./cloud-key-makers.ts";
import type { FakeProvider, Script } from "./provider.ts";
import { answerSlowly } from "./slow-chat.ts";

export const ADMIN_KEY = "sk-admin-of-a-test-0123456789";

export type FakeMakers = KeyRing & {
  readonly url: string;
  readonly provider: FakeProvider;
  /** The key that a request came with. */
  keyOf(headers: IncomingHttpHeaders): FakeKey | undefined;
  /** How long a new key is refused. */
  delayMs: number;
  /** Answers the admin API instead, when so many calls more were answered. */
  instead: Script | undefined;
  spared: number;
  /** Keys may be used, and not for free calls. */
  refusesFreeCalls: boolean;
  close(): Promise<void>;
};

type Answer = { readonly status: number; readonly body: object };

export async function startFakeMakers(): Promise<FakeMakers> {
  const keys: FakeKey[] = [];
  let adminFile: string | undefined;
  const fake = {
    keys,
    delayMs: 0,
    instead: undefined as Script | undefined,
    spared: 0,
    refusesFreeCalls: false,
    get adminFile(): string {
      return (adminFile ??= serviceAccountFile("admin@a-test.iam.gserviceaccount.com").text);
    },
    keyOf(headers: IncomingHttpHeaders): FakeKey | undefined {
      const presented = presentedIn(headers);
      return keys.findLast(({ value }) => value === presented || isSignedBy(presented, value));
    },
    add(
      name: string,
      value = `sk-made-${randomBytes(12).toString("hex")}`,
      id = `key_${randomBytes(6).toString("hex")}`,
      ageMs = 0,
    ): FakeKey {
      const key: FakeKey = {
        id,
        name,
        value,
        state: "active",
        madeAtMs: Date.now() - ageMs,
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
    const presented = presentedIn(arrived.headers);
    const send = ({ status, body }: CloudAnswer): void =>
      void response
        .writeHead(status, { "content-type": typeof body === "string" ? "text/xml" : "application/json" })
        .end(typeof body === "string" ? body : JSON.stringify(body));
    const isAdmin = ADMIN_PATHS.test(pathname);
    if (isAdmin && fake.instead && fake.spared-- <= 0) return fake.instead(arrived, response, request);
    const ofCloud = administerCloud(made, { ...arrived, url, adminKey: ADMIN_KEY });
    if (ofCloud) return send(ofCloud);
    if (isAdmin) {
      if (presented !== ADMIN_KEY) return send({ status: 401, body: { error: { message: "no admin key" } } });
      const body = arrived.body.length > 0 ? (JSON.parse(arrived.body.toString()) as Body) : {};
      return send(administer(fake, arrived.method, url, body));
    }
    const key = fake.keyOf(arrived.headers);
    if (!key || key.state !== "active" || Date.now() < key.usableAtMs)
      return send({ status: 401, body: { error: { type: "authentication_error", message: "invalid key" } } });
    if (arrived.method === "GET") return send({ status: fake.refusesFreeCalls ? 403 : 200, body: { data: [] } });
    key.usedAtMs.push(Date.now());
    await answerSlowly(arrived, response, request);
    key.usedAtMs.push(Date.now());
  });
  // Not by a copy, which would read what is made when it is asked for.
  const more = { url: provider.url, provider, close: () => provider.close() };
  const made: FakeMakers = Object.defineProperties(fake, Object.getOwnPropertyDescriptors(more)) as FakeMakers;
  return made;
}

const ADMIN_PATHS = /^\/(?:v1\/organizations?\/|api\/v1\/keys(?:\/|$)|auth\/|v1\/projects\/-\/|subscriptions\/|$)/;

function presentedIn({ authorization, "x-api-key": anthropic, "api-key": azure }: IncomingHttpHeaders): string {
  return authorization?.replace("Bearer ", "") ?? String(anthropic ?? azure);
}
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
