// Anthropic's usage and cost analytics, the older reports and the key list, as their reference documents them: rows in
// pages, cents as decimal strings, a watermark. The older reports name no key in the money.
import { grouped, known as knownCharges, pageOf, startFake } from "./truth.ts";
import type { Charge, FakeServer, Truth } from "./truth.ts";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const TOKEN_TYPES: { readonly [unit: string]: string } = {
  input: "uncached_input_tokens",
  cache_read: "cache_read_input_tokens",
  cache_write_5m: "cache_creation.ephemeral_5m_input_tokens",
  cache_write_1h: "cache_creation.ephemeral_1h_input_tokens",
  output: "output_tokens",
};

export type FakeAnthropic = FakeServer & {
  /** Up to when the analytics say that they are whole. */
  refreshedAtMs: number | undefined;
  /** Whether this organisation has the analytics; without them, only the older reports. */
  hasAnalytics: boolean;
};

export async function startFakeAnthropic(truth: Truth, adminKey = "sk-ant-admin01-test"): Promise<FakeAnthropic> {
  const server = await startFake(
    (url, reply, { headers }) => {
      const { pathname, searchParams } = url;
      const bad = (message: string, status = 400): void =>
        reply(status, {
          type: "error",
          error: { type: status === 400 ? "invalid_request_error" : "not_found_error", message },
        });
      if (headers["anthropic-version"] === undefined) return bad("anthropic-version");
      if (pathname === "/v1/organizations/api_keys") return reply(200, keyPage(truth, searchParams, fake.pageSize));
      const [since, until] = [
        Date.parse(searchParams.get("starting_at") ?? ""),
        Date.parse(searchParams.get("ending_at") ?? ""),
      ];
      const groups = searchParams.getAll("group_by[]");
      const known = ["starting_at", "ending_at", "time_bucket_width", "bucket_width", "group_by[]", "limit", "page"];
      const unknown = [...searchParams.keys()].find((name) => !known.includes(name));
      if (unknown !== undefined) return bad(`unknown parameter ${unknown}`);
      if (Number.isNaN(since) || Number.isNaN(until)) return bad("starting_at, ending_at");
      const isCost = pathname.endsWith("/cost") || pathname.endsWith("/cost_report");
      const charges = knownCharges(truth, "anthropic", isCost ? "billedAtMs" : "reportedAtMs", since, until);
      switch (pathname) {
        case "/v1/organizations/analytics/cost":
        case "/v1/organizations/analytics/usage": {
          if (!fake.hasAnalytics) return bad("not found", 404);
          if (!String(headers["anthropic-beta"]).includes("analytics-usage-cost-2026-08-24"))
            return bad("anthropic-beta");
          if (until - since > 31 * DAY_MS) return bad("range");
          if (groups.filter((group) => group !== "cost_type" && group !== "token_type").length > 5)
            return bad("group_by");
          const rows = isCost ? costRows(charges, groups) : usageRows(charges, groups);
          const limit = Math.min(Number(searchParams.get("limit") ?? 20), fake.pageSize);
          const { page, next } = pageOf(rows, searchParams.get("page"), limit);
          const refreshed = fake.refreshedAtMs ?? truth.nowMs;
          return reply(200, {
            data: page,
            has_more: next !== null,
            next_page: next,
            data_refreshed_at: new Date(refreshed).toISOString(),
          });
        }
        case "/v1/organizations/cost_report":
        case "/v1/organizations/usage_report/messages": {
          const width = isCost ? DAY_MS : HOUR_MS;
          const buckets: object[] = [];
          for (let at = since; at < until; at += width) {
            const own = charges.filter((one) => one.atMs >= at && one.atMs < at + width);
            const results = isCost
              ? reportedCosts(own)
              : grouped(own, ["billedKey", "project", "model", "tier"]).map((group) => usageFields(own, group));
            buckets.push({ starting_at: iso(at), ending_at: iso(at + width), results });
          }
          const { page, next } = pageOf(buckets, searchParams.get("page"), fake.pageSize);
          return reply(200, { data: page, has_more: next !== null, next_page: next });
        }
        default:
          return bad("no such path", 404);
      }
    },
    ({ headers }) =>
      headers["x-api-key"] === adminKey || headers.authorization === `Bearer ${adminKey}`
        ? undefined
        : { type: "error", error: { type: "authentication_error", message: "invalid x-api-key" } },
  );
  const fake: FakeAnthropic = Object.assign(server, { refreshedAtMs: undefined, hasAnalytics: true });
  return fake;
}

