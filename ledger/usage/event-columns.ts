// The columns of a usage event: what each is called in SQL, what of an event it holds, whether the seal of a day covers
// it, and what of the printed record it makes. Table, insert, row, record and seal are made from here: a new column is
// one entry, and a migration.
import { count, nanoUsd } from "../columns.ts";
import type { CostLine } from "../cost.ts";
import { getTableColumns, sqliteTable, text } from "../drizzle.ts";
import type { SQLiteColumnBuilderBase } from "../drizzle.ts";
import { attemptAtMs, formatAttemptId, formatRequestId } from "../ids.ts";
import type { LineUnit, Unit, Usage, UsageReason } from "../usage.ts";
import type { UsageEvent } from "./usage-event.ts";

/** Units that have a column of their own. */
const UNIT_OF = {
  input: "input",
  cacheRead: "cache_read",
  cacheWrite5m: "cache_write_5m",
  cacheWrite1h: "cache_write_1h",
  output: "output",
} as const satisfies { readonly [field: string]: Unit };
const UNIT_FIELDS = Object.keys(UNIT_OF) as (keyof typeof UNIT_OF)[];
const OWN_UNITS = new Set<string>(Object.values(UNIT_OF));

/** A value as it travels to the writer's thread and into the insert; money as digits, which SQLite takes for the
 *  integer it is. */
type Plain = string | number | null;
type ValueOf<B extends SQLiteColumnBuilderBase> = B["_"]["notNull"] extends true
  ? B["_"]["data"]
  : B["_"]["data"] | null;
type UnitCounts = { readonly [field in keyof typeof UNIT_OF]: number | null };

/** `shows`: what of the record is made of it, of the whole row where it takes more. Everything is sealed but what may
 *  be emptied later. */
function column<B extends SQLiteColumnBuilderBase, R extends object>(
  is: B,
  of: (event: UsageEvent) => Plain,
  shows: (value: ValueOf<B>, row: UnitCounts) => R,
  isSealed = true,
) {
  return { is, of, shows, isSealed };
}

const nothing = (): object => ({});

