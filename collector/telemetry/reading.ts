// What telemetry says of an event, before any format: its attributes, and how much of what it used. Pure.
import { recordOf } from "../../ledger/usage/event-columns.ts";
import type { StoredEvent } from "../../ledger/usage/event-columns.ts";
import { SEAT } from "../../ledger/usage/usage-event.ts";
import { INPUT_CLASSES, OUTPUT_CLASSES } from "../../ledger/usage.ts";
import type { TokenClass, Usage } from "../../ledger/usage.ts";
import { operationOf, OWN, PLACE } from "./names.ts";
import type { Label } from "./names.ts";

export type Attributes = { readonly [name: string]: string };

export type EventReading = {
  readonly event: StoredEvent;
  readonly usage: Usage;
  /** With cache. */
  readonly input: number;
  readonly output: number;
  readonly cacheRead: number;
  readonly cacheWrite: number;
};

const CACHE_READS = ["cache_read", "cache_read_audio", "cache_read_image"] as const;
const CACHE_WRITES = ["cache_write_5m", "cache_write_30m", "cache_write_1h", "cache_write_12h"] as const;

export function readEvent(event: StoredEvent): EventReading {
  const { usage } = recordOf(event);
  const sum = (units: readonly TokenClass[]): number => units.reduce((all, unit) => all + (usage[unit] ?? 0), 0);
  return {
    event,
    usage,
    input: sum(INPUT_CLASSES),
    output: sum(OUTPUT_CLASSES),
    cacheRead: sum(CACHE_READS),
    cacheWrite: sum(CACHE_WRITES),
  };
}

export function isSeat({ payer }: StoredEvent): boolean {
  return payer === SEAT;
}

/** Where an event belongs. `nameOfKey`: as people call it. */
export function placeOf(
  event: StoredEvent,
  labels: readonly Label[],
  nameOfKey: (keyId: string) => string,
): Attributes {
  const of = { team: event.team, project: event.project, env: event.env, key: nameOfKey(event.keyId) };
  return {
    [PLACE.operation]: operationOf(event.endpoint),
    [PLACE.provider]: event.provider,
    [PLACE.requestModel]: event.requestedModel,
    [PLACE.responseModel]: event.servedModel ?? event.requestedModel,
    [OWN.billing]: isSeat(event) ? "seat" : "api",
    ...Object.fromEntries(labels.flatMap((label) => (of[label] === "" ? [] : [[OWN[label], of[label]]]))),
  };
}

/** How it failed; undefined: it did not. */
export function errorOf({ outcome, httpStatus }: StoredEvent): string | undefined {
  if (outcome === "complete") return undefined;
  return outcome === "upstream_rejected" && httpStatus !== null ? String(httpStatus) : outcome;
}
