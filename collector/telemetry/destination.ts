// A receiver of OTLP: how its three signals are encoded and sent there.
import type { ReadableLogRecord } from "@opentelemetry/sdk-logs";
import type { ResourceMetrics, MetricData } from "@opentelemetry/sdk-metrics";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import { loadCloudWatch, loadSigner } from "./packages.ts";
import type { Otel } from "./packages.ts";
import { send } from "./send.ts";
import type { Sent } from "./send.ts";
import { readHeaders } from "./settings.ts";
import type { CloudWatchSettings, OtlpSettings, Signal } from "./settings.ts";

export type Destination = {
  readonly name: string;
  readonly signals: readonly Signal[];
  metrics(of: ResourceMetrics): Promise<Sent>;
  traces(of: ReadableSpan[]): Promise<Sent>;
  logs(of: ReadableLogRecord[]): Promise<Sent>;
};

type Headers = { readonly [name: string]: string };
/** The headers that a body of this place goes with. */
type Sign = (url: string, body: Uint8Array) => Promise<Headers>;

/** Points of one request: receivers bound its size. */
const MOST_POINTS = 2_000;

export function createOtlp(otel: Otel, { endpoint, headers, signals }: OtlpSettings): Destination {
  // Read each time: the room may have another one by now.
  const sign: Sign = async () => (headers === undefined ? {} : (readHeaders(headers.reveal()) ?? {}));
  return createDestination(otel, { name: "otlp", signals, endpoint, sign });
}

/** CloudWatch takes metrics by OTLP, each request signed. */
export async function createCloudWatchOtlp(otel: Otel, settings: CloudWatchSettings): Promise<Destination> {
  const { region, url, accessKey } = settings;
  const [{ CloudWatchClient }, { SignatureV4 }] = await Promise.all([loadCloudWatch(), loadSigner()]);
  // Its client knows who this machine is, and has the hash.
  const { config } = new CloudWatchClient({
    region,
    ...(accessKey === undefined
      ? {}
      : { credentials: async () => ({ accessKeyId: accessKey.id, secretAccessKey: accessKey.secret.reveal() }) }),
  });
  const signer = new SignatureV4({
    service: "monitoring",
    region,
    credentials: config.credentials,
    sha256: config.sha256,
  });
  const sign: Sign = async (at, body) => {
    const { protocol, hostname, port, host, pathname } = new URL(at);
    const { headers } = await signer.sign({
      method: "POST",
      protocol,
      hostname,
      ...(port === "" ? {} : { port: Number(port) }),
      path: pathname,
      query: {},
      headers: { host, "content-type": "application/x-protobuf" },
      body,
    });
    return headers;
  };
  const endpoint = (url ?? `https://monitoring.${region}.amazonaws.com`).replace(/\/+$/, "");
  return createDestination(otel, { name: "cloudwatch", signals: ["metrics"], endpoint, sign });
}

function createDestination(
  otel: Otel,
  {
    name,
    signals,
    endpoint,
    sign,
  }: Pick<Destination, "name" | "signals"> & { readonly endpoint: string; readonly sign: Sign },
): Destination {
  const post = async (
    signal: Signal,
    body: Uint8Array | undefined,
    readAnswer: (bytes: Uint8Array) => string | undefined,
  ): Promise<Sent> => {
    if (body === undefined) return { ok: true };
    const url = `${endpoint}/v1/${signal}`;
    try {
      return await send({ url, body, headers: await sign(url, body), readAnswer });
    } catch (error) {
      return { ok: false, error: `it could not be signed (${String(error)})`, isRefused: false, retryAfterMs: 0 };
    }
  };
  const { ProtobufMetricsSerializer: metrics, ProtobufTraceSerializer: traces, ProtobufLogsSerializer: logs } = otel;
  return {
    name,
    signals,
    async metrics(of) {
      let last: Sent = { ok: true };
      for (const part of partsOf(of)) {
        last = await post("metrics", metrics.serializeRequest(part), (bytes) => {
          const { rejectedDataPoints: count, errorMessage } = metrics.deserializeResponse(bytes).partialSuccess ?? {};
          return rejected(count, errorMessage);
        });
        if (!last.ok) return last;
      }
      return last;
    },
    traces: (of) =>
      post("traces", traces.serializeRequest(of), (bytes) => {
        const { rejectedSpans, errorMessage } = traces.deserializeResponse(bytes).partialSuccess ?? {};
        return rejected(rejectedSpans, errorMessage);
      }),
    logs: (of) =>
      post("logs", logs.serializeRequest(of), (bytes) => {
        const { rejectedLogRecords, errorMessage } = logs.deserializeResponse(bytes).partialSuccess ?? {};
        return rejected(rejectedLogRecords, errorMessage);
      }),
  };
}

function rejected(count: number | undefined, why: string | undefined): string | undefined {
  return (count ?? 0) === 0 && !why ? undefined : `${count ?? 0} were not taken: ${why ?? "no reason given"}`;
}

/** The same metrics in requests of a bounded size. */
function* partsOf({ resource, scopeMetrics }: ResourceMetrics): Iterable<ResourceMetrics> {
  for (const { scope, metrics } of scopeMetrics) {
    let part: MetricData[] = [];
    let size = 0;
    for (const metric of metrics)
      for (let from = 0; from < metric.dataPoints.length; from += MOST_POINTS) {
        const dataPoints = metric.dataPoints.slice(from, from + MOST_POINTS);
        if (size + dataPoints.length > MOST_POINTS) {
          yield { resource, scopeMetrics: [{ scope, metrics: part }] };
          [part, size] = [[], 0];
        }
        part.push({ ...metric, dataPoints } as MetricData);
        size += dataPoints.length;
      }
    if (part.length > 0) yield { resource, scopeMetrics: [{ scope, metrics: part }] };
  }
}