/** By the field under which it is read back, in the order in which records name them. */
const EVENT_COLUMNS = {
  attemptId: column(
    count("attempt_id").primaryKey(),
    (event) => event.attemptId,
    (id) => ({
      requestId: formatRequestId(id),
      attemptId: formatAttemptId(id),
      at: new Date(attemptAtMs(id)).toISOString(),
    }),
  ),
  provider: column(
    text("provider").notNull(),
    (event) => event.provider,
    (provider) => ({ provider }),
  ),
  endpoint: column(
    text("endpoint").notNull(),
    (event) => event.endpoint,
    (endpoint) => ({ endpoint }),
  ),
  keyId: column(
    text("key_id").notNull(),
    (event) => event.keyId,
    (keyId) => ({ keyId }),
  ),
  team: column(
    text("team").notNull(),
    (event) => event.team,
    (team) => ({ team }),
  ),
  project: column(
    text("project").notNull(),
    (event) => event.project,
    (project) => ({ project }),
  ),
  env: column(
    text("env").notNull(),
    (event) => event.env,
    (env) => ({ env }),
  ),
  user: column(
    text("person").notNull().default(""),
    (event) => event.user,
    (user) => ({ user }),
  ),
  payer: column(
    text("payer").notNull().default(""),
    (event) => event.payer ?? "",
    (payer) => ({ payer }),
  ),
  requestedModel: column(
    text("requested_model").notNull(),
    (event) => event.requestedModel,
    (requestedModel) => ({ requestedModel }),
  ),
  servedModel: column(
    text("served_model"),
    (event) => event.servedModel ?? null,
    (servedModel) => ({ servedModel }),
  ),
  tier: column(
    text("tier"),
    (event) => event.tier ?? null,
    (tier) => ({ tier }),
  ),
  otherUsage: column(
    text("other_usage"),
    (event) => otherUsageText(event.usage),
    (other, row) => ({ usage: readUsage(other, row) }),
  ),
  input: column(count("input"), (event) => event.usage.input ?? null, nothing),
  cacheRead: column(count("cache_read"), (event) => event.usage.cache_read ?? null, nothing),
  cacheWrite5m: column(count("cache_write_5m"), (event) => event.usage.cache_write_5m ?? null, nothing),
  cacheWrite1h: column(count("cache_write_1h"), (event) => event.usage.cache_write_1h ?? null, nothing),
  output: column(count("output"), (event) => event.usage.output ?? null, nothing),
  reasoning: column(
    count("reasoning"),
    (event) => event.reasoning ?? null,
    (reasoning) => ({ reasoning }),
  ),
  usageState: column(
    text("usage_state", { enum: ["reported", "estimated", "unknown"] }).notNull(),
    (event) => event.usageState,
    (usageState) => ({ usageState }),
  ),
  usageReason: column(
    text("usage_reason"),
    (event) => event.usageReason ?? null,
    (reason) => ({ usageReason: reason as UsageReason | null }),
  ),
  costNanoUsd: column(
    nanoUsd("cost_nano_usd"),
    (event) => event.costNanoUsd?.toString() ?? null,
    (cost) => ({ costNanoUsd: cost?.toString() ?? null }),
  ),
  statedCostNanoUsd: column(
    nanoUsd("stated_cost_nano_usd"),
    (event) => event.statedCostNanoUsd?.toString() ?? null,
    (cost) => ({ statedCostNanoUsd: cost?.toString() ?? null }),
  ),
  seatNanoUsd: column(
    nanoUsd("seat_nano_usd"),
    (event) => event.seatNanoUsd?.toString() ?? null,
    (seat) => ({ seatNanoUsd: seat?.toString() ?? null }),
  ),
  costLines: column(
    text("cost_lines"),
    (event) => costLinesText(event.costLines),
    (lines) => ({ costLines: readCostLines(lines) }),
  ),
  priceList: column(
    text("price_list"),
    (event) => event.priceList ?? null,
    (priceList) => ({ priceList }),
  ),
  priceVersion: column(
    text("price_version"),
    (event) => event.priceVersion ?? null,
    (priceVersion) => ({ priceVersion }),
  ),
  priceConfidence: column(
    text("price_confidence", { enum: ["exact", "inferred", "unpriced"] }),
    (event) => event.priceConfidence ?? null,
    (priceConfidence) => ({ priceConfidence }),
  ),
  outcome: column(
    text("outcome").notNull(),
    (event) => event.outcome,
    (outcome) => ({ outcome }),
  ),
  httpStatus: column(
    count("http_status"),
    (event) => event.httpStatus ?? null,
    (httpStatus) => ({ httpStatus }),
  ),
  durationMs: column(
    count("duration_ms"),
    (event) => event.durationMs ?? null,
    (durationMs) => ({ durationMs }),
  ),
  firstByteMs: column(count("first_byte_ms"), (event) => event.firstByteMs ?? null, nothing),
  providerRequestId: column(text("provider_request_id"), (event) => event.providerRequestId ?? null, nothing),
  responseId: column(text("response_id"), (event) => event.responseId ?? null, nothing),
  rawUsage: column(text("raw_usage"), (event) => event.rawUsage ?? null, nothing, false),
  tags: column(
    text("tags"),
    (event) => event.tags ?? null,
    (tags) => ({ tags: (tags === null ? {} : JSON.parse(tags)) as { readonly [name: string]: string } }),
  ),
  trace: column(text("trace"), (event) => event.trace ?? null, nothing),
};

type Columns = typeof EVENT_COLUMNS;
type Field = keyof Columns;
const FIELDS = Object.keys(EVENT_COLUMNS) as Field[];

/** The table, as drizzle reads it. When an attempt began is its id, which SQL makes of it. */
export const events = sqliteTable("events", {
  ...(Object.fromEntries(FIELDS.map((field) => [field, EVENT_COLUMNS[field].is])) as {
    [field in Field]: Columns[field]["is"];
  }),
  atMs: count("at_ms").notNull(),
});
export type StoredEvent = typeof events.$inferSelect;

