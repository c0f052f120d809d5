// Google: what is billed stands only in the BigQuery export of Cloud Billing, by project and SKU, credits and tax
// apart. The @google-cloud/billing clients say what they do know: whether billing is on, for which account, and the
// list prices of SKUs. Requests a key made come from Cloud Monitoring, the keys from the API Keys service; both only
// for the projects that are named. Sources: bigquery v2 jobs.query and getQueryResults; cloudbilling v1; monitoring v3
// timeSeries.list; apikeys v2 keys.list.
import type { BilledLine, BilledUsage, BillOfDay, ProviderKey } from "../../ledger/billing/bills.ts";
import { PROVIDERS } from "../../ledger/providers.ts";
import { parseRounded } from "../../ledger/money.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import type { Unit } from "../../ledger/usage.ts";
import type { GoogleCredentials } from "../../service/google-credentials.ts";
import { HOUR_MS } from "../../ledger/windows.ts";
import { daysOf, ImportError, readQuantity, requireUsd } from "./importer.ts";
import { loadPackage } from "../../service/package.ts";
import type { Importer } from "./importer.ts";
import { readSku } from "./line-items.ts";

export type GoogleSettings = {
  readonly credentials: GoogleCredentials;
  /** The export: "project.dataset.gcp_billing_export_v1_XXXXXX". */
  readonly table: string;
  /** Projects whose keys are watched; their requests are counted by Cloud Monitoring. */
  readonly projects: readonly string[];
  /** SKUs that their description does not tell: "model, unit" by SKU id. */
  readonly skus: { readonly [skuId: string]: string };
  readonly bigqueryUrl: string;
  readonly billingUrl: string;
  readonly monitoringUrl: string;
  readonly apiKeysUrl: string;
  readonly now?: () => number;
};

/** Whose bill each service of Google is. Anything else in the export is not ours. */
const BY_SERVICE = new Map(
  PROVIDERS.flatMap(({ name, billedAs }) => (billedAs.inExport ?? []).map((service) => [service, name] as const)),
);
const TABLE = /^([a-z][\w-]{4,40}(?::[\w-]+)?)\.(\w{1,200})\.([\w-]{1,200})$/;
const ACCOUNT = /_([0-9A-F]{6})_([0-9A-F]{6})_([0-9A-F]{6})$/;
const TIMEOUT_MS = 60_000;
const QUERY_WAIT_MS = 30_000;
const MOST_PAGES = 2_000;
const MOST_SKUS = 20_000;
const NANO_DIGITS = 9;
/** A float of the export carries no more than this. */
const LEAST_RESOLUTION = 1_000n;
/** Counts come every minute or two, and are revised for some. */
const MONITORING_BEHIND_MS = 10 * 60_000;
const HOURS_IN_A_DAY = 24;

export function googleImporter(settings: GoogleSettings): Importer {
  const { table, projects, now = Date.now } = settings;
  const [, tableProject = ""] = TABLE.exec(table) ?? [];
  const call = createCaller(settings.credentials);
  const where = `Google billing export ${table}`;
  if (tableProject === "")
    throw new ImportError(
      `"${table}" is no BigQuery table: write project.dataset.table in KEYMETER_GOOGLE_BILLING_TABLE, such as my-project.billing.gcp_billing_export_v1_01AB23_456789_CDEF01`,
    );

  return {
    name: where,
    providers: [...new Set(BY_SERVICE.values())],

    async fetchBills(sinceDay, untilDay, onProgress) {
      const bills = new Map<string, { lines: BilledLine[] }>();
      for (const provider of new Set(BY_SERVICE.values()))
        for (const day of daysOf(sinceDay, untilDay)) bills.set(`${provider} ${day}`, { lines: [] });
      const rows = await query(
        call,
        settings.bigqueryUrl,
        tableProject,
        where,
        billQuery(table, sinceDay, untilDay),
        onProgress,
      );
      let exportedMs = 0;
      for (const row of rows) {
        const provider = BY_SERVICE.get(row["service"] ?? "");
        if (provider === undefined) continue;
        requireUsd(row["currency"], `${where}: the rows of ${row["day"]}`);
        exportedMs = Math.max(exportedMs, Math.floor(Number(row["exported_at"] ?? 0) * 1000));
        const bill = bills.get(`${provider} ${row["day"]}`);
        if (!bill)
          throw new ImportError(
            `${where}: the answer holds ${row["day"]}, which was not asked for. Nothing was imported.`,
          );
        bill.lines.push(...linesOf(row, settings.skus, where));
      }
      // Nothing exported in these days: nothing is known of them.
      const asOfMs = exportedMs === 0 ? 0 : Math.min(exportedMs, now()) - HOURS_IN_A_DAY * HOUR_MS;
      return [...bills].map(([place, { lines }]): BillOfDay => {
        const [provider = "", day = ""] = place.split(" ");
        return { provider, day, source: "api", asOfMs, lines };
      });
    },

    fetchUsage:
      projects.length === 0
        ? undefined
        : async (sinceMs, untilMs) => {
            const usage: BilledUsage[] = [];
            for (const project of projects)
              usage.push(...(await requestsOf(call, settings.monitoringUrl, project, sinceMs, untilMs)));
            return { provider: "gcp.gemini", asOfMs: Math.min(untilMs, now() - MONITORING_BEHIND_MS), usage };
          },

    fetchKeys:
      projects.length === 0
        ? undefined
        : async () => {
            const keys: ProviderKey[] = [];
            for (const project of projects) keys.push(...(await keysOf(call, settings.apiKeysUrl, project)));
            return keys;
          },

    inspect: () => inspect(settings, tableProject),
  };
}

