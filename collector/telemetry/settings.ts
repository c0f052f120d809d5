// Where telemetry goes, as settings say it.
import { z } from "zod";
import { webUrl } from "../../service/config.ts";
import { listOf, secret } from "../../service/settings.ts";
import type { Reading, SettingTree, Values } from "../../service/settings.ts";
import type { Secret } from "../../service/secret.ts";
import { LABELS, NAMES } from "./names.ts";
import type { Label, Names } from "./names.ts";

const SIGNALS = ["metrics", "traces", "logs"] as const;
export type Signal = (typeof SIGNALS)[number];
const WAYS = ["otlp", "put"] as const;

const REGION = /^[a-z]{2}(-[a-z]+)+-\d$/;

/** What OpenTelemetry takes. */
export const OTLP = {
  endpoint: {
    place: "collector.telemetry.endpoint",
    env: "OTEL_EXPORTER_OTLP_ENDPOINT",
    schema: webUrl,
    fallback: undefined,
    says: "an OTLP receiver by HTTP, such as http://localhost:4318; /v1/metrics and so on are added",
  },
  headers: secret({
    place: "collector.telemetry.headers",
    env: "OTEL_EXPORTER_OTLP_HEADERS",
    schema: z.string().refine((text) => readHeaders(text) !== undefined, "headers as name=value, parted by commas"),
    says: "what is sent with it, as name=value by commas: an API key of the receiver's",
  }),
  serviceName: {
    place: "collector.telemetry.service_name",
    env: "OTEL_SERVICE_NAME",
    schema: z.string().min(1),
    fallback: "keymeter",
    says: "service.name of all that is exported",
  },
  signals: {
    place: "collector.telemetry.signals",
    schema: listOf(z.enum(SIGNALS)) as z.ZodType<readonly Signal[]>,
    fallback: [...SIGNALS] as readonly Signal[],
    says: "metrics (sums of the books, and gauges), traces (a span a call), logs (the audit)",
  },
  names: {
    place: "collector.telemetry.names",
    schema: z.enum(NAMES),
    fallback: "both" as Names,
    says: "gen_ai conventions: new, old (what most backends chart), or both",
  },
  labels: {
    place: "collector.telemetry.labels",
    schema: listOf(z.enum(LABELS)) as z.ZodType<readonly Label[]>,
    fallback: ["team", "project", "env"] as readonly Label[],
    says: "what metrics are told apart by beside provider and model: team, project, env, key; each costs series",
  },
  traceShare: {
    place: "collector.telemetry.trace_share",
    schema: z.coerce.number().min(0).max(1),
    fallback: 1,
    says: "which share of calls without a traceparent of their own gets a span; a sampled trace of a client's always does",
  },
  everySeconds: {
    place: "collector.telemetry.every_seconds",
    schema: z.coerce.number().int().min(1).max(3_600),
    fallback: 30,
    says: "how often it is sent",
  },
} as const satisfies SettingTree;

/** What CloudWatch takes. */
export const CLOUDWATCH = {
  region: {
    place: "collector.cloudwatch.region",
    env: "KEYMETER_CLOUDWATCH_REGION",
    schema: z.string().regex(REGION, "a region of AWS, such as eu-west-1"),
    fallback: undefined,
    says: "sends metrics to CloudWatch of this region",
  },
  by: {
    place: "collector.cloudwatch.by",
    schema: z.enum(WAYS),
    fallback: "otlp" as (typeof WAYS)[number],
    says: "otlp: all metrics, paid by the gigabyte; put: a few coarse series by PutMetricData, each about 0.30 USD a month",
  },
  namespace: {
    place: "collector.cloudwatch.namespace",
    schema: z.string().regex(/^(?!AWS\/)[\w./#:-]{1,255}$/, "a namespace of CloudWatch that does not begin with AWS/"),
    fallback: "Keymeter",
    says: "of PutMetricData",
  },
  accessKeyId: {
    place: "collector.cloudwatch.access_key_id",
    env: "KEYMETER_CLOUDWATCH_ACCESS_KEY_ID",
    schema: z.string().min(1),
    fallback: undefined,
    says: "absent: what this machine is to AWS",
  },
  secretAccessKey: secret({
    place: "collector.cloudwatch.secret_access_key",
    env: "KEYMETER_CLOUDWATCH_SECRET_ACCESS_KEY",
    says: "of that access key",
  }),
  url: {
    place: "collector.cloudwatch.url",
    env: "KEYMETER_CLOUDWATCH_URL",
    schema: webUrl,
    fallback: undefined,
    says: "where CloudWatch is, where it is not at monitoring.REGION.amazonaws.com",
  },
} as const satisfies SettingTree;

export type OtlpSettings = Values<typeof OTLP> & { readonly endpoint: string };
export type CloudWatchSettings = Omit<Values<typeof CLOUDWATCH>, "region" | "accessKeyId" | "secretAccessKey"> & {
  readonly region: string;
  readonly accessKey: { readonly id: string; readonly secret: Secret } | undefined;
};

/** Undefined: nothing goes there. */
export function readOtlp({ endpoint, ...rest }: Values<typeof OTLP>): OtlpSettings | undefined {
  return endpoint === undefined ? undefined : { ...rest, endpoint: endpoint.replace(/\/+$/, "") };
}

export function readCloudWatch(
  { region, accessKeyId, secretAccessKey, ...rest }: Values<typeof CLOUDWATCH>,
  reading: Reading,
): CloudWatchSettings | undefined {
  if ((accessKeyId === undefined) !== (secretAccessKey === undefined))
    reading.problems.push(
      `CloudWatch needs both ${CLOUDWATCH.accessKeyId.place} and ${CLOUDWATCH.secretAccessKey.place}, or neither`,
    );
  if (region === undefined) return undefined;
  const accessKey =
    accessKeyId === undefined || secretAccessKey === undefined
      ? undefined
      : { id: accessKeyId, secret: secretAccessKey };
  return { ...rest, region, accessKey };
}

/** "name=value,name=value", values percent-encoded, as OpenTelemetry's own variable has it; undefined: it is none. */
export function readHeaders(text: string): { readonly [name: string]: string } | undefined {
  const pairs = text.split(",").map((pair) => {
    const [name = "", ...rest] = pair.split("=");
    return [name.trim().toLowerCase(), decode(rest.join("=").trim())] as const;
  });
  const isFine = pairs.every(
    ([name, value]) => /^[\w!#$%&'*+.^`|~-]+$/.test(name) && value !== undefined && /^[\x20-\x7e]+$/.test(value),
  );
  return isFine ? (Object.fromEntries(pairs) as { [name: string]: string }) : undefined;
}

function decode(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
