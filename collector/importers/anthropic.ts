// Anthropic: cost and usage by key, workspace, model, tier and token class, and the keys. The official SDK with an
// admin key. Sources: GET /v1/organizations/analytics/cost and .../usage (cents as decimal strings; `data_refreshed_at`
// says how far they are whole), GET /v1/organizations/api_keys. Where the analytics are not open to an organisation,
// the older reports: no key in the money, and no method of the SDK, which still sends them.
import { clientOf } from "../../service/secrets/client.ts";
import Anthropic, { APIError } from "@anthropic-ai/sdk";
import type { BilledLine, BilledUsage, BillOfDay, ProviderKey } from "../../ledger/billing/bills.ts";
import { parseRounded } from "../../ledger/money.ts";
import type { Unit } from "../../ledger/usage.ts";
import { addDays, DAY_MS, HOUR_MS } from "../../ledger/windows.ts";
import type { Secret } from "../../service/secret.ts";
import { daysOf, ImportError, plainText, readQuantity, requireUsd, unreadable } from "./importer.ts";
import type { FetchedUsage, Importer } from "./importer.ts";

type Settings = { readonly adminKey: Secret; readonly baseUrl: string; readonly now?: () => number };
type CostItem = Anthropic.Beta.Organization.Analytics.BetaAnalyticsCostItem;

const PROVIDER = "anthropic";
const TIMEOUT_MS = 30_000;
const MOST_DAYS_A_CALL = 31;
const MOST_MS_A_CALL = MOST_DAYS_A_CALL * DAY_MS;
const MOST_PAGES = 2_000;
const ROWS = 1_000;
/** The older reports have no watermark: they are usually minutes behind. */
const REPORT_BEHIND_MS = 3 * HOUR_MS;
/** Nano-USD in a cent, as decimals. */
const CENT_DIGITS = 7;

const UNITS: { readonly [tokenType: string]: Unit } = {
  uncached_input_tokens: "input",
  cache_read_input_tokens: "cache_read",
  "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m",
  "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
  output_tokens: "output",
};
const TIERS: { readonly [tier: string]: string } = {
  standard: "",
  batch: "batch",
  priority: "priority",
  priority_on_demand: "priority",
  flex: "flex",
  flex_discount: "flex",
};

export function anthropicImporter({ adminKey, baseUrl, now = Date.now }: Settings): Importer {
  const clientNow = clientOf(
    adminKey,
    (apiKey) => new Anthropic({ apiKey, baseURL: baseUrl, timeout: TIMEOUT_MS, maxRetries: 2 }),
  );
  const source: Source = {
    get client() {
      return clientNow();
    },
    now,
  };
  return {
    name: "Anthropic costs",
    providers: [PROVIDER],

    async fetchBills(sinceDay, untilDay, onProgress) {
      const bills: BillOfDay[] = [];
      for (let from = sinceDay; from < untilDay; from = addDays(from, MOST_DAYS_A_CALL)) {
        const limit = addDays(from, MOST_DAYS_A_CALL);
        const to = limit < untilDay ? limit : untilDay;
        const where = `Anthropic costs of ${from} to ${to}`;
        bills.push(
          ...(await orOlder(
            () => fetchCosts(source, from, to),
            () => fetchOlderCosts(source, from, to),
            where,
          )),
        );
        onProgress(addDays(to, -1));
      }
      return bills;
    },

    async fetchUsage(sinceMs, untilMs) {
      const usage: BilledUsage[] = [];
      let asOfMs = untilMs;
      for (let from = sinceMs; from < untilMs; from += MOST_MS_A_CALL) {
        const to = Math.min(from + MOST_MS_A_CALL, untilMs);
        const part = await orOlder(
          () => fetchUsage(source, from, to),
          () => fetchOlderUsage(source, from, to),
          "Anthropic usage",
        );
        usage.push(...part.usage);
        // Known as far as the first part that is not: what follows a gap does not count as known.
        asOfMs = part.asOfMs;
        if (asOfMs < to) break;
      }
      return { provider: PROVIDER, asOfMs, usage };
    },

    fetchKeys: async () => fetchKeys(source),
  };
}

type Source = { readonly client: Anthropic; readonly now: () => number };

/** The analytics' answer, or the older reports' where the organisation has no analytics. */
async function orOlder<T>(fresh: () => Promise<T>, older: () => Promise<T>, where: string): Promise<T> {
  try {
    return await fresh();
  } catch (error) {
    if (!(error instanceof APIError) || (error.status !== 404 && error.status !== 403)) throw explain(error, where);
    return older().catch((second: unknown) => {
      throw explain(second, where);
    });
  }
}