type Row = { readonly [column: string]: string | undefined };
type Call = <T>(where: string, url: string, init?: { method: "POST"; body: string }) => Promise<T>;

/** Calls Google's JSON APIs, says what is wrong in a sentence, and waits out what passes. */
function createCaller(credentials: GoogleCredentials): Call {
  return async <T>(where: string, url: string, init?: { method: "POST"; body: string }) => {
    for (let attempt = 0; ; attempt++) {
      const token = await credentials.reveal().catch((error: unknown) => {
        const why = error instanceof Error ? error.message : String(error);
        throw new ImportError(
          `${where}: Google gives no token (${why.slice(0, 200)}); check KEYMETER_GOOGLE_BILLING_CREDENTIALS`,
        );
      });
      const answer = await fetch(url, {
        ...init,
        headers: { authorization: `Bearer ${token}`, ...(init ? { "content-type": "application/json" } : {}) },
        signal: AbortSignal.timeout(TIMEOUT_MS),
      }).catch((error: unknown) => {
        const cause = error instanceof Error ? (error.cause as Error | undefined) : undefined;
        throw new ImportError(
          `${where}: no answer (${cause?.message ?? String(error)}); the next run tries again. Nothing was imported.`,
        );
      });
      if (answer.ok) return (await answer.json()) as T;
      const { error } = (await answer.json().catch(() => ({}))) as { error?: { message?: string; status?: string } };
      if ((answer.status === 429 || answer.status >= 500) && attempt < 4) {
        const after = Number(answer.headers.get("retry-after") ?? 2 ** attempt / 4);
        await new Promise((resolve) => setTimeout(resolve, Math.min(30, after) * 1000));
        continue;
      }
      const advice: { readonly [status: number]: string } = {
        400: "check KEYMETER_GOOGLE_BILLING_TABLE and that the export is the standard or detailed one",
        401: "the credentials are wrong or expired; check KEYMETER_GOOGLE_BILLING_CREDENTIALS",
        403: "the service account may not do this; it needs BigQuery Data Viewer on the dataset and BigQuery Job User on the project (and Monitoring Viewer, API Keys Viewer where projects are named)",
        404: "there is no such table or project; enable the export under Billing > Billing export and set KEYMETER_GOOGLE_BILLING_TABLE",
      };
      throw new ImportError(
        `${where}: ${answer.status} (${(error?.message ?? "no reason").slice(0, 200)}); ${advice[answer.status] ?? "the next run tries again"}. Nothing was imported.`,
      );
    }
  };
}

