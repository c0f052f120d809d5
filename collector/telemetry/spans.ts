// An event as a span: what its client's trace shows of the call. Ids are made of the attempt's, so that one which is sent
// again is the same.
import { createHash } from "node:crypto";
import type { Resource } from "@opentelemetry/resources";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import { attemptAtMs, formatAttemptId } from "../../ledger/ids.ts";
import { toUsdNumber } from "../../ledger/money.ts";
import type { StoredEvent } from "../../ledger/usage/event-columns.ts";
import { SCOPE, timeOf } from "./metrics.ts";
import { LABELS, OLD_PROVIDER, OWN, SPAN } from "./names.ts";
import type { Names } from "./names.ts";
import type { Otel } from "./packages.ts";
import { errorOf, isSeat, placeOf, readEvent } from "./reading.ts";

export type SpanSettings = {
  readonly names: Names;
  /** Of calls without a trace of their own: which share is shown. */
  readonly share: number;
  readonly nameOfKey: (keyId: string) => string;
  /** What makes ids differ from those of another installation. */
  readonly salt: string;
};

const SAMPLED = 1;
const MOST = 2 ** 32;

/** Undefined: it is not shown, because its client's trace is not, or by its share. */
export function spanOf(
  otel: Otel,
  resource: Resource,
  event: StoredEvent,
  settings: SpanSettings,
): ReadableSpan | undefined {
  const made = createHash("sha256").update(`${settings.salt} ${event.attemptId}`).digest("hex");
  const [trace, parent, flags] = event.trace?.split("-") ?? [];
  const isShown =
    flags === undefined
      ? Number.parseInt(made.slice(0, 8), 16) / MOST < settings.share
      : (Number.parseInt(flags, 16) & SAMPLED) === SAMPLED;
  if (!isShown) return undefined;
  const traceId = trace ?? made.slice(0, 32);
  const spanId = made.slice(32, 48);
  const startMs = attemptAtMs(event.attemptId);
  const durationMs = event.durationMs ?? 0;
  const error = errorOf(event);
  const place = placeOf(event, LABELS, settings.nameOfKey);
  return {
    name: `${place["gen_ai.operation.name"] ?? ""} ${event.requestedModel}`.trim(),
    kind: otel.SpanKind.CLIENT,
    spanContext: () => ({ traceId, spanId, traceFlags: SAMPLED }),
    ...(parent === undefined ? {} : { parentSpanContext: { traceId, spanId: parent, traceFlags: SAMPLED } }),
    startTime: timeOf(startMs),
    endTime: timeOf(startMs + durationMs),
    duration: timeOf(durationMs),
    status: error === undefined ? { code: otel.SpanStatusCode.UNSET } : { code: otel.SpanStatusCode.ERROR },
    attributes: { ...place, ...attributesOf(event, settings.names, error) },
    links: [],
    events: [],
    ended: true,
    resource,
    instrumentationScope: SCOPE,
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

function attributesOf(event: StoredEvent, names: Names, error: string | undefined) {
  const { input, output, cacheRead, cacheWrite } = readEvent(event);
  const cost = isSeat(event) ? null : event.costNanoUsd;
  const isNew = names !== "old";
  const isOld = names !== "new";
  const tags = Object.entries(event.tags === null ? {} : (JSON.parse(event.tags) as { [tag: string]: string }));
  const all: { readonly [name: string]: string | number | null } = {
    [SPAN.attempt]: formatAttemptId(event.attemptId),
    [SPAN.endpoint]: event.endpoint,
    [SPAN.input]: event.usageState === "unknown" ? null : input,
    [SPAN.output]: event.usageState === "unknown" ? null : output,
    [SPAN.cacheRead]: cacheRead || null,
    ...(isNew ? { [SPAN.cacheWrite.new]: cacheWrite || null } : {}),
    ...(isOld ? { [SPAN.cacheWrite.old]: cacheWrite || null, [OLD_PROVIDER]: event.provider } : {}),
    [SPAN.reasoning]: event.reasoning,
    [SPAN.responseId]: event.responseId,
    [SPAN.cost]: cost === null ? null : toUsdNumber(cost),
    [SPAN.ownCost]: cost === null ? null : toUsdNumber(cost),
    [SPAN.status]: event.httpStatus,
    [SPAN.firstByte]: event.firstByteMs,
    [OWN.usageState]: event.usageState,
    [OWN.price]: event.priceConfidence,
    [OWN.outcome]: event.outcome,
    "error.type": error ?? null,
    ...Object.fromEntries(tags.map(([tag, value]) => [`${SPAN.tags}${tag}`, value])),
  };
  return Object.fromEntries(Object.entries(all).filter((one): one is [string, string | number] => one[1] !== null));
}