async function fetchCosts({ client, now }: Source, sinceDay: string, untilDay: string): Promise<BillOfDay[]> {
  const byDay = new Map<string, BilledLine[]>(daysOf(sinceDay, untilDay).map((day) => [day, []]));
  let asOfMs = now();
  const pages = client.beta.organization.analytics.cost.list({
    starting_at: `${sinceDay}T00:00:00Z`,
    ending_at: `${untilDay}T00:00:00Z`,
    time_bucket_width: "1d",
    group_by: ["api_key_id", "workspace_id", "model", "service_tier", "cost_type", "token_type"],
    limit: ROWS,
  });
  for await (const page of (await pages).iterPages()) {
    if (page.data_refreshed_at !== null) asOfMs = Math.min(asOfMs, Date.parse(page.data_refreshed_at));
    for (const item of page.data) {
      const day = item.starting_at.slice(0, 10);
      if (Number(item.cost.amount) === 0 && Number(item.cost.list_amount) === 0) continue;
      const { group, cost } = item;
      linesOf(byDay, day).push({
        ...moneyOf(cost.amount, cost.currency, day),
        listNanoUsd: centsOf(cost.list_amount, day).value,
        billedKey: group.api_key_id ?? undefined,
        project: group.workspace_id ?? undefined,
        ...whatOf(group.cost_type, group.token_type, group.model, group.service_tier),
        raw: JSON.stringify(item satisfies CostItem),
      });
    }
  }
  return [...byDay].map(([day, lines]) => ({ provider: PROVIDER, day, source: "api", asOfMs, lines }));
}

async function fetchOlderCosts(source: Source, sinceDay: string, untilDay: string): Promise<BillOfDay[]> {
  const byDay = new Map<string, BilledLine[]>(daysOf(sinceDay, untilDay).map((day) => [day, []]));
  const asked = {
    starting_at: `${sinceDay}T00:00:00Z`,
    ending_at: `${untilDay}T00:00:00Z`,
    limit: byDay.size,
    group_by: ["workspace_id", "description"],
  };
  await report(source, "/v1/organizations/cost_report", asked, ({ starting_at: at, results }) => {
    const day = at.slice(0, 10);
    for (const row of results) {
      const text = (field: string): string | null => (typeof row[field] === "string" ? row[field] : null);
      linesOf(byDay, day).push({
        ...moneyOf(String(row["amount"]), text("currency"), day),
        project: text("workspace_id") ?? undefined,
        ...whatOf(text("cost_type"), text("token_type"), text("model"), text("service_tier")),
        lineItem: text("description") ?? undefined,
        raw: JSON.stringify(row),
      });
    }
  });
  const asOfMs = source.now() - REPORT_BEHIND_MS;
  return [...byDay].map(([day, lines]) => ({ provider: PROVIDER, day, source: "api", asOfMs, lines }));
}

/** A call's range; the analytics refuse more than a month at once. */
function rangeOf(sinceMs: number, untilMs: number): { readonly starting_at: string; readonly ending_at: string } {
  return { starting_at: iso(sinceMs), ending_at: iso(untilMs) };
}

async function fetchUsage({ client, now }: Source, sinceMs: number, untilMs: number): Promise<FetchedUsage> {
  const usage: BilledUsage[] = [];
  let asOfMs = Math.min(untilMs, now());
  const pages = client.beta.organization.analytics.usage.list({
    ...rangeOf(sinceMs, untilMs),
    time_bucket_width: "1h",
    group_by: ["api_key_id", "workspace_id", "model", "service_tier"],
    limit: ROWS,
  });
  for await (const page of (await pages).iterPages()) {
    if (page.data_refreshed_at !== null) asOfMs = Math.min(asOfMs, Date.parse(page.data_refreshed_at));
    for (const { starting_at: at, group, usage: counts } of page.data)
      usage.push(...usageOf(at, { ...group }, { ...counts }));
  }
  return { provider: PROVIDER, asOfMs, usage };
}

async function fetchOlderUsage(source: Source, sinceMs: number, untilMs: number): Promise<FetchedUsage> {
  const usage: BilledUsage[] = [];
  const asked = {
    ...rangeOf(sinceMs, untilMs),
    bucket_width: "1h",
    limit: 168,
    group_by: ["api_key_id", "workspace_id", "model", "service_tier"],
  };
  await report(source, "/v1/organizations/usage_report/messages", asked, ({ starting_at: at, results }) => {
    for (const row of results) usage.push(...usageOf(at, row, row));
  });
  return { provider: PROVIDER, asOfMs: Math.min(untilMs, source.now() - REPORT_BEHIND_MS), usage };
}

async function fetchKeys({ client }: Source): Promise<ProviderKey[]> {
  const keys: ProviderKey[] = [];
  try {
    for await (const key of client.organization.apiKeys.list({ limit: 1_000 }))
      keys.push({
        billedKey: key.id,
        name: key.name,
        project: key.scope.type === "workspace" ? key.scope.workspace_id : undefined,
        hint: key.partial_key_hint ?? "",
        state: key.status,
      });
  } catch (error) {
    throw explain(error, "Anthropic keys");
  }
  return keys;
}