const COLUMNS = getTableColumns(events);
const NAMES = FIELDS.map((field) => COLUMNS[field].name);

/** What a seal of today covers. */
export const SEALED_COLUMNS: readonly string[] = FIELDS.filter((field) => EVENT_COLUMNS[field].isSealed).map(
  (field) => COLUMNS[field].name,
);
/** What a seal can have covered. */
export const KNOWN_COLUMNS: ReadonlySet<string> = new Set(NAMES);

export const INSERT_EVENT = `INSERT INTO events (${NAMES.join(", ")}) VALUES (${NAMES.map(() => "?").join(", ")})`;

/** The values of `INSERT_EVENT`, in order. Plain JSON values, so that a row can travel to the writer's thread as
 *  text. */
export type EventRow = readonly Plain[];

/** Its columns, in that order. */
export const EVENT_NAMES: readonly string[] = NAMES;

/** Whether a column holds whole numbers; else text. */
export const IS_NUMBER: readonly boolean[] = FIELDS.map((field) => /int/i.test(COLUMNS[field].getSQLType()));

/** Where each field stands in a row. */
export const AT = Object.fromEntries(FIELDS.map((field, i) => [field, i])) as { readonly [field in Field]: number };

const MAKERS = FIELDS.map((field) => EVENT_COLUMNS[field].of);

export function eventRow(event: UsageEvent): EventRow {
  return MAKERS.map((of) => of(event));
}

type Shown = Intersection<{ [field in Field]: ReturnType<Columns[field]["shows"]> }[Field]>;
type Intersection<U> = (U extends unknown ? (one: U) => void : never) extends (all: infer I) => void ? I : never;

const SHOWING = FIELDS.filter((field) => (EVENT_COLUMNS[field].shows as unknown) !== nothing).map(
  (field) => [field, EVENT_COLUMNS[field].shows as (value: unknown, row: UnitCounts) => object] as const,
);

/** The record of an event, as all columns make it. */
export function recordOf(row: StoredEvent): Shown {
  return Object.assign({}, ...SHOWING.map(([field, shows]) => shows(row[field], row))) as Shown;
}

/** Cache writes that have no column of their own. */
export function otherWrites(otherUsage: string | null): number {
  if (otherUsage === null || !otherUsage.includes('"cache_write_')) return 0;
  const other = JSON.parse(otherUsage) as Usage;
  return (other.cache_write_30m ?? 0) + (other.cache_write_12h ?? 0);
}

function otherUsageText(usage: Usage): string | null {
  if (Object.keys(usage).every((unit) => OWN_UNITS.has(unit))) return null;
  return JSON.stringify(Object.fromEntries(Object.entries(usage).filter(([unit]) => !OWN_UNITS.has(unit))));
}

function readUsage(other: string | null, row: UnitCounts): Usage {
  const usage: { [unit in Unit]?: number } = other === null ? {} : JSON.parse(other);
  for (const field of UNIT_FIELDS) {
    const counted = row[field];
    if (counted !== null) usage[UNIT_OF[field]] = counted;
  }
  return usage;
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

/** A line as records show it. */
export type ShownLine = {
  /** `stated`: what the provider's own word is beyond the other lines. */
  readonly unit: LineUnit;
  readonly quantity: number;
  readonly pricePicoUsd: string;
  readonly costNanoUsd: string;
  /** An exact fraction such as "1/2", or null. */
  readonly multiplier: string | null;
};

function readCostLines(text: string | null): ShownLine[] {
  const lines: [LineUnit, number, string, string, string?][] = text === null ? [] : JSON.parse(text);
  return lines.map(([unit, quantity, pricePicoUsd, costNanoUsd, multiplier = null]) => ({
    unit,
    quantity,
    pricePicoUsd,
    costNanoUsd,
    multiplier,
  }));
}
