// OpenAI's organization costs, usage, projects and keys, as their reference documents them: buckets in pages, brackets
// in queries, dimensions that were not asked for null, keys of owners who left hidden unless asked for.
import { grouped, known, pageOf, startFake } from "./truth.ts";
import type { Charge, FakeServer, Truth } from "./truth.ts";

const DAY_S = 86_400;
const WIDTHS: { readonly [width: string]: { readonly seconds: number; readonly most: number } } = {
  "1m": { seconds: 60, most: 1_440 },
  "1h": { seconds: 3_600, most: 168 },
  "1d": { seconds: DAY_S, most: 31 },
};
const LINE_ITEMS: { readonly [unit: string]: string } = {
  input: "input",
  cache_read: "cached input",
  cache_write_30m: "cache write",
  output: "output",
  input_audio: "audio input",
  output_audio: "audio output",
};
/** What each usage report counts. */
const REPORTS: { readonly [name: string]: (unit: string) => boolean } = {
  completions: (unit) => unit.startsWith("input") || unit.startsWith("cache_") || unit.startsWith("output"),
  embeddings: () => false,
  audio_speeches: (unit) => unit === "character",
  audio_transcriptions: (unit) => unit === "audio_second",
  images: (unit) => unit === "image",
  web_search_calls: (unit) => unit === "web_search",
};

export async function startFakeOpenai(truth: Truth, adminKey = "sk-admin-test"): Promise<FakeServer> {
  const fake = await startFake(
    (url, reply) => {
      const { pathname, searchParams } = url;
      const keysOf = /^\/v1\/organization\/projects\/([^/]+)\/api_keys$/.exec(pathname)?.[1];
      if (keysOf !== undefined) return reply(200, keyPage(truth, keysOf, searchParams, fake.pageSize));
      if (pathname === "/v1/organization/projects") {
        const ids = [...new Set(truth.keys.filter((key) => key.provider === "openai").map((key) => key.project))];
        return reply(
          200,
          cursorPage(
            ids.map((id) => ({ id, object: "organization.project", name: id, status: "active", created_at: 1 })),
            searchParams,
            fake.pageSize,
          ),
        );
      }
      const report = /^\/v1\/organization\/usage\/(\w+)$/.exec(pathname)?.[1];
      const isCosts = pathname === "/v1/organization/costs";
      const counts = report === undefined ? undefined : REPORTS[report];
      if (!isCosts && !counts)
        return reply(404, { error: { message: "no such path", type: "invalid_request_error", code: null } });
      const bad = (message: string): void =>
        reply(400, { error: { message, type: "invalid_request_error", code: null } });
      const width = WIDTHS[searchParams.get("bucket_width") ?? "1d"];
      const limit = Number(searchParams.get("limit") ?? 7);
      if (!width || (isCosts && width.seconds !== DAY_S)) return bad("bucket_width");
      if (limit < 1 || limit > (isCosts ? 180 : width.most)) return bad("limit");
      const groups = searchParams.getAll("group_by[]");
      const allowed = isCosts
        ? ["project_id", "line_item", "api_key_id"]
        : ["project_id", "api_key_id", "model", "batch", "service_tier"];
      if (groups.some((group) => !allowed.includes(group))) return bad(`group_by ${groups.join()}`);
      const [start, end] = [Number(searchParams.get("start_time")), Number(searchParams.get("end_time"))];
      const buckets: object[] = [];
      for (let at = start; at < end; at += width.seconds) {
        const charges = known(
          truth,
          "openai",
          isCosts ? "billedAtMs" : "reportedAtMs",
          at * 1000,
          (at + width.seconds) * 1000,
        );
        const results = isCosts
          ? costs(charges, groups)
          : usage(
              charges.filter((one) => counts?.(one.unit ?? "") ?? false),
              groups,
              report ?? "",
            );
        buckets.push({ object: "bucket", start_time: at, end_time: at + width.seconds, results });
      }
      const { page, next } = pageOf(buckets, searchParams.get("page"), Math.min(limit, fake.pageSize));
      reply(200, { object: "page", data: page, has_more: next !== null, next_page: next });
    },
    ({ headers }) =>
      headers.authorization === `Bearer ${adminKey}`
        ? undefined
        : { error: { message: "Incorrect API key provided", type: "invalid_request_error", code: "invalid_api_key" } },
  );
  return fake;
}

