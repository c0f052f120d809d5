// Sums and gauges as OpenTelemetry has them. Sums are cumulative: what they are since telemetry began.
import type { DataPoint, Histogram, MetricData, ResourceMetrics } from "@opentelemetry/sdk-metrics";
import type { Resource } from "@opentelemetry/resources";
import type { Registry } from "prom-client";
import { METRICS } from "./names.ts";
import type { Metric } from "./names.ts";
import type { Otel } from "./packages.ts";
import type { Point, Sums } from "./sums.ts";

export const SCOPE = { name: "keymeter" };
const NANO = 1e9;
const MICRO = 1e6;

/** `gauges`: what the collector shows of the books besides: budgets, forecasts, bills. */
export async function metricsOf(
  otel: Otel,
  resource: Resource,
  { sums, sinceMs, nowMs, gauges }: { readonly sums: Sums; sinceMs: number; nowMs: number; readonly gauges: Registry },
): Promise<ResourceMetrics> {
  const span = { startTime: timeOf(sinceMs), endTime: timeOf(nowMs) };
  const metrics: MetricData[] = [];
  for (const [name, points] of sums.points()) {
    const metric: Metric = METRICS[name];
    const descriptor = describe(otel, metric.name, metric.says, metric.unit);
    const common = { descriptor, aggregationTemporality: otel.AggregationTemporality.CUMULATIVE };
    metrics.push(
      metric.ends
        ? {
            ...common,
            dataPointType: otel.DataPointType.HISTOGRAM,
            dataPoints: [...points].map((point): DataPoint<Histogram> => ({
              ...span,
              attributes: point.attributes,
              value: {
                buckets: { boundaries: [...(metric.ends ?? [])], counts: point.buckets ?? [] },
                sum: valueOf(metric, point),
                count: point.count,
              },
            })),
          }
        : {
            ...common,
            dataPointType: otel.DataPointType.SUM,
            isMonotonic: metric.isBalance !== true,
            dataPoints: [...points].map((point): DataPoint<number> => ({
              ...span,
              attributes: point.attributes,
              value: valueOf(metric, point),
            })),
          },
    );
  }
  for (const { name, help, values, type } of await gauges.getMetricsAsJSON()) {
    if (String(type) !== "gauge" || values.length === 0) continue;
    metrics.push({
      descriptor: describe(otel, name, help, unitOf(name)),
      aggregationTemporality: otel.AggregationTemporality.CUMULATIVE,
      dataPointType: otel.DataPointType.GAUGE,
      dataPoints: values.map(({ labels, value }) => ({
        startTime: span.endTime,
        endTime: span.endTime,
        attributes: Object.fromEntries(Object.entries(labels).map(([label, text]) => [label, String(text)])),
        value,
      })),
    });
  }
  return { resource, scopeMetrics: [{ scope: SCOPE, metrics }] };
}

function describe({ ValueType }: Otel, name: string, description: string, unit: string) {
  return { name, description, unit, valueType: unit.startsWith("{") ? ValueType.INT : ValueType.DOUBLE };
}

/** The conversion to a float is the last step. */
function valueOf({ unit }: Metric, { sum }: Point): number {
  if (unit === "USD") return Number(sum) / NANO;
  return unit === "s" ? Number(sum) / MICRO : Number(sum);
}

function unitOf(name: string): string {
  if (name.endsWith("_usd")) return "USD";
  return name.endsWith("_seconds") ? "s" : "1";
}

/** Seconds and nanoseconds. */
export function timeOf(ms: number): [number, number] {
  return [Math.floor(ms / 1_000), Math.round((ms % 1_000) * MICRO)];
}