/** Pages of a report that the SDK has no method for. */
async function report(
  { client }: Source,
  path: string,
  query: object,
  onBucket: (bucket: ReportBucket) => void,
): Promise<void> {
  let page: string | undefined;
  for (let count = 0; count < MOST_PAGES; count++) {
    const answer: ReportPage = await client.get(path, {
      query: { ...query, ...(page === undefined ? {} : { page }) },
    });
    if (!Array.isArray(answer.data))
      throw new ImportError(
        `Anthropic ${path}: the answer holds no list; is the billing URL right? Nothing was imported.`,
      );
    for (const bucket of answer.data) onBucket(bucket);
    if (!answer.has_more) return;
    if (answer.next_page === null || answer.next_page === page)
      throw new ImportError(
        `Anthropic ${path}: more pages follow, but none is named. Nothing was imported; try again later.`,
      );
    page = answer.next_page;
  }
  throw new ImportError(
    `Anthropic ${path}: more than ${MOST_PAGES} pages. Nothing was imported; the source may be looping.`,
  );
}

type ReportBucket = {
  readonly starting_at: string;
  readonly results: readonly { readonly [field: string]: unknown }[];
};
type ReportPage = {
  readonly data: readonly ReportBucket[];
  readonly has_more: boolean;
  readonly next_page: string | null;
};
type Fields = { readonly [field: string]: unknown };

function linesOf(byDay: ReadonlyMap<string, BilledLine[]>, day: string): BilledLine[] {
  const lines = byDay.get(day);
  if (!lines)
    throw new ImportError(`Anthropic costs: the answer holds ${day}, which was not asked for. Nothing was imported.`);
  return lines;
}

function moneyOf(
  cents: string,
  currency: string | null,
  day: string,
): Pick<BilledLine, "amountNanoUsd" | "resolutionNanoUsd"> {
  requireUsd(currency, `Anthropic costs of ${day}`);
  const { value, resolution } = centsOf(cents, day);
  return { amountNanoUsd: value, resolutionNanoUsd: resolution };
}

function centsOf(text: string, day: string): { value: bigint; resolution: bigint } {
  try {
    return parseRounded(text, CENT_DIGITS);
  } catch {
    throw new ImportError(
      `Anthropic costs of ${day}: the amount ${JSON.stringify(text)} is no number. Nothing was imported.`,
    );
  }
}

/** What a row of cost is for. Fees have no model's price; a session of code execution is a container. */
function whatOf(
  costType: string | null,
  tokenType: string | null,
  model: string | null,
  tier: string | null,
): Pick<BilledLine, "kind" | "model" | "tier" | "unit" | "lineItem"> {
  const lineItem = [model, costType, tokenType, tier].filter((part) => part !== null).join(", ");
  const place = { model: model ?? undefined, tier: TIERS[tier ?? "standard"] ?? tier ?? "", lineItem };
  if (costType === "web_search") return { ...place, kind: "fee", unit: "web_search" };
  if (costType === "code_execution" || costType === "session_usage")
    return { ...place, kind: "fee", unit: "container" };
  return { ...place, kind: "usage", unit: tokenType === null ? undefined : UNITS[tokenType] };
}

function usageOf(at: string, group: Fields, counts: Fields): BilledUsage[] {
  const text = (field: string): string | undefined => (typeof group[field] === "string" ? group[field] : undefined);
  const tier = text("service_tier");
  const place = {
    hourMs: Math.floor(Date.parse(at) / HOUR_MS) * HOUR_MS,
    billedKey: text("api_key_id"),
    project: text("workspace_id"),
    model: text("model"),
    tier: TIERS[tier ?? "standard"] ?? tier ?? "",
  };
  const created = (counts["cache_creation"] ?? {}) as Fields;
  const tools = (counts["server_tool_use"] ?? {}) as Fields;
  const units: [Unit, unknown][] = [
    ["input", counts["uncached_input_tokens"]],
    ["cache_read", counts["cache_read_input_tokens"]],
    ["cache_write_5m", created["ephemeral_5m_input_tokens"]],
    ["cache_write_1h", created["ephemeral_1h_input_tokens"]],
    ["output", counts["output_tokens"]],
    ["web_search", tools["web_search_requests"]],
  ];
  return units.flatMap(([unit, value]) => {
    const quantity = readQuantity(value, "Anthropic usage");
    return quantity === 0 ? [] : [{ ...place, unit, quantity }];
  });
}

function iso(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

function explain(error: unknown, where: string): Error {
  if (error instanceof ImportError) return error;
  if (!(error instanceof APIError)) return unreadable(where, error);
  const advice: { readonly [status: number]: string } = {
    401: "the admin key is wrong, expired or deleted; make a new one in the Console under Admin keys and set ANTHROPIC_ADMIN_KEY",
    403: "the key may not read costs; it must be an admin key (sk-ant-admin...) of an organisation",
    404: "this organisation has no such report, or KEYMETER_ANTHROPIC_BILLING_URL is wrong",
    429: "too many requests; the next run tries again",
  };
  return new ImportError(
    `${where}: ${error.status ?? "no answer"} (${plainText(error.message)}); ${advice[error.status ?? 0] ?? "the next run tries again"}. Nothing was imported.`,
  );
}