function costs(charges: readonly Charge[], groups: readonly string[]): object[] {
  const has = (group: string): boolean => groups.includes(group);
  const named = charges.map((one) => ({ ...one, lineItem: one.lineItem ?? lineItemOf(one) }));
  return grouped(named, ["billedKey", "project", "lineItem"]).map((one) => ({
    object: "organization.costs.result",
    amount: { value: Number(one.amountNanoUsd) / 1e9, currency: "usd" },
    line_item: has("line_item") ? one.lineItem : null,
    project_id: has("project_id") ? (one.project ?? null) : null,
    api_key_id: has("api_key_id") ? (one.billedKey ?? null) : null,
    quantity: one.unit === undefined ? null : one.quantity,
    quantity_unit: one.unit === undefined ? null : "tokens",
  }));
}

function lineItemOf({ model, unit, tier }: Charge): string {
  if (unit === "web_search") return "web search tool calls";
  return `${model ?? ""}, ${tier ? `${tier} ` : ""}${LINE_ITEMS[unit ?? ""] ?? unit ?? ""}`;
}

function usage(charges: readonly Charge[], groups: readonly string[], report: string): object[] {
  const has = (group: string): boolean => groups.includes(group);
  return grouped(charges, ["billedKey", "project", "model", "tier"]).map((group) => {
    const own = charges.filter(
      (one) =>
        one.billedKey === group.billedKey &&
        one.project === group.project &&
        one.model === group.model &&
        one.tier === group.tier,
    );
    const sum = (...units: string[]): number =>
      own.filter((one) => units.includes(one.unit ?? "")).reduce((total, one) => total + one.quantity, 0);
    const place = {
      num_model_requests: group.requests,
      project_id: has("project_id") ? (group.project ?? null) : null,
      api_key_id: has("api_key_id") ? (group.billedKey ?? null) : null,
      model: has("model") ? (group.model ?? null) : null,
      user_id: null,
    };
    if (report !== "completions") {
      const quantity = own.reduce((total, one) => total + one.quantity, 0);
      const field: { readonly [report: string]: string } = {
        audio_speeches: "characters",
        audio_transcriptions: "seconds",
        images: "images",
        web_search_calls: "num_requests",
      };
      return { object: `organization.usage.${report}.result`, ...place, [field[report] ?? ""]: quantity };
    }
    const written = sum("cache_write_30m", "cache_write_12h");
    return {
      object: "organization.usage.completions.result",
      ...place,
      batch: has("batch") ? group.tier === "batch" : null,
      service_tier: has("service_tier") ? (group.tier === "batch" || !group.tier ? "default" : group.tier) : null,
      input_tokens: sum("input", "cache_read", "input_audio") + written,
      input_uncached_tokens: sum("input", "input_audio"),
      input_cached_tokens: sum("cache_read"),
      input_cache_write_tokens: written,
      input_audio_tokens: sum("input_audio"),
      output_tokens: sum("output", "output_audio"),
      output_audio_tokens: sum("output_audio"),
    };
  });
}

function keyPage(truth: Truth, project: string, query: URLSearchParams, size: number): object {
  const all = truth.keys.filter((key) => key.provider === "openai" && key.project === project);
  const shown = all.filter((key) => !key.isHidden || query.get("owner_project_access") === "any");
  const rows = shown.map((key) => ({
    object: "organization.project.api_key",
    id: key.id,
    name: key.name,
    redacted_value: key.shown,
    created_at: 1,
    last_used_at: null,
    owner: { type: "service_account" },
    owner_project_access: key.isHidden ? "inactive" : "active",
  }));
  return cursorPage(rows, query, size);
}

/** A list by `after`: the id of the last row before. */
function cursorPage(rows: readonly { readonly id: string }[], query: URLSearchParams, size: number): object {
  const after = query.get("after");
  const from = after === null ? 0 : rows.findIndex((row) => row.id === after) + 1;
  const data = rows.slice(from, from + size);
  return {
    object: "list",
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: from + size < rows.length,
  };
}