/** Costs and credits apart, by UTC day. The days are parameters; the table's name was checked. */
function billQuery(table: string, sinceDay: string, untilDay: string): object {
  const parameter = (name: string, type: string, value: string): object => ({
    name,
    parameterType: { type },
    parameterValue: { value },
  });
  return {
    query: `SELECT FORMAT_DATE('%F', DATE(usage_start_time, 'UTC')) AS day, project.id AS project, service.description AS service, sku.id AS sku,
  sku.description AS sku_description, cost_type, currency, usage.unit AS unit, CAST(SUM(CAST(usage.amount AS NUMERIC)) AS STRING) AS quantity,
  CAST(SUM(CAST(cost AS NUMERIC)) AS STRING) AS cost,
  CAST(SUM((SELECT SUM(CAST(credit.amount AS NUMERIC)) FROM UNNEST(credits) AS credit)) AS STRING) AS credits,
  CAST(UNIX_SECONDS((SELECT MAX(export_time) FROM \`${table}\` WHERE DATE(_PARTITIONTIME) >= DATE(@since))) AS STRING) AS exported_at
FROM \`${table}\`
WHERE DATE(_PARTITIONTIME) >= DATE(@since) AND usage_start_time >= TIMESTAMP(@since) AND usage_start_time < TIMESTAMP(@until)
  AND service.description IN UNNEST(@services)
GROUP BY day, project, service, sku, sku_description, cost_type, currency, unit
ORDER BY day, project, service, sku`,
    useLegacySql: false,
    parameterMode: "NAMED",
    queryParameters: [
      parameter("since", "STRING", sinceDay),
      parameter("until", "STRING", untilDay),
      {
        name: "services",
        parameterType: { type: "ARRAY", arrayType: { type: "STRING" } },
        parameterValue: { arrayValues: [...BY_SERVICE.keys()].map((value) => ({ value })) },
      },
    ],
    timeoutMs: QUERY_WAIT_MS,
    maxResults: 5_000,
  };
}

type QueryAnswer = {
  readonly jobComplete: boolean;
  readonly jobReference?: { readonly projectId: string; readonly jobId: string; readonly location?: string };
  readonly schema?: { readonly fields: readonly { readonly name: string }[] };
  readonly rows?: readonly { readonly f: readonly { readonly v: string | null }[] }[];
  readonly pageToken?: string;
};

/** Runs a query and walks its pages. A query that takes long is waited for. */
async function query(
  call: Call,
  baseUrl: string,
  project: string,
  where: string,
  body: object,
  onProgress: (done: string) => void,
): Promise<Row[]> {
  const start = `${baseUrl}/bigquery/v2/projects/${project}/queries`;
  let answer = await call<QueryAnswer>(where, start, { method: "POST", body: JSON.stringify(body) });
  const rows: Row[] = [];
  let names: string[] = [];
  for (let count = 0; count < MOST_PAGES; count++) {
    if (answer.jobComplete) {
      names = answer.schema?.fields.map(({ name }) => name) ?? names;
      for (const { f } of answer.rows ?? [])
        rows.push(Object.fromEntries(f.map(({ v }, i) => [names[i] ?? "", v ?? undefined])));
      if (answer.pageToken === undefined || answer.pageToken === "") return rows;
      onProgress(`${rows.length} rows`);
    }
    const job = answer.jobReference;
    if (!job)
      throw new ImportError(
        `${where}: BigQuery named no job to ask for its result. Nothing was imported; try again later.`,
      );
    const asked = new URLSearchParams({ maxResults: "5000", timeoutMs: String(QUERY_WAIT_MS) });
    if (job.location !== undefined) asked.set("location", job.location);
    if (answer.pageToken !== undefined) asked.set("pageToken", answer.pageToken);
    answer = await call<QueryAnswer>(where, `${start}/${encodeURIComponent(job.jobId)}?${asked.toString()}`);
  }
  throw new ImportError(`${where}: more than ${MOST_PAGES} pages. Nothing was imported.`);
}

function linesOf(row: Row, skus: GoogleSettings["skus"], where: string): BilledLine[] {
  const { day, project, sku = "", sku_description: description = "" } = row;
  const [model, unit] = skus[sku]?.split(",").map((part) => part.trim()) ?? [];
  const named = model === undefined ? readSku(description) : { model, tier: "", unit: unit as Unit | undefined };
  const base = {
    project,
    model: named.model ?? `${description} (${sku})`,
    tier: named.tier,
    unit: named.unit,
    lineItem: `${description} (${sku})`,
    raw: JSON.stringify(row),
  };
  const money = (text: string | undefined): Pick<BilledLine, "amountNanoUsd" | "resolutionNanoUsd"> => {
    try {
      const { value, resolution } = parseRounded(text ?? "0", NANO_DIGITS);
      return { amountNanoUsd: value, resolutionNanoUsd: resolution > LEAST_RESOLUTION ? LEAST_RESOLUTION : resolution };
    } catch {
      throw new ImportError(`${where}: the cost ${JSON.stringify(text)} of ${day} is no number. Nothing was imported.`);
    }
  };
  const kinds: { readonly [costType: string]: BilledLine["kind"] } = {
    regular: "usage",
    tax: "tax",
    adjustment: "adjustment",
    rounding_error: "rounding",
  };
  const kind = kinds[row["cost_type"] ?? "regular"] ?? "adjustment";
  const quantity =
    kind === "usage" && row["quantity"] !== undefined && named.unit !== undefined
      ? readSum(row["quantity"], `${where}: ${description} of ${day}`)
      : undefined;
  const lines: BilledLine[] = [{ ...base, kind, ...money(row["cost"]), quantity }];
  const credits = money(row["credits"]);
  if (credits.amountNanoUsd !== 0n)
    lines.push({ ...base, unit: undefined, kind: "credit", ...credits, lineItem: `credits of ${base.lineItem}` });
  return lines;
}

