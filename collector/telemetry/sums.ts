// The sums that metrics are: of all events and corrections from one commit to another, by series. They are a function of the
// books alone, so a metric that is sent again says the same, and what was not sent is not lost. Pure; money is nano-USD.
import { z } from "zod";
import type { Commit } from "../../ledger/usage/commits.ts";
import type { StoredEvent } from "../../ledger/usage/event-columns.ts";
import { INPUT_CLASSES, OUTPUT_CLASSES } from "../../ledger/usage.ts";
import type { TokenClass, Usage } from "../../ledger/usage.ts";
import { isOffered, METRICS, MODALITY, modalityOf, OVERFLOW, OWN, PLACE, TOKEN_TYPE } from "./names.ts";
import type { Label, Metric, MetricName, Names } from "./names.ts";
import { errorOf, isSeat, placeOf, readEvent } from "./reading.ts";
import type { Attributes } from "./reading.ts";

/** A point of a metric: a sum, and of a histogram how many values fell into each bucket. */
export type Point = {
  readonly attributes: Attributes;
  /** Whole: tokens, requests, nano-USD, microseconds. */
  sum: bigint;
  count: number;
  readonly buckets: number[] | undefined;
};

export type Sums = {
  add(commit: Commit): void;
  /** The points of each metric. */
  points(): Iterable<readonly [MetricName, Iterable<Point>]>;
  /** As text that `readSums` takes. */
  toText(): string;
};

export type SumsSettings = {
  readonly names: Names;
  readonly labels: readonly Label[];
  readonly nameOfKey: (keyId: string) => string;
};

/** Series of one metric; what comes after them is summed up in one. */
const MOST_SERIES = 2_000;
const MICROSECONDS = 1_000;

const stored = z.record(
  z.string(),
  z.array(z.tuple([z.record(z.string(), z.string()), z.string(), z.number(), z.array(z.number()).nullable()])),
);

/** Sums that go on from a text of before; throws where it is none. */
export function createSums({ names, labels, nameOfKey }: SumsSettings, text?: string | null): Sums {
  const metrics = new Map<MetricName, Map<string, Point>>();
  const pointOf = (name: MetricName, attributes: Attributes): Point => {
    const metric: Metric = METRICS[name];
    const points = metrics.get(name) ?? new Map<string, Point>();
    metrics.set(name, points);
    const at = (own: Attributes): Point => {
      const id = JSON.stringify(own);
      const point = points.get(id) ?? { attributes: own, sum: 0n, count: 0, buckets: emptyBuckets(metric) };
      points.set(id, point);
      return point;
    };
    const isNew = !points.has(JSON.stringify(attributes));
    return at(isNew && points.size >= MOST_SERIES - 1 ? { [OVERFLOW]: "true" } : attributes);
  };
  const add = (name: MetricName, attributes: Attributes, value: bigint | number): void => {
    const metric: Metric = METRICS[name];
    if (!isOffered(metric, names)) return;
    const point = pointOf(name, attributes);
    point.sum += BigInt(value);
    point.count += 1;
    if (!point.buckets) return;
    const shown = metric.unit === "s" ? Number(value) / 1_000_000 : Number(value);
    const ends = metric.ends ?? [];
    const found = ends.findIndex((end) => shown <= end);
    const i = found === -1 ? ends.length : found;
    point.buckets[i] = (point.buckets[i] ?? 0) + 1;
  };
  for (const [name, points] of Object.entries(text ? stored.parse(JSON.parse(text)) : {}))
    for (const [attributes, sum, count, buckets] of points)
      if (name in METRICS)
        Object.assign(pointOf(name as MetricName, attributes), {
          sum: BigInt(sum),
          count,
          ...(buckets ? { buckets } : {}),
        });

  const addTokens = (name: MetricName, at: Attributes, usage: Usage, units: readonly TokenClass[]): void => {
    const sums = new Map<string, number>();
    for (const unit of units) {
      const used = usage[unit] ?? 0;
      if (used > 0) sums.set(modalityOf(unit), (sums.get(modalityOf(unit)) ?? 0) + used);
    }
    for (const [modality, used] of sums) add(name, { ...at, [MODALITY]: modality }, used);
  };
  const addEvent = (event: StoredEvent, at: Attributes): void => {
    const { usage, input, output, cacheRead, cacheWrite } = readEvent(event);
    const error = errorOf(event);
    const timed = error === undefined ? at : { ...at, [PLACE.errorType]: error };
    add(
      "requests",
      {
        ...at,
        [OWN.outcome]: event.outcome,
        [OWN.usageState]: event.usageState,
        ...(event.priceConfidence === null ? {} : { [OWN.price]: event.priceConfidence }),
      },
      1,
    );
    if (event.costNanoUsd !== null && !isSeat(event)) add("cost", at, event.costNanoUsd);
    if (event.seatNanoUsd !== null) add("seatValue", at, event.seatNanoUsd);
    addTokens("inputTokens", at, usage, INPUT_CLASSES);
    addTokens("outputTokens", at, usage, OUTPUT_CLASSES);
    if (cacheRead > 0) add("cacheRead", at, cacheRead);
    if (cacheWrite > 0) add("cacheWrite", at, cacheWrite);
    if (event.reasoning !== null && event.reasoning > 0) add("reasoning", at, event.reasoning);
    if (input > 0) add("inputOfCall", at, input);
    if (output > 0) add("outputOfCall", at, output);
    if (input > 0) add("tokenUsage", { ...at, [TOKEN_TYPE]: "input" }, input);
    if (output > 0) add("tokenUsage", { ...at, [TOKEN_TYPE]: "output" }, output);
    if (event.durationMs !== null) {
      add("duration", timed, event.durationMs * MICROSECONDS);
      add("operationDuration", timed, event.durationMs * MICROSECONDS);
    }
    if (event.firstByteMs !== null) add("firstChunk", at, event.firstByteMs * MICROSECONDS);
  };
  return {
    add({ event, adjustedNanoUsd }) {
      const at = placeOf(event, labels, nameOfKey);
      if (adjustedNanoUsd === null) addEvent(event, at);
      else add("adjustment", at, adjustedNanoUsd);
    },
    *points() {
      for (const [name, points] of metrics) yield [name, points.values()] as const;
    },
    toText: () =>
      JSON.stringify(
        Object.fromEntries(
          [...metrics].map(([name, points]) => [
            name,
            [...points.values()].map(({ attributes, sum, count, buckets }) => [
              attributes,
              sum.toString(),
              count,
              buckets ?? null,
            ]),
          ]),
        ),
      ),
  };
}

function emptyBuckets({ ends }: Metric): number[] | undefined {
  return ends && Array.from({ length: ends.length + 1 }, () => 0);
}