function costRows(charges: readonly Charge[], groups: readonly string[]): object[] {
  const days = charges.map((one) => ({ ...one, atMs: Math.floor(one.atMs / DAY_MS) * DAY_MS }));
  return grouped(days, ["atMs", "billedKey", "project", "model", "tier", "unit", "kind"]).map((one) => ({
    starting_at: iso(one.atMs),
    ending_at: iso(one.atMs + DAY_MS),
    group: groupOf(one, groups),
    cost: {
      amount: cents(one.amountNanoUsd),
      list_amount: cents(one.listNanoUsd ?? one.amountNanoUsd),
      currency: "USD",
      requests: null,
    },
  }));
}

function usageRows(charges: readonly Charge[], groups: readonly string[]): object[] {
  const hours = charges.map((one) => ({ ...one, atMs: Math.floor(one.atMs / HOUR_MS) * HOUR_MS }));
  return grouped(hours, ["atMs", "billedKey", "project", "model", "tier"]).map((group) => {
    const own = hours.filter((one) => one.atMs === group.atMs);
    const { uncached_input_tokens, cache_creation, cache_read_input_tokens, output_tokens, server_tool_use } =
      usageFields(own, group);
    return {
      starting_at: iso(group.atMs),
      ending_at: iso(group.atMs + HOUR_MS),
      group: groupOf(group, groups),
      usage: {
        uncached_input_tokens,
        cache_creation,
        cache_read_input_tokens,
        output_tokens,
        server_tool_use,
        requests: group.requests,
        total_tokens: 0,
      },
    };
  });
}

function usageFields(charges: readonly Charge[], group: Charge) {
  const sum = (unit: string): number =>
    charges
      .filter(
        (one) =>
          one.unit === unit &&
          one.billedKey === group.billedKey &&
          one.project === group.project &&
          one.model === group.model &&
          one.tier === group.tier,
      )
      .reduce((total, one) => total + one.quantity, 0);
  return {
    api_key_id: group.billedKey ?? null,
    workspace_id: group.project ?? null,
    model: group.model ?? null,
    service_tier: group.tier || "standard",
    uncached_input_tokens: sum("input"),
    cache_creation: {
      ephemeral_5m_input_tokens: sum("cache_write_5m"),
      ephemeral_1h_input_tokens: sum("cache_write_1h"),
    },
    cache_read_input_tokens: sum("cache_read"),
    output_tokens: sum("output"),
    server_tool_use: { web_search_requests: sum("web_search") },
  };
}

function groupOf(one: Charge, groups: readonly string[]): object {
  const values: { readonly [name: string]: string | null } = {
    api_key_id: one.billedKey ?? null,
    workspace_id: one.project ?? null,
    model: one.model ?? null,
    service_tier: one.tier || "standard",
    cost_type: one.unit === "web_search" ? "web_search" : "tokens",
    token_type: TOKEN_TYPES[one.unit ?? ""] ?? null,
  };
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, groups.includes(name) ? value : null]),
  );
}

function reportedCosts(charges: readonly Charge[]): object[] {
  return grouped(charges, ["project", "model", "tier", "unit"]).map((one) => ({
    amount: cents(one.amountNanoUsd),
    currency: "USD",
    workspace_id: one.project ?? null,
    description: `${one.model ?? ""} Usage - ${one.unit ?? ""}`,
    cost_type: one.unit === "web_search" ? "web_search" : "tokens",
    model: one.model ?? null,
    service_tier: one.tier || "standard",
    token_type: TOKEN_TYPES[one.unit ?? ""] ?? null,
    context_window: null,
    inference_geo: null,
  }));
}

function keyPage(truth: Truth, query: URLSearchParams, size: number): object {
  const rows = truth.keys
    .filter((key) => key.provider === "anthropic")
    .map((key) => ({
      type: "api_key",
      id: key.id,
      name: key.name,
      partial_key_hint: key.shown,
      status: key.state ?? "active",
      scope: { type: "workspace", workspace_id: key.project },
      created_at: iso(0),
      created_by: null,
      expires_at: null,
      principal: null,
    }));
  const after = query.get("after_id");
  const from = after === null ? 0 : rows.findIndex((row) => row.id === after) + 1;
  const data = rows.slice(from, from + size);
  return { data, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null, has_more: from + size < rows.length };
}

/** Nano-USD as decimal cents. */
function cents(nano: bigint): string {
  const sign = nano < 0n ? "-" : "";
  const all = (nano < 0n ? -nano : nano).toString().padStart(8, "0");
  return `${sign}${all.slice(0, -7)}.${all.slice(-7)}`;
}

function iso(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}