/** A sum of quantities: corrections can make it negative. */
function readSum(text: string, where: string): number {
  return text.startsWith("-") ? -readQuantity(text.slice(1), where) : readQuantity(text, where);
}

/** Methods that cost something; listing models, counting tokens and fetching files do not, and are not metered. */
const COSTING = /generate|embed|predict|batch|interaction|bidi/i;
const FREE = /count_?tokens|list|get/i;

type TimeSeries = {
  readonly resource?: { readonly labels?: { readonly credential_id?: string; readonly method?: string } };
  readonly points?: readonly {
    readonly interval: { readonly startTime?: string; readonly endTime: string };
    readonly value: { readonly int64Value?: string; readonly doubleValue?: number };
  }[];
};

/** Requests by API key and hour, as Google counted them. */
async function requestsOf(
  call: Call,
  baseUrl: string,
  project: string,
  sinceMs: number,
  untilMs: number,
): Promise<BilledUsage[]> {
  const where = `Google Monitoring of ${project}`;
  const found: BilledUsage[] = [];
  let pageToken = "";
  for (let count = 0; count < MOST_PAGES; count++) {
    const asked = new URLSearchParams({
      filter:
        'metric.type="serviceruntime.googleapis.com/api/request_count" AND resource.type="consumed_api" AND resource.labels.service="generativelanguage.googleapis.com" AND metric.labels.response_code_class="2xx"',
      "interval.startTime": new Date(sinceMs).toISOString(),
      "interval.endTime": new Date(untilMs).toISOString(),
      "aggregation.alignmentPeriod": "3600s",
      "aggregation.perSeriesAligner": "ALIGN_SUM",
      "aggregation.crossSeriesReducer": "REDUCE_SUM",
      ...(pageToken === "" ? {} : { pageToken }),
    });
    for (const field of ["resource.labels.credential_id", "resource.labels.method"])
      asked.append("aggregation.groupByFields", field);
    const answer = await call<{ readonly timeSeries?: readonly TimeSeries[]; readonly nextPageToken?: string }>(
      where,
      `${baseUrl}/v3/projects/${project}/timeSeries?${asked.toString()}`,
    );
    for (const series of answer.timeSeries ?? []) {
      const method = (series.resource?.labels?.method ?? "generate").split(".").at(-1) ?? "";
      if (!COSTING.test(method) || FREE.test(method)) continue;
      for (const { interval, value } of series.points ?? []) {
        const quantity = readQuantity(value.int64Value ?? value.doubleValue ?? 0, where);
        const hourMs = Math.floor((Date.parse(interval.endTime) - 1) / HOUR_MS) * HOUR_MS;
        if (quantity > 0)
          found.push({
            hourMs,
            billedKey: series.resource?.labels?.credential_id,
            project,
            unit: "requests",
            quantity,
          });
      }
    }
    pageToken = answer.nextPageToken ?? "";
    if (pageToken === "") return found;
  }
  throw new ImportError(`${where}: more than ${MOST_PAGES} pages. Nothing was imported.`);
}

type ApiKey = {
  readonly name: string;
  readonly uid: string;
  readonly displayName?: string;
  readonly deleteTime?: string;
};

/** The keys of a project, with the end of each string: it is read once, and nothing else of it is kept. */
async function keysOf(call: Call, baseUrl: string, project: string): Promise<ProviderKey[]> {
  const where = `Google API keys of ${project}`;
  const found: ProviderKey[] = [];
  let pageToken = "";
  for (let count = 0; count < MOST_PAGES; count++) {
    const asked = new URLSearchParams({
      pageSize: "300",
      showDeleted: "true",
      ...(pageToken === "" ? {} : { pageToken }),
    });
    const answer = await call<{ readonly keys?: readonly ApiKey[]; readonly nextPageToken?: string }>(
      where,
      `${baseUrl}/v2/projects/${project}/locations/global/keys?${asked.toString()}`,
    );
    for (const key of answer.keys ?? []) {
      const isDeleted = key.deleteTime !== undefined;
      const { keyString = "" } = isDeleted
        ? {}
        : await call<{ readonly keyString?: string }>(where, `${baseUrl}/v2/${key.name}/keyString`).catch(() => ({
            keyString: "",
          }));
      found.push({
        billedKey: `apikey:${key.uid}`,
        name: key.displayName ?? key.uid,
        project,
        hint: keyString === "" ? "" : `AIza...${keyString.slice(-4)}`,
        state: isDeleted ? "deleted" : "active",
      });
    }
    pageToken = answer.nextPageToken ?? "";
    if (pageToken === "") return found;
  }
  throw new ImportError(`${where}: more than ${MOST_PAGES} pages.`);
}

