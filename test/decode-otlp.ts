// What was really exported: decoded by OpenTelemetry's own definitions (PyPI: test/servers/requirements.txt), which share no
// code with what encodes it.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Export } from "./fake/otlp.ts";
import { noteSkipped } from "./skipped.ts";

const python = fileURLToPath(new URL("servers/venv/bin/python", import.meta.url));
const script = fileURLToPath(new URL("servers/decode-otlp.py", import.meta.url));

export const hasDecoder =
  spawnSync(python, ["-c", "import opentelemetry.proto.collector.metrics.v1.metrics_service_pb2"]).status === 0;
if (!hasDecoder)
  noteSkipped("OpenTelemetry's definitions are not here (test/servers/requirements.txt); exports are not decoded");

type Value = { stringValue?: string; intValue?: string; doubleValue?: number };
type Attribute = { key: string; value: Value };
export type DecodedPoint = {
  attributes: { [name: string]: string | number };
  /** Of a histogram: its sum. */
  value: number;
  count: number | undefined;
  startMs: number;
};
export type DecodedMetric = {
  name: string;
  unit: string;
  kind: "sum" | "histogram" | "gauge";
  isMonotonic: boolean;
  isCumulative: boolean;
  points: DecodedPoint[];
};
export type DecodedSpan = {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId: string | undefined;
  kind: string;
  status: string | undefined;
  startMs: number;
  endMs: number;
  attributes: { [name: string]: string | number };
};

function decode(exports: readonly Export[]): { signal: string; json: Record<string, never[]> }[] {
  if (exports.length === 0) return [];
  const input = exports.map(({ signal, body }) => `${signal} ${body.toString("base64")}`).join("\n");
  const { status, stdout, stderr } = spawnSync(python, [script], { input, maxBuffer: 1e9, encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return stdout
    .trimEnd()
    .split("\n")
    .map((line, i) => ({ signal: exports[i]?.signal ?? "", json: JSON.parse(line) as Record<string, never[]> }));
}

const attributesOf = (list: readonly Attribute[] = []): DecodedPoint["attributes"] =>
  Object.fromEntries(
    list.map(({ key, value }) => [
      key,
      value.stringValue ?? (value.intValue === undefined ? (value.doubleValue ?? 0) : Number(value.intValue)),
    ]),
  );
const msOf = (nano: string | undefined): number => Number(BigInt(nano ?? "0") / 1_000_000n);
const hexOf = (base64: string | undefined): string | undefined =>
  base64 === undefined ? undefined : Buffer.from(base64, "base64").toString("hex");

/** Each export of metrics, with its resource. */
export function decodeMetrics(exports: readonly Export[]): DecodedMetric[][] {
  return decode(exports.filter(({ signal }) => signal === "metrics")).map(({ json }) =>
    flat(json["resourceMetrics"], "scopeMetrics", "metrics").map((metric) => {
      const kind = (["sum", "histogram", "gauge"] as const).find((one) => metric[one] !== undefined) ?? "gauge";
      const data = metric[kind] as never as {
        dataPoints?: Record<string, never>[];
        isMonotonic?: boolean;
        aggregationTemporality?: string;
      };
      return {
        name: String(metric["name"]),
        unit: (metric["unit"] as string | undefined) ?? "",
        kind,
        isMonotonic: data.isMonotonic === true,
        isCumulative: data.aggregationTemporality === "AGGREGATION_TEMPORALITY_CUMULATIVE",
        points: (data.dataPoints ?? []).map((point) => ({
          attributes: attributesOf(point["attributes"]),
          value: Number((point["sum"] ?? point["asDouble"] ?? point["asInt"] ?? 0) as unknown),
          count: point["count"] === undefined ? undefined : Number(point["count"]),
          startMs: msOf(point["startTimeUnixNano"]),
        })),
      };
    }),
  );
}

export function decodeSpans(exports: readonly Export[]): DecodedSpan[] {
  return decode(exports.filter(({ signal }) => signal === "traces")).flatMap(({ json }) =>
    flat(json["resourceSpans"], "scopeSpans", "spans").map((span) => ({
      name: String(span["name"]),
      traceId: hexOf(span["traceId"]) ?? "",
      spanId: hexOf(span["spanId"]) ?? "",
      parentSpanId: hexOf(span["parentSpanId"]),
      kind: String(span["kind"]),
      status: (span["status"] as { code?: string } | undefined)?.code,
      startMs: msOf(span["startTimeUnixNano"]),
      endMs: msOf(span["endTimeUnixNano"]),
      attributes: attributesOf(span["attributes"]),
    })),
  );
}

export function decodeLogs(exports: readonly Export[]): { body: string; attributes: DecodedPoint["attributes"] }[] {
  return decode(exports.filter(({ signal }) => signal === "logs")).flatMap(({ json }) =>
    flat(json["resourceLogs"], "scopeLogs", "logRecords").map((record) => ({
      body: (record["body"] as Value | undefined)?.stringValue ?? "",
      attributes: attributesOf(record["attributes"]),
    })),
  );
}

function flat(resources: readonly never[] = [], scopes: string, items: string): Record<string, never>[] {
  return (resources as readonly Record<string, Record<string, never[]>[]>[]).flatMap((resource) =>
    (resource[scopes] ?? []).flatMap((scope) => (scope[items] ?? []) as Record<string, never>[]),
  );
}
