// The demo provider's bill, as OpenAI reports it: costs by UTC day, usage by the hour, one project, one key. Out of the
// provider's own journal.
import { nano } from "./journal.ts";
import type { BilledKey, JournalEntry, PriceOf } from "./journal.ts";

const DAY_S = 86_400;
const HOUR_S = 3_600;
const PROJECT = "proj_demo";
/** The key behind Keymeter, and one that somebody still has in a notebook. */
const KEYS: { readonly [id in BilledKey]: string } = { key_demo: "behind Keymeter", key_notebook: "an old notebook" };
const BILLED = /\/(completions|responses|embeddings)$/;

/** The answer to a question about the bill; undefined: the path is about something else. */
export function answerBilling(
  url: URL,
  journal: readonly JournalEntry[],
  priceOf: PriceOf,
  credential: string,
): object | undefined {
  const { pathname, searchParams } = url;
  if (pathname === "/v1/organization/projects")
    return list([{ id: PROJECT, object: "organization.project", name: "demo", status: "active", created_at: 1 }]);
  if (pathname === `/v1/organization/projects/${PROJECT}/api_keys`)
    return list(
      Object.entries(KEYS).map(([id, name]) => ({
        id,
        object: "organization.project.api_key",
        name,
        redacted_value: id === "key_demo" ? `sk-demo...${credential.slice(-4)}` : "sk-old...nb01",
        created_at: 1,
        last_used_at: null,
        owner: { type: "service_account" },
        owner_project_access: "active",
      })),
    );
  const isCosts = pathname === "/v1/organization/costs";
  const report = /^\/v1\/organization\/usage\/(\w+)$/.exec(pathname)?.[1];
  if (!isCosts && report === undefined) return undefined;
  const width = isCosts || searchParams.get("bucket_width") === "1d" ? DAY_S : HOUR_S;
  const [start, end] = [Number(searchParams.get("start_time")), Number(searchParams.get("end_time"))];
  const buckets = new Map<number, JournalEntry[]>();
  for (let at = start; at < end; at += width) buckets.set(at, []);
  for (const entry of journal) {
    if (!BILLED.test(entry.path)) continue;
    const seconds = Math.floor(Date.parse(entry.at) / 1000);
    buckets.get(seconds - ((seconds - start) % width))?.push(entry);
  }
  const data = [...buckets].map(([at, entries]) => ({
    object: "bucket",
    start_time: at,
    end_time: at + width,
    results: keysOf(entries).flatMap((key) => {
      const own = entries.filter(({ billedTo }) => billedTo === key);
      return isCosts ? costs(own, priceOf, key) : usage(own, report ?? "", key);
    }),
  }));
  return { object: "page", data, has_more: false, next_page: null };
}

function keysOf(entries: readonly JournalEntry[]): BilledKey[] {
  return [...new Set(entries.map(({ billedTo }) => billedTo))];
}

function costs(entries: readonly JournalEntry[], priceOf: PriceOf, key: BilledKey): object[] {
  const rows = new Map<string, { nano: bigint; tokens: number }>();
  for (const { at, model, input, cached, output } of entries) {
    const price = priceOf(model, at);
    if (!price) continue;
    for (const [kind, tokens, usd] of [
      ["input", input, price[0]],
      ["cached input", cached, price[1]],
      ["output", output, price[3]],
    ] as const) {
      if (tokens === 0) continue;
      const row = rows.get(`${model}, ${kind}`) ?? { nano: 0n, tokens: 0 };
      row.tokens += tokens;
      row.nano += nano(tokens, usd);
      rows.set(`${model}, ${kind}`, row);
    }
  }
  return [...rows].map(([item, row]) => ({
    object: "organization.costs.result",
    amount: { value: Number(row.nano) / 1e9, currency: "usd" },
    line_item: item,
    project_id: PROJECT,
    api_key_id: key,
    quantity: row.tokens,
    quantity_unit: "tokens",
  }));
}

function usage(entries: readonly JournalEntry[], report: string, key: BilledKey): object[] {
  const isEmbedding = (entry: JournalEntry): boolean => entry.path.endsWith("/embeddings");
  const own = entries.filter((entry) =>
    report === "completions" ? !isEmbedding(entry) : report === "embeddings" && isEmbedding(entry),
  );
  return [...new Set(own.map(({ model }) => model))].map((model) => {
    const of = own.filter((entry) => entry.model === model);
    const sum = (read: (entry: JournalEntry) => number): number => of.reduce((total, entry) => total + read(entry), 0);
    return {
      object: `organization.usage.${report}.result`,
      model,
      project_id: PROJECT,
      api_key_id: key,
      batch: false,
      service_tier: "default",
      num_model_requests: of.length,
      input_tokens: sum((entry) => entry.input + entry.cached),
      input_uncached_tokens: sum((entry) => entry.input),
      input_cached_tokens: sum((entry) => entry.cached),
      output_tokens: sum((entry) => entry.output),
    };
  });
}

function list(data: readonly object[]): object {
  return { object: "list", data, first_id: null, last_id: null, has_more: false };
}
