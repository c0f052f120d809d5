// Usage events: one immutable row an attempt. What the proxy hands to the writer, and how readers get it back.
import { and, asc, desc, drizzle, eq, gte, lt } from "../drizzle.ts";
import type { Subject } from "../budgets.ts";
import type { CostLine } from "../cost.ts";
import { attemptAtMs, firstAttemptId, formatAttemptId, formatRequestId } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import { sqliteOf } from "../sqlite-books.ts";
import type { UsageBooks } from "../books.ts";
import type { PriceConfidence } from "../prices/price-book.ts";
import { events } from "./schema.ts";
import type { LineUnit, Unit, Usage, UsageReason, UsageState } from "../usage.ts";
import { EVENT_COLUMNS, lies } from "./within.ts";
import type { Within } from "./within.ts";

/** How an attempt ended.
 *  complete: the provider's terminal event or whole body passed. client_left: the client went first.
 *  upstream_rejected: the provider answered an error status; it bills nothing. upstream_failed: cut, error or silence
 *  after bytes were sent. upstream_unreachable: no byte was sent. shutdown: cut by our own stop, or because the books could not be written. cut: ended by
 *  whoever runs Keymeter. capped: cut because a budget had no more. crash: this process died in between; the next start booked it. */
export type Outcome =
  | "complete"
  | "client_left"
  | "upstream_rejected"
  | "upstream_failed"
  | "upstream_unreachable"
  | "shutdown"
  | "cut"
  | "capped"
  | "crash";

export type UsageEvent = {
  readonly attemptId: AttemptId;
  readonly keyId: string;
  readonly provider: string;
  readonly endpoint: string;
  readonly requestedModel: string;
  readonly servedModel: string | undefined;
  /** Price-changing tiers as the answer names them, joined by commas. */
  readonly tier: string | undefined;
  readonly team: string;
  readonly project: string;
  readonly env: string;
  /** Compact JSON object of tags, or undefined. */
  readonly tags: string | undefined;
  readonly usage: Usage;
  /** Reasoning tokens, for information: they lie inside `output`. */
  readonly reasoning: number | undefined;
  readonly usageState: UsageState;
  /** Why, where the state is not `reported`. */
  readonly usageReason?: UsageReason | undefined;
  /** Undefined: unpriced or unknown. Never 0 for "do not know". */
  readonly costNanoUsd: NanoUsd | undefined;
  readonly costLines: readonly CostLine[];
  readonly priceVersion: string | undefined;
  readonly priceConfidence: PriceConfidence | "unpriced" | undefined;
  readonly outcome: Outcome;
  readonly httpStatus: number | undefined;
  readonly durationMs: number | undefined;
  readonly firstByteMs: number | undefined;
  /** The provider's id of the request (a header) and of the answer (in the body). */
  readonly providerRequestId: string | undefined;
  readonly responseId: string | undefined;
  /** The provider's usage object, as it was sent. */
  readonly rawUsage: string | undefined;
  /** What the provider itself says that this cost. Where it is believed it is the cost booked, and our lines stand beside it. */
  readonly statedCostNanoUsd?: NanoUsd | undefined;
};

/** Endpoints whose events sum up many answers. */
export const SUMMED_ENDPOINTS = ["batches", "message_batches"];

const COLUMN_UNITS = [
  "input",
  "cache_read",
  "cache_write_5m",
  "cache_write_1h",
  "output",
] as const satisfies readonly Unit[];

export const INSERT_EVENT = `INSERT INTO events (attempt_id, key_id, provider, endpoint, requested_model, served_model, tier, team, project, env, tags,
  ${COLUMN_UNITS.join(", ")}, other_usage, reasoning, usage_state, cost_nano_usd, cost_lines, price_version, price_confidence,
  outcome, http_status, duration_ms, first_byte_ms, provider_request_id, response_id, raw_usage, stated_cost_nano_usd, usage_reason) VALUES (${Array(32).fill("?").join(", ")})`;

/** All cache writes of an event, as SQL. */
export const ALL_CACHE_WRITES = `COALESCE(cache_write_5m, 0) + COALESCE(cache_write_1h, 0)
  + COALESCE(json_extract(other_usage, '$.cache_write_30m'), 0) + COALESCE(json_extract(other_usage, '$.cache_write_12h'), 0)`;

/** The values of `INSERT_EVENT`, in order; money as digits, which SQLite takes for the integer it is. Plain JSON values, so
 *  that a row can travel to the writer's thread as text. */
export type EventRow = readonly (string | number | null)[];

