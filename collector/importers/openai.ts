// OpenAI: costs by key, project and line item; usage by key, model and tier; the projects' keys. The official SDK with
// an admin key. Sources: GET /v1/organization/costs (UTC days, USD as numbers, revised for days),
// /v1/organization/usage/* (by the hour, minutes late), /v1/organization/projects and their api_keys.
import { clientOf } from "../../service/secrets/client.ts";
import OpenAI, { APIError } from "openai";
import type { BilledLine, BilledUsage, BillOfDay, ProviderKey } from "../../ledger/billing/bills.ts";
import { parseRounded } from "../../ledger/money.ts";
import type { Unit } from "../../ledger/usage.ts";
import { DAY_MS, HOUR_MS, utcDay } from "../../ledger/windows.ts";
import type { Secret } from "../../service/secret.ts";
import { daysOf, ImportError, plainText, readQuantity, requireUsd, unreadable } from "./importer.ts";
import type { Importer } from "./importer.ts";
import { readLineItem } from "./line-items.ts";

type Settings = { readonly adminKey: Secret; readonly baseUrl: string; readonly now?: () => number };
type Costs = OpenAI.Admin.Organization.Usage.UsageCostsResponse;
type Result = Costs["data"][number]["results"][number];
type Cost = Extract<Result, { object: "organization.costs.result" }>;
type Page = { readonly data: readonly Bucket[]; readonly has_more: boolean; readonly next_page: string | null };
type Bucket = { readonly start_time: number; readonly results: readonly { readonly object: string }[] };

const PROVIDER = "openai";
const MOST_PAGES = 2_000;
const TIMEOUT_MS = 30_000;
/** Costs say of no day that it is whole. A day is taken for whole this long after its end, and read again after
 *  that. */
const COSTS_BEHIND_MS = DAY_MS;
/** Usage is minutes behind; nobody promises how many. */
const USAGE_BEHIND_MS = 10 * 60_000;
/** The wire holds floats of dollars: nine decimals are more than they carry. */
const FLOAT_DIGITS = 9;

