// BigQuery over a billing export, Cloud Billing, Cloud Monitoring and the API Keys service, as their references
// document them: a query that may not be done at once, values as strings, credits in rows of their own column.
import { grouped, known, pageOf, startFake } from "./truth.ts";
import type { Charge, FakeServer, Truth } from "./truth.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
export const TABLE = "acme-billing.export.gcp_billing_export_v1_01AB23_456789_CDEF01";

export type FakeGoogle = FakeServer & {
  token: string;
  /** How often a query says that it is not done. */
  slowAnswers: number;
  billingEnabled: boolean;
  /** USD a million tokens by SKU description. */
  readonly listPrices: Map<string, string>;
};

const COLUMNS = [
  "day",
  "project",
  "service",
  "sku",
  "sku_description",
  "cost_type",
  "currency",
  "unit",
  "quantity",
  "cost",
  "credits",
  "exported_at",
];

export async function startFakeGoogle(truth: Truth, currency = "USD"): Promise<FakeGoogle> {
  const jobs = new Map<string, string[][]>();
  const server = await startFake(
    (url, reply, { method }, body) => {
      const { pathname, searchParams } = url;
      const refuse = (status: number, message: string): void =>
        reply(status, { error: { code: status, message, status: "X" } });
      if (method === "POST" && pathname === "/bigquery/v2/projects/acme-billing/queries") {
        const asked = JSON.parse(body) as { query: string; queryParameters: { parameterValue: { value: string } }[] };
        if (!asked.query.includes(`\`${TABLE}\``)) return refuse(404, "Not found: Table");
        if (!asked.query.includes("_PARTITIONTIME")) return refuse(400, "the table is partitioned");
        const [since = "", until = ""] = asked.queryParameters.map(({ parameterValue }) => parameterValue.value);
        jobs.set("job_1", rowsOf(truth, Date.parse(since), Date.parse(until), currency));
        if (fake.slowAnswers > 0)
          return reply(200, {
            jobComplete: false,
            jobReference: { projectId: "acme-billing", jobId: "job_1", location: "EU" },
          });
        return reply(200, answerOf(jobs.get("job_1") ?? [], null, fake.pageSize));
      }
      if (pathname === "/bigquery/v2/projects/acme-billing/queries/job_1") {
        if ((fake.slowAnswers -= 1) > 0)
          return reply(200, {
            jobComplete: false,
            jobReference: { projectId: "acme-billing", jobId: "job_1", location: "EU" },
          });
        return reply(200, answerOf(jobs.get("job_1") ?? [], searchParams.get("pageToken"), fake.pageSize));
      }
      const project = /^\/v1\/projects\/([\w-]+)\/billingInfo$/.exec(pathname)?.[1];
      if (project !== undefined)
        return reply(200, {
          name: `projects/${project}/billingInfo`,
          projectId: project,
          billingAccountName: fake.billingEnabled ? "billingAccounts/01AB23-456789-CDEF01" : "",
          billingEnabled: fake.billingEnabled,
        });
      if (pathname === "/v1/services")
        return reply(200, { services: [{ name: "services/AAAA", serviceId: "AAAA", displayName: "Gemini API" }] });
      if (pathname === "/v1/services/AAAA/skus")
        return reply(200, {
          skus: [...fake.listPrices].map(([description, usd], i) => ({
            name: `services/AAAA/skus/S${i}`,
            skuId: `S${i}`,
            description,
            pricingInfo: [
              {
                pricingExpression: {
                  usageUnit: "1000000.count",
                  tieredRates: [{ startUsageAmount: 0, unitPrice: priceOf(usd) }],
                },
              },
            ],
          })),
        });
      const watched = /^\/v3\/projects\/([\w-]+)\/timeSeries$/.exec(pathname)?.[1];
      if (watched !== undefined) return reply(200, seriesOf(truth, watched, searchParams, fake.pageSize));
      const keysOf = /^\/v2\/projects\/([\w-]+)\/locations\/global\/keys$/.exec(pathname)?.[1];
      const all = truth.keys.filter((key) => key.provider === "gcp.gemini");
      if (keysOf !== undefined) {
        const { page, next } = pageOf(
          all.filter((key) => key.project === keysOf),
          searchParams.get("pageToken"),
          fake.pageSize,
        );
        return reply(200, {
          keys: page.map((key) => ({
            name: `projects/1/locations/global/keys/${key.id}`,
            uid: key.id,
            displayName: key.name,
          })),
          ...(next === null ? {} : { nextPageToken: next }),
        });
      }
      const one = all.find((key) => pathname === `/v2/projects/1/locations/global/keys/${key.id}/keyString`);
      if (one) return reply(200, { keyString: one.shown });
      refuse(404, `no such path ${pathname}`);
    },
    ({ headers }) =>
      headers.authorization === `Bearer ${fake.token}`
        ? undefined
        : {
            error: { code: 401, message: "Request had invalid authentication credentials.", status: "UNAUTHENTICATED" },
          },
  );
  const fake: FakeGoogle = Object.assign(server, {
    token: "google-token",
    slowAnswers: 0,
    billingEnabled: true,
    listPrices: new Map<string, string>(),
  });
  return fake;
}