export function eventRow(event: UsageEvent): EventRow {
  const { usage } = event;
  return [
    event.attemptId,
    event.keyId,
    event.provider,
    event.endpoint,
    event.requestedModel,
    event.servedModel ?? null,
    event.tier ?? null,
    event.team,
    event.project,
    event.env,
    event.tags ?? null,
    usage.input ?? null,
    usage.cache_read ?? null,
    usage.cache_write_5m ?? null,
    usage.cache_write_1h ?? null,
    usage.output ?? null,
    otherUsageText(usage),
    event.reasoning ?? null,
    event.usageState,
    event.costNanoUsd?.toString() ?? null,
    costLinesText(event.costLines),
    event.priceVersion ?? null,
    event.priceConfidence ?? null,
    event.outcome,
    event.httpStatus ?? null,
    event.durationMs ?? null,
    event.firstByteMs ?? null,
    event.providerRequestId ?? null,
    event.responseId ?? null,
    event.rawUsage ?? null,
    event.statedCostNanoUsd?.toString() ?? null,
    event.usageReason ?? null,
  ];
}

/** When an attempt was over, as far as its row says. */
export function endedAtMs(row: EventRow): number {
  return attemptAtMs(Number(row[0])) + Number(row[DURATION_AT] ?? 0);
}

const DURATION_AT = 25;

/** What sums are made of: the part of a row that budgets and rollups add up. */
export type Booked = Subject & {
  /** The model that answered, or the requested one where the answer names none. */
  readonly servedModel: string;
  readonly attemptId: AttemptId;
  readonly costNanoUsd: NanoUsd;
  readonly input: number;
  readonly cacheRead: number;
  readonly cacheWrite: number;
  readonly output: number;
  readonly usageState: string;
  readonly priceConfidence: string | null;
};

/** Reads that part; an unknown cost adds nothing to any sum. */
export function readBooked(row: EventRow): Booked {
  const [
    attemptId,
    keyId,
    provider,
    ,
    requestedModel,
    servedModel,
    ,
    team,
    project,
    env,
    ,
    input,
    cacheRead,
    cacheWrite5m,
    cacheWrite1h,
    output,
    otherUsage,
    ,
    usageState,
    cost,
    ,
    ,
    priceConfidence,
  ] = row;
  return {
    attemptId: attemptId as number,
    keyId: keyId as string,
    provider: provider as string,
    model: requestedModel as string,
    servedModel: (servedModel ?? requestedModel) as string,
    team: team as string,
    project: project as string,
    env: env as string,
    costNanoUsd: BigInt(cost ?? 0),
    input: (input as number | null) ?? 0,
    cacheRead: (cacheRead as number | null) ?? 0,
    cacheWrite:
      ((cacheWrite5m as number | null) ?? 0) +
      ((cacheWrite1h as number | null) ?? 0) +
      otherWrites(otherUsage as string | null),
    output: (output as number | null) ?? 0,
    usageState: usageState as string,
    priceConfidence: priceConfidence as string | null,
  };
}

/** The row under the name of another owner. */
export function withOwner(
  row: EventRow,
  { team, project, env }: { readonly team: string; readonly project: string; readonly env: string },
): EventRow {
  if (row[7] === team && row[8] === project && row[9] === env) return row;
  return row.with(7, team).with(8, project).with(9, env);
}

/** The same part of a row that was read back. */
export function bookedOf(row: typeof events.$inferSelect): Booked {
  return {
    attemptId: row.attemptId,
    keyId: row.keyId,
    provider: row.provider,
    model: row.requestedModel,
    servedModel: row.servedModel ?? row.requestedModel,
    team: row.team,
    project: row.project,
    env: row.env,
    costNanoUsd: row.costNanoUsd ?? 0n,
    input: row.input ?? 0,
    cacheRead: row.cacheRead ?? 0,
    cacheWrite: (row.cacheWrite5m ?? 0) + (row.cacheWrite1h ?? 0) + otherWrites(row.otherUsage),
    output: row.output ?? 0,
    usageState: row.usageState,
    priceConfidence: row.priceConfidence,
  };
}

/** An event as `keymeter events --json` prints it: one object a line, money as decimal strings of nano-USD. */
export type EventRecord = {
  readonly requestId: string;
  readonly attemptId: string;
  readonly at: string;
  readonly provider: string;
  readonly endpoint: string;
  readonly keyId: string;
  readonly team: string;
  readonly project: string;
  readonly env: string;
  readonly requestedModel: string;
  readonly servedModel: string | null;
  readonly tier: string | null;
  readonly usage: Usage;
  readonly reasoning: number | null;
  readonly usageState: UsageState;
  readonly usageReason: UsageReason | null;
  readonly costNanoUsd: string | null;
  /** The provider's own figure, where it states one. */
  readonly statedCostNanoUsd: string | null;
  readonly costLines: readonly {
    /** `stated`: what the provider's own word is beyond the other lines. */
    readonly unit: LineUnit;
    readonly quantity: number;
    readonly pricePicoUsd: string;
    readonly costNanoUsd: string;
    /** An exact fraction such as "1/2", or null. */
    readonly multiplier: string | null;
  }[];
  readonly priceVersion: string | null;
  readonly priceConfidence: string | null;
  readonly outcome: string;
  readonly httpStatus: number | null;
  readonly durationMs: number | null;
  readonly tags: { readonly [name: string]: string };
};

/** Which events: a time range `[sinceMs, untilMs)` and a key; the newest `limit` of them, oldest first. */
export type EventFilter = {
  readonly sinceMs?: number | undefined;
  readonly untilMs?: number | undefined;
  readonly keyId?: string | undefined;
  readonly within?: Within;
  /** Only attempts before this one. */
  readonly before?: AttemptId | undefined;
  readonly limit: number;
};