export function openaiImporter({ adminKey, baseUrl, now = Date.now }: Settings): Importer {
  const client = clientOf(
    adminKey,
    (apiKey) => new OpenAI({ apiKey, adminAPIKey: apiKey, baseURL: baseUrl, timeout: TIMEOUT_MS, maxRetries: 2 }),
  );
  const usage = (): OpenAI["admin"]["organization"]["usage"] => client().admin.organization.usage;
  const projects = (): OpenAI["admin"]["organization"]["projects"] => client().admin.organization.projects;

  return {
    name: "OpenAI costs",
    providers: [PROVIDER],

    async fetchBills(sinceDay, untilDay, onProgress) {
      const byDay = new Map<string, BilledLine[]>(daysOf(sinceDay, untilDay).map((day) => [day, []]));
      const asked = {
        start_time: seconds(Date.parse(`${sinceDay}T00:00:00Z`)),
        end_time: seconds(Date.parse(`${untilDay}T00:00:00Z`)),
        bucket_width: "1d",
        limit: Math.min(180, byDay.size),
        group_by: ["project_id", "line_item", "api_key_id"],
      } as const;
      const where = `OpenAI costs of ${sinceDay} to ${untilDay}`;
      await walk(
        where,
        (page) => usage().costs({ ...asked, group_by: [...asked.group_by], ...page }),
        (bucket) => {
          const day = utcDay(bucket.start_time * 1000);
          const lines = byDay.get(day);
          if (!lines)
            throw new ImportError(`${where}: the answer holds ${day}, which was not asked for. Nothing was imported.`);
          for (const result of bucket.results)
            if (result.object === "organization.costs.result") lines.push(toLine(result as Cost, day));
          onProgress(day);
        },
      );
      const asOfMs = now() - COSTS_BEHIND_MS;
      return [...byDay].map(([day, lines]): BillOfDay => ({ provider: PROVIDER, day, source: "api", asOfMs, lines }));
    },

    async fetchUsage(sinceMs, untilMs) {
      const found: BilledUsage[] = [];
      const range = {
        start_time: seconds(sinceMs),
        end_time: seconds(untilMs),
        bucket_width: "1h",
        limit: 168,
      } as const;
      const read = async (
        name: string,
        ask: (page: { page?: string }) => Promise<Page>,
        toUsage: (row: Row, hourMs: number) => BilledUsage[],
      ): Promise<void> =>
        walk(`OpenAI usage (${name})`, ask, ({ start_time: start, results }) => {
          for (const row of results) found.push(...toUsage({ ...row }, start * 1000));
        });
      const keyed = ["project_id", "api_key_id", "model"] as const;
      const group = { group_by: [...keyed] };
      await read(
        "completions",
        (page) => usage().completions({ ...range, group_by: [...keyed, "batch", "service_tier"], ...page }),
        (row, hourMs) => tokensOf(row).map(([unit, quantity]) => ({ ...place(row, hourMs), unit, quantity })),
      );
      const one =
        (unit: Unit, field: string) =>
        (row: Row, hourMs: number): BilledUsage[] => {
          const quantity = readQuantity(row[field], `OpenAI usage (${field})`);
          return quantity === 0 ? [] : [{ ...place(row, hourMs), unit, quantity }];
        };
      await read(
        "embeddings",
        (page) => usage().embeddings({ ...range, ...group, ...page }),
        one("input", "input_tokens"),
      );
      await read(
        "speech",
        (page) => usage().audioSpeeches({ ...range, ...group, ...page }),
        one("character", "characters"),
      );
      await read(
        "transcriptions",
        (page) => usage().audioTranscriptions({ ...range, ...group, ...page }),
        one("audio_second", "seconds"),
      );
      await read("pictures", (page) => usage().images({ ...range, ...group, ...page }), one("image", "images"));
      await read(
        "web searches",
        (page) => usage().webSearchCalls({ ...range, ...group, ...page }),
        one("web_search", "num_requests"),
      );
      return { provider: PROVIDER, asOfMs: Math.min(untilMs, now() - USAGE_BEHIND_MS), usage: found };
    },

    async fetchKeys() {
      const keys: ProviderKey[] = [];
      try {
        for await (const project of projects().list({ limit: 100, include_archived: true }))
          // Without `any` the provider hides keys whose owners left the project.
          for await (const key of projects().apiKeys.list(project.id, { limit: 100, owner_project_access: "any" }))
            keys.push({
              billedKey: key.id,
              name: key.name,
              project: project.id,
              hint: key.redacted_value,
              state: key.owner_project_access,
            });
      } catch (error) {
        throw explain(error, "OpenAI keys");
      }
      return keys;
    },
  };
}

/** Walks all pages of a report. Rejects with an ImportError for one that is not whole. */
async function walk(
  where: string,
  ask: (page: { page?: string }) => Promise<Page>,
  onBucket: (bucket: Bucket) => void,
): Promise<void> {
  let page: string | undefined;
  for (let count = 0; count < MOST_PAGES; count++) {
    const answer = await ask(page === undefined ? {} : { page }).catch((error: unknown) => {
      throw explain(error, where);
    });
    if (!Array.isArray(answer.data))
      throw new ImportError(
        `${where}: the answer holds no list of buckets; is the billing URL right? Nothing was imported.`,
      );
    for (const bucket of answer.data) onBucket(bucket);
    if (!answer.has_more) return;
    if (answer.next_page === null || answer.next_page === page)
      throw new ImportError(
        `${where}: the answer says that more pages follow, but names ${answer.next_page === null ? "none" : "the same one"}. Nothing was imported; try again later.`,
      );
    page = answer.next_page;
  }
  throw new ImportError(`${where}: more than ${MOST_PAGES} pages. Nothing was imported; the source may be looping.`);
}