/** What Cloud Billing itself says: is billing on, is it the account of the export, are the list prices ours. */
async function inspect(
  { credentials, table, projects, billingUrl }: GoogleSettings,
  tableProject: string,
): Promise<string[]> {
  // Loaded only where Google's billing is read: it brings protobuf with it.
  const { CloudBillingClient, CloudCatalogClient } = await loadPackage(
    "@google-cloud/billing",
    () => import("@google-cloud/billing"),
  );
  const { OAuth2Client } = await import("google-auth-library");
  const authClient = new OAuth2Client();
  authClient.setCredentials({ access_token: await credentials.reveal() });
  const { protocol, hostname, port } = new URL(billingUrl);
  const options = {
    authClient,
    fallback: true,
    apiEndpoint: hostname,
    protocol: protocol.replace(":", ""),
    ...(port === "" ? {} : { port: Number(port) }),
  } as unknown as ConstructorParameters<typeof CloudBillingClient>[0];
  const billing = new CloudBillingClient(options);
  const catalog = new CloudCatalogClient(options);
  const notes: string[] = [];
  try {
    const account = ACCOUNT.exec(table)?.slice(1, 4).join("-");
    for (const project of new Set([tableProject, ...projects])) {
      const [info] = await billing.getProjectBillingInfo({ name: `projects/${project}` });
      if (info.billingEnabled !== true)
        notes.push(`Google: billing is off for the project ${project}; nothing in it can be paid for`);
      else if (
        account !== undefined &&
        projects.includes(project) &&
        info.billingAccountName !== `billingAccounts/${account}`
      )
        notes.push(
          `Google: the project ${project} is billed to ${info.billingAccountName}, but the export is that of billingAccounts/${account}; its bill is not read`,
        );
    }
    notes.push(...(await comparePrices(catalog)));
  } catch (error) {
    notes.push(
      `Google: Cloud Billing could not be asked (${error instanceof Error ? error.message.slice(0, 200) : String(error)})`,
    );
  } finally {
    await billing.close();
    await catalog.close();
  }
  return notes;
}

/** Google's list prices of Gemini SKUs against our book: a difference is told before it is a variance. */
async function comparePrices(
  catalog: InstanceType<typeof import("@google-cloud/billing").CloudCatalogClient>,
): Promise<string[]> {
  const notes: string[] = [];
  const book = createPriceBook();
  let seen = 0;
  const [services] = await catalog.listServices({});
  for (const service of services) {
    const provider = BY_SERVICE.get(service.displayName ?? "");
    if (provider !== "gcp.gemini" || !service.name) continue;
    const [skus] = await catalog.listSkus({ parent: service.name, currencyCode: "USD" });
    for (const sku of skus) {
      if ((seen += 1) > MOST_SKUS) return notes;
      const { model, tier, unit } = readSku(sku.description ?? "");
      const rates = sku.pricingInfo?.[0]?.pricingExpression?.tieredRates ?? [];
      const price = rates.at(-1)?.unitPrice;
      if (model === undefined || tier !== "" || unit === undefined || rates.length !== 1 || !price) continue;
      const ours = book.find("google", model, Date.now())?.units[unit];
      if (!ours || ours.steps.length > 0) continue;
      // Google prices a token in nano-USD of "count" or, where the usage unit is a million, of that.
      const per = /^(m|1000000|mega)/i.test(sku.pricingInfo?.[0]?.pricingExpression?.usageUnit ?? "") ? 1_000_000n : 1n;
      const theirs = (BigInt(String(price.units ?? 0)) * 1_000_000_000_000n + BigInt(price.nanos ?? 0) * 1_000n) / per;
      if (theirs !== ours.base)
        notes.push(
          `Google lists ${model} ${unit} at ${usdPerMillion(theirs)} USD a million, our price book has ${usdPerMillion(ours.base)}; give the right price under proxy.prices`,
        );
    }
  }
  return notes;
}

function usdPerMillion(pico: bigint): string {
  return String(Number(pico) / 1e6);
}