const CLASSES: { readonly [unit: string]: string } = {
  input: "input token count",
  output: "output token count",
  cache_read: "cached input token count",
};

/** A SKU's sentence for a model's class. */
function skuOf({ model, unit, tier }: Pick<Charge, "model" | "unit" | "tier">): string {
  const name = (model ?? "").replaceAll("-", " ");
  return `Generate content ${tier ? `${tier} ` : ""}${CLASSES[unit ?? ""] ?? unit ?? ""} ${name} text`;
}

function rowsOf(truth: Truth, since: number, until: number, currency: string): string[][] {
  const charges = known(truth, "gcp.gemini", "billedAtMs", since, until).map((one) => ({
    ...one,
    atMs: Math.floor(one.atMs / DAY_MS) * DAY_MS,
  }));
  const use = charges.filter((one) => (one.kind ?? "usage") !== "credit");
  const exported = Math.max(0, ...charges.map((one) => one.billedAtMs ?? one.atMs), truth.nowMs - HOUR_MS);
  return grouped(use, ["atMs", "project", "model", "unit", "tier", "kind"]).map((one) => {
    const credits = charges
      .filter(
        (credit) =>
          credit.kind === "credit" &&
          credit.atMs === one.atMs &&
          credit.model === one.model &&
          credit.unit === one.unit,
      )
      .reduce((sum, credit) => sum + credit.amountNanoUsd, 0n);
    const costType = one.kind === "tax" ? "tax" : one.kind === "adjustment" ? "adjustment" : "regular";
    const description = skuOf(one);
    return [
      new Date(one.atMs).toISOString().slice(0, 10),
      one.project ?? "",
      "Gemini API",
      description.length.toString(16).toUpperCase().padStart(4, "0"),
      one.lineItem ?? description,
      costType,
      currency,
      "count",
      String(one.quantity),
      usd(one.amountNanoUsd),
      usd(credits),
      String(Math.floor(exported / 1000)),
    ];
  });
}

function answerOf(rows: readonly (readonly string[])[], cursor: string | null, size: number): object {
  const { page, next } = pageOf(rows, cursor, size);
  return {
    kind: "bigquery#queryResponse",
    jobComplete: true,
    jobReference: { projectId: "acme-billing", jobId: "job_1", location: "EU" },
    schema: { fields: COLUMNS.map((name) => ({ name, type: "STRING" })) },
    totalRows: String(rows.length),
    rows: page.map((row) => ({ f: row.map((v) => ({ v })) })),
    ...(next === null ? {} : { pageToken: next }),
  };
}

function seriesOf(truth: Truth, project: string, query: URLSearchParams, size: number): object {
  const [since, until] = [
    Date.parse(query.get("interval.startTime") ?? ""),
    Date.parse(query.get("interval.endTime") ?? ""),
  ];
  const own = known(truth, "gcp.gemini", "reportedAtMs", since, until)
    .filter((one) => one.project === project && one.unit === "input")
    .map((one) => ({ ...one, atMs: Math.floor(one.atMs / HOUR_MS) * HOUR_MS }));
  const keys = [...new Set(own.map((one) => one.billedKey ?? ""))];
  const series = keys.map((key) => ({
    metric: { type: "serviceruntime.googleapis.com/api/request_count" },
    resource: {
      type: "consumed_api",
      labels: {
        project_id: project,
        credential_id: `apikey:${key}`,
        method: "google.ai.generativelanguage.v1beta.GenerativeService.GenerateContent",
      },
    },
    points: grouped(
      own.filter((one) => one.billedKey === key),
      ["atMs"],
    ).map((one) => ({
      interval: { startTime: new Date(one.atMs).toISOString(), endTime: new Date(one.atMs + HOUR_MS).toISOString() },
      value: { int64Value: String(one.requests ?? 0) },
    })),
  }));
  const { page, next } = pageOf(series, query.get("pageToken"), size);
  return { timeSeries: page, ...(next === null ? {} : { nextPageToken: next }) };
}

function priceOf(text: string): object {
  const [whole = "0", fraction = ""] = text.split(".");
  return { currencyCode: "USD", units: whole, nanos: Number(fraction.padEnd(9, "0").slice(0, 9)) };
}

function usd(nano: bigint): string {
  const sign = nano < 0n ? "-" : "";
  const all = (nano < 0n ? -nano : nano).toString().padStart(10, "0");
  return `${sign}${all.slice(0, -9)}.${all.slice(-9)}`;
}