/** Reads events in a bounded read. */
export async function readEvents(books: UsageBooks, filter: EventFilter): Promise<EventRecord[]> {
  const database = sqliteOf(books);
  const newest = drizzle(database)
    .select()
    .from(events)
    .where(
      and(
        filter.sinceMs === undefined ? undefined : gte(events.attemptId, firstAttemptId(filter.sinceMs)),
        filter.untilMs === undefined ? undefined : lt(events.attemptId, firstAttemptId(filter.untilMs)),
        filter.keyId === undefined ? undefined : eq(events.keyId, filter.keyId),
        ...lies(filter.within ?? {}, EVENT_COLUMNS),
        filter.before === undefined ? undefined : lt(events.attemptId, filter.before),
      ),
    )
    .orderBy(desc(events.attemptId))
    .limit(filter.limit)
    .all();
  return newest.toReversed().map(toRecord);
}

/** Walks every event from `sinceMs` on once, oldest first, in pages: for readers that must not hold a read open for minutes. */
export async function* walkEvents(
  books: UsageBooks,
  { sinceMs = 0, pageSize = 2_000 }: { readonly sinceMs?: number; readonly pageSize?: number } = {},
): AsyncGenerator<EventRecord> {
  const database = sqliteOf(books);
  let after = firstAttemptId(sinceMs) - 1;
  for (;;) {
    const page = drizzle(database)
      .select()
      .from(events)
      .where(gte(events.attemptId, after + 1))
      .orderBy(asc(events.attemptId))
      .limit(pageSize)
      .all();
    for (const row of page) yield toRecord(row);
    const last = page.at(-1);
    if (!last) return;
    after = last.attemptId;
  }
}

function toRecord(row: typeof events.$inferSelect): EventRecord {
  const lines: [LineUnit, number, string, string, string?][] = row.costLines === null ? [] : JSON.parse(row.costLines);
  const usage: { [unit in Unit]?: number } = row.otherUsage === null ? {} : JSON.parse(row.otherUsage);
  if (row.input !== null) usage.input = row.input;
  if (row.cacheRead !== null) usage.cache_read = row.cacheRead;
  if (row.cacheWrite5m !== null) usage.cache_write_5m = row.cacheWrite5m;
  if (row.cacheWrite1h !== null) usage.cache_write_1h = row.cacheWrite1h;
  if (row.output !== null) usage.output = row.output;
  return {
    requestId: formatRequestId(row.attemptId),
    attemptId: formatAttemptId(row.attemptId),
    at: new Date(row.atMs).toISOString(),
    provider: row.provider,
    endpoint: row.endpoint,
    keyId: row.keyId,
    team: row.team,
    project: row.project,
    env: row.env,
    requestedModel: row.requestedModel,
    servedModel: row.servedModel,
    tier: row.tier,
    usage,
    reasoning: row.reasoning,
    usageState: row.usageState,
    usageReason: row.usageReason as UsageReason | null,
    costNanoUsd: row.costNanoUsd === null ? null : row.costNanoUsd.toString(),
    statedCostNanoUsd: row.statedCostNanoUsd === null ? null : row.statedCostNanoUsd.toString(),
    costLines: lines.map(([unit, quantity, pricePicoUsd, costNanoUsd, multiplier = null]) => ({
      unit,
      quantity,
      pricePicoUsd,
      costNanoUsd,
      multiplier,
    })),
    priceVersion: row.priceVersion,
    priceConfidence: row.priceConfidence,
    outcome: row.outcome,
    httpStatus: row.httpStatus,
    durationMs: row.durationMs,
    tags: row.tags === null ? {} : JSON.parse(row.tags),
  };
}

/** Cache writes that have no column of their own. */
function otherWrites(otherUsage: string | null): number {
  if (otherUsage === null || !otherUsage.includes('"cache_write_')) return 0;
  const other = JSON.parse(otherUsage) as Usage;
  return (other.cache_write_30m ?? 0) + (other.cache_write_12h ?? 0);
}

function otherUsageText(usage: Usage): string | null {
  const other = Object.entries(usage).filter(([unit]) => !(COLUMN_UNITS as readonly string[]).includes(unit));
  return other.length === 0 ? null : JSON.stringify(Object.fromEntries(other));
}

/** [unit, quantity, pico-USD, nano-USD, multiplier] a line, compact; money as text, for JSON has no integers, and the
 *  multiplier as a fraction where there is one. */
function costLinesText(lines: readonly CostLine[]): string | null {
  if (lines.length === 0) return null;
  const texts = lines.map(({ unit, quantity, price, costNanoUsd, multiplier }) => {
    const fraction = multiplier ? `,"${multiplier.numerator}/${multiplier.denominator}"` : "";
    return `["${unit}",${quantity},"${price}","${costNanoUsd}"${fraction}]`;
  });
  return `[${texts.join(",")}]`;
}
