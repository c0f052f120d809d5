// PutMetricData. What it is sent adds up there, so what is to be sent is written down before, and sent until it was taken:
// once, unless this program dies between the answer and the note of it.
import type { CloudWatchClient, MetricDatum } from "@aws-sdk/client-cloudwatch";
import type { Registry } from "prom-client";
import { z } from "zod";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import { findMark, noteMark } from "../../ledger/billing/telemetry.ts";
import { readCommits, readLastCommit } from "../../ledger/usage/commits.ts";
import type { Commit } from "../../ledger/usage/commits.ts";
import { coarseOf } from "./coarse.ts";
import type { CoarseMetric } from "./coarse.ts";
import { loadCloudWatch } from "./packages.ts";
import type { CloudWatchSettings } from "./settings.ts";

/** As CloudWatch bounds a call. */
const MOST_METRICS = 1_000;
const PAGE = 1_000;
/** Commits that go into one sum, so that what is written down is bounded. */
const MOST_PAGES = 20;
const NAME = "cloudwatch";
const OLDEST_MS = 13 * 24 * 3_600_000;

const waiting = z.object({
  atMs: z.number(),
  metrics: z.array(
    z.object({
      name: z.string(),
      dimensions: z.record(z.string(), z.string()),
      unit: z.enum(["None", "Count"]),
      value: z.number(),
    }),
  ),
});
type Waiting = z.infer<typeof waiting>;

export type Putting = { tick(nowMs: number): Promise<void> };

/** `tick` rejects when CloudWatch does not take it; then all is as it was. */
export async function createPutting(
  { usage, billing }: { readonly usage: UsageBooks; readonly billing: BillingBooks },
  gauges: Registry,
  { region, url, namespace, accessKey }: CloudWatchSettings,
): Promise<Putting> {
  const { CloudWatchClient, PutMetricDataCommand } = await loadCloudWatch();
  const client: CloudWatchClient = new CloudWatchClient({
    region,
    // A call that was taken and not answered must not be made again by the client: it would count twice.
    maxAttempts: 1,
    ...(url === undefined ? {} : { endpoint: url }),
    ...(accessKey === undefined
      ? {}
      : { credentials: async () => ({ accessKeyId: accessKey.id, secretAccessKey: accessKey.secret.reveal() }) }),
  });
  const put = async ({ atMs: madeMs, metrics }: Waiting): Promise<void> => {
    // Older than two weeks CloudWatch takes nothing: late is better than never.
    const atMs = Math.max(madeMs, Date.now() - OLDEST_MS);
    await client.send(
      new PutMetricDataCommand({ Namespace: namespace, MetricData: metrics.map((metric) => datumOf(metric, atMs)) }),
      { abortSignal: AbortSignal.timeout(10_000) },
    );
  };
  return {
    async tick(nowMs) {
      let mark = await findMark(billing, NAME);
      if (!mark) {
        mark = { ...(await readLastCommit(usage)), sinceMs: nowMs, state: null };
        await noteMark(billing, NAME, mark);
      }
      for (;;) {
        let left: Waiting | undefined = mark.state === null ? undefined : waiting.parse(JSON.parse(mark.state));
        while (left && left.metrics.length > 0) {
          await put({ ...left, metrics: left.metrics.slice(0, MOST_METRICS) });
          left = { ...left, metrics: left.metrics.slice(MOST_METRICS) };
          mark = { ...mark, state: left.metrics.length === 0 ? null : JSON.stringify(left) };
          await noteMark(billing, NAME, mark);
        }
        const commits = await readSome(usage, mark);
        const last = commits.at(-1);
        if (!last) break;
        const next: Waiting = { atMs: nowMs, metrics: coarseOf(commits) };
        mark = { ...mark, ...last.place, state: JSON.stringify(next) };
        await noteMark(billing, NAME, mark);
      }
      const shown = await coarseGauges(gauges);
      if (shown.length > 0) await put({ atMs: nowMs, metrics: shown.slice(0, MOST_METRICS) });
    },
  };
}

async function readSome(usage: UsageBooks, after: { number: number; position: number }): Promise<Commit[]> {
  const found: Commit[] = [];
  for (let i = 0; i < MOST_PAGES; i++) {
    const page = await readCommits(usage, found.at(-1)?.place ?? after, PAGE);
    found.push(...page);
    if (page.length < PAGE) break;
  }
  return found;
}

function datumOf({ name, dimensions, unit, value }: Waiting["metrics"][number], atMs: number): MetricDatum {
  return {
    MetricName: name,
    Dimensions: Object.entries(dimensions).map(([Name, Value]) => ({ Name, Value: asciiOf(Value) })),
    Unit: unit,
    Value: value,
    Timestamp: new Date(atMs),
  };
}

/** CloudWatch takes 1 to 1,024 characters of ASCII that are not all blank. */
function asciiOf(text: string): string {
  return (
    text
      .replaceAll(/[^\x20-\x7e]/g, "?")
      .slice(0, 1_024)
      .trim() || "-"
  );
}

/** How much of each budget is used, and how far an organisation's and its teams' spend is over the forecast. Keys would cost too
 *  many series. */
async function coarseGauges(gauges: Registry): Promise<CoarseMetric[]> {
  const amounts = await valuesOf(gauges, "keymeter_budget_usd");
  const spent = await valuesOf(gauges, "keymeter_budget_spent_usd");
  const used = spent.flatMap(({ labels, value }) => {
    const id = String(labels["budget"] ?? "");
    const amount = amounts.find((one) => String(one.labels["budget"] ?? "") === id)?.value ?? 0;
    return amount === 0
      ? []
      : [{ name: "BudgetUsedRatio", dimensions: { Budget: id }, unit: "None" as const, value: value / amount }];
  });
  const over = (await valuesOf(gauges, "keymeter_over_forecast_usd")).flatMap(({ labels, value }) => {
    const { scope, id, window } = labels as { readonly [label: string]: string | undefined };
    return scope === "org" || scope === "team"
      ? [
          {
            name: "OverForecastUSD",
            dimensions: { Scope: scope, Name: id ?? "", Window: window ?? "" },
            unit: "None" as const,
            value,
          },
        ]
      : [];
  });
  return [...used, ...over];
}

async function valuesOf(gauges: Registry, name: string) {
  return (await gauges.getSingleMetric(name)?.get())?.values ?? [];
}