function toLine(result: Cost, day: string): BilledLine {
  const where = `OpenAI costs of ${day}`;
  requireUsd(result.amount?.currency, where);
  const value: unknown = result.amount?.value;
  let amountNanoUsd: bigint;
  try {
    amountNanoUsd = parseRounded(String(value), FLOAT_DIGITS).value;
  } catch {
    throw new ImportError(`${where}: the amount ${JSON.stringify(value)} is no number. Nothing was imported.`);
  }
  const { model, tier, unit: named } = readLineItem(result.line_item ?? "");
  // What OpenAI writes to its cache stays for half an hour.
  const unit = named === "cache_write_5m" ? "cache_write_30m" : named;
  const quantity = quantityOf(result, unit);
  return {
    kind: "usage",
    billedKey: result.api_key_id ?? undefined,
    project: result.project_id ?? undefined,
    model: result.line_item === null || result.line_item === undefined ? undefined : model,
    tier,
    unit,
    lineItem: result.line_item ?? undefined,
    amountNanoUsd,
    quantity,
    resolutionNanoUsd: 1n,
    raw: JSON.stringify(result),
  };
}

/** In our units; undefined where theirs is none of ours. */
function quantityOf({ quantity, quantity_unit: unit }: Cost, ours: Unit | undefined): number | undefined {
  if (quantity === null || quantity === undefined || ours === undefined) return undefined;
  const times: { readonly [unit: string]: number } = {
    tokens: 1,
    "1000_tokens": 1000,
    images: 1,
    characters: 1,
    duration_seconds: 1,
    duration_minutes: 60,
    duration_hours: 3_600,
  };
  const factor = times[String(unit ?? "tokens")];
  return factor === undefined ? undefined : Math.round(quantity * factor);
}

type Row = { readonly [field: string]: unknown };

function place(row: Row, hourMs: number): Omit<BilledUsage, "unit" | "quantity"> {
  const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);
  const tier = row["batch"] === true ? "batch" : (text(row["service_tier"]) ?? "");
  return {
    hourMs: Math.floor(hourMs / HOUR_MS) * HOUR_MS,
    billedKey: text(row["api_key_id"]),
    project: text(row["project_id"]),
    model: text(row["model"]),
    tier: ["batch", "flex", "priority"].includes(tier) ? tier : "",
  };
}

/** Disjoint classes of a completions row: input tokens include cached and written ones, and each modality has fields of
 *  its own. */
function tokensOf(row: Row): [Unit, number][] {
  const count = (field: string): number => readQuantity(row[field], "OpenAI usage (completions)");
  const has = (field: string): boolean => row[field] !== undefined && row[field] !== null;
  const cached = count("input_cached_tokens");
  const [cachedAudio, cachedImage] = [count("input_cached_audio_tokens"), count("input_cached_image_tokens")];
  const [audio, image] = [count("input_audio_tokens"), count("input_image_tokens")];
  const [written30m, written12h] = [count("input_cache_write_30m_tokens"), count("input_cache_write_12h_tokens")];
  const written = has("input_cache_write_tokens") ? count("input_cache_write_tokens") : written30m + written12h;
  const uncached = has("input_uncached_tokens")
    ? count("input_uncached_tokens")
    : count("input_tokens") - cached - written;
  const [outAudio, outImage] = [count("output_audio_tokens"), count("output_image_tokens")];
  const units: [Unit, number][] = [
    ["input", uncached - audio - image],
    ["input_audio", audio],
    ["input_image", image],
    ["cache_read", cached - cachedAudio - cachedImage],
    ["cache_read_audio", cachedAudio],
    ["cache_read_image", cachedImage],
    ["cache_write_30m", written - written12h],
    ["cache_write_12h", written12h],
    ["output", count("output_tokens") - outAudio - outImage],
    ["output_audio", outAudio],
    ["output_image", outImage],
  ];
  return units.filter(([, quantity]) => quantity > 0);
}

function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}

function explain(error: unknown, where: string): Error {
  if (error instanceof ImportError) return error;
  if (!(error instanceof APIError)) return unreadable(where, error);
  const advice: { readonly [status: number]: string } = {
    401: "the admin key is wrong, expired or deleted; make a new one under Organization > Admin keys and set OPENAI_ADMIN_KEY",
    403: "the key has no right to read costs; it must be an admin key with the scope api.usage.read",
    404: "this is no address of OpenAI's billing; check KEYMETER_OPENAI_BILLING_URL",
    429: "too many requests; the next run tries again",
  };
  return new ImportError(
    `${where}: ${error.status ?? "no answer"} (${plainText(error.message)}); ${advice[error.status ?? 0] ?? "the next run tries again"}. Nothing was imported.`,
  );
}
