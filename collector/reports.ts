// Reports out of the books: FOCUS as CSV or Parquet, chargeback. They read folded days and bounded ranges, a day at a
// time; nothing is written but the file that was asked for.
import { createWriteStream, writeFileSync } from "node:fs";
import { once } from "node:events";
import type { Writable } from "node:stream";
import { stringify } from "csv-stringify/sync";
import type { ParquetWriter } from "hyparquet-writer";
import { readBillDays, readProviderKeys } from "../ledger/billing/bills.ts";
import { readClosed, readComparisons, readCorrections, readVarianceSums } from "../ledger/billing/closed-days.ts";
import type { ClosedDay, Correction } from "../ledger/billing/closed-days.ts";
import { readMetered } from "../ledger/billing/metered.ts";
import { readMeteredCredentials } from "../ledger/usage/credentials.ts";
import type { MeteredLine } from "../ledger/billing/metered.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { BillingBooks, UsageBooks } from "../ledger/books.ts";
import { readNames } from "../ledger/usage/key-use.ts";
import { firstMeteredDay } from "../ledger/usage/meter-hours.ts";
import { addDays } from "../ledger/windows.ts";
import { csvText } from "../service/csv.ts";
import { chargeback } from "./chargeback.ts";
import type { Charge, OwnedCost, Owner } from "./chargeback.ts";
import { columnsOf, focusRows } from "./focus.ts";
import type { Column, FocusRow, FocusVersion } from "./focus.ts";
import { matchKeys } from "./match.ts";
import type { Stated } from "./match.ts";

export { checkArchive } from "./archive.ts";

export { OWNERS as CHARGEBACK_OWNERS } from "./chargeback.ts";
export { FOCUS_VERSIONS } from "./focus.ts";
export { writeHistory } from "./history.ts";

export type ReportBooks = { readonly usage: UsageBooks; readonly billing: BillingBooks | undefined };
export type FocusOptions = {
  readonly sinceDay: string;
  readonly untilDay: string;
  readonly version: FocusVersion;
  readonly format: "csv" | "parquet";
  /** Where to; undefined: standard output (CSV only). */
  readonly file: string | undefined;
};
export type FocusSummary = {
  readonly rows: number;
  readonly billedNanoUsd: NanoUsd;
  readonly closedDays: number;
  readonly openDays: number;
};

/** Rows of a Parquet row group, and of a write. */
const GROUP = 50_000;

/** Writes the days `[sinceDay, untilDay)` as FOCUS rows; beside a file, its metadata as `<file>.metadata.json`. */
export async function exportFocus(
  books: ReportBooks,
  options: FocusOptions,
  stated: Stated,
  onDay: (day: string) => void,
): Promise<FocusSummary> {
  const columns = columnsOf(options.version);
  const sink =
    options.format === "csv" ? csvSink(columns, options.file) : await parquetSink(columns, options.file ?? "");
  let [rows, billedNanoUsd, closedDays, openDays] = [0, 0n, 0, 0];
  for await (const day of focusDays(books, options, stated, onDay)) {
    for (const row of day.rows) billedNanoUsd += row["BilledCost"] as bigint;
    rows += day.rows.length;
    if (day.isClosed) closedDays += 1;
    else openDays += 1;
    await sink.write(day.rows);
  }
  await sink.end();
  if (options.file !== undefined)
    writeFileSync(`${options.file}.metadata.json`, `${JSON.stringify(metadata(columns, options), null, 2)}\n`);
  return { rows, billedNanoUsd, closedDays, openDays };
}

/** Of which rows: a team's, a key's, a provider's; undefined: of all. */
export type FocusFilter = { readonly [part in "team" | "key" | "provider"]?: string | undefined };

const FILTER_COLUMNS = { team: "x_Team", key: "x_KeyId", provider: "x_Provider" } as const;

/** The same days as CSV, a day at a time, for whoever reads it as it comes. */
export async function* streamFocus(
  books: ReportBooks,
  options: Pick<FocusOptions, "sinceDay" | "untilDay" | "version">,
  stated: Stated,
  filter: FocusFilter,
): AsyncGenerator<string> {
  const columns = columnsOf(options.version);
  const wanted = (["team", "key", "provider"] as const).filter((part) => filter[part] !== undefined);
  yield stringify([columns.map(({ name }) => name)]);
  for await (const { rows } of focusDays(books, options, stated, () => undefined)) {
    // What only the bill knows has no key, and belongs to no team: not to the one without a name either.
    const own = rows.filter(
      (row) =>
        wanted.every((part) => (row[FILTER_COLUMNS[part]] ?? "") === filter[part]) &&
        (filter.team === undefined || (row["x_KeyId"] ?? "") !== ""),
    );
    if (own.length > 0) yield csvLines(own, columns);
  }
}

async function* focusDays(
  { usage, billing }: ReportBooks,
  { sinceDay, untilDay }: Pick<FocusOptions, "sinceDay" | "untilDay">,
  stated: Stated,
  onDay: (day: string) => void,
): AsyncGenerator<{ readonly rows: FocusRow[]; readonly isClosed: boolean }> {
  const names = await readNames(usage);
  const billedKeyOf = await readBilledKeys({ usage, billing }, stated);
  for (let day = sinceDay; day < untilDay; day = addDays(day, 1)) {
    const next = addDays(day, 1);
    const metered = new Map<string, MeteredLine[]>();
    await readMetered({ usage, billing }, day, next, (_day, provider, lines) => metered.set(provider, lines));
    const closed = new Map<string, ClosedDay>(
      billing ? (await readClosed(billing, day, next)).map((one) => [one.provider, one]) : [],
    );
    const corrections: Correction[] = billing ? await readCorrections(billing, day, next) : [];
    for (const provider of new Set([...metered.keys(), ...closed.keys()])) {
      const rows = focusRows({
        provider,
        facts: stated.providers.find(provider),
        day,
        metered: metered.get(provider) ?? [],
        closed:
          billing && closed.has(provider)
            ? {
                comparisons: await readComparisons(billing, day, next, provider),
                corrections: corrections.filter((one) => one.provider === provider),
              }
            : undefined,
        keyName: (keyId) => names.get(keyId),
        billedKeyOf: (credential) => billedKeyOf(provider, credential),
      });
      yield { rows, isClosed: closed.has(provider) };
    }
    onDay(day);
    // A day at a time: others get a turn in between.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

async function readBilledKeys(
  { usage, billing }: ReportBooks,
  stated: Stated,
): Promise<(provider: string, credential: string) => string> {
  const credentials = await readMeteredCredentials(usage);
  const matches = new Map<string, ReadonlyMap<string, string>>();
  for (const provider of new Set(credentials.map((one) => one.provider))) {
    const own = credentials.filter((one) => one.provider === provider);
    const keys = billing ? await readProviderKeys(billing, provider) : [];
    matches.set(provider, matchKeys(own, keys, stated).byCredential);
  }
  return (provider, credential) => matches.get(provider)?.get(credential) ?? credential;
}

type Sink = { write(rows: readonly FocusRow[]): Promise<void>; end(): Promise<void> };

function csvSink(columns: readonly Column[], file: string | undefined): Sink {
  const out: Writable = file === undefined ? process.stdout : createWriteStream(file);
  const failed = new Promise<never>((_resolve, reject) => out.once("error", reject));
  failed.catch(() => undefined);
  const put = async (text: string): Promise<void> => {
    if (!out.write(text)) await Promise.race([once(out, "drain"), failed]);
  };
  let isBegun = false;
  const begin = async (): Promise<void> => {
    if (isBegun) return;
    isBegun = true;
    await put(stringify([columns.map(({ name }) => name)]));
  };
  return {
    async write(rows) {
      await begin();
      if (rows.length > 0) await put(csvLines(rows, columns));
    },
    async end() {
      await begin();
      if (file === undefined) return;
      out.end();
      await Promise.race([once(out, "finish"), failed]);
    },
  };
}

function csvLines(rows: readonly FocusRow[], columns: readonly Column[]): string {
  return stringify(rows.map((row) => columns.map((column) => asText(row[column.name], column))));
}

/** As CSV holds it; null is an empty field. */
function asText(value: string | bigint | undefined, { type }: Column): string | undefined {
  if (typeof value === "string") return type === "string" ? csvText(value) : value;
  if (typeof value !== "bigint" || typeof type === "string") return value?.toString();
  return decimal(value, type.digits);
}

function decimal(value: bigint, digits: number): string {
  const sign = value < 0n ? "-" : "";
  const all = (value < 0n ? -value : value).toString().padStart(digits + 1, "0");
  const fraction = digits === 0 ? "" : all.slice(-digits).replace(/0+$/, "");
  const whole = digits === 0 ? all : all.slice(0, -digits);
  return `${sign}${whole}${fraction === "" ? "" : `.${fraction}`}`;
}

type Schema = ConstructorParameters<typeof ParquetWriter>[0]["schema"];

async function parquetSink(columns: readonly Column[], file: string): Promise<Sink> {
  const { fileWriter, ParquetWriter } = await import("hyparquet-writer");
  const schema: Schema = [
    { name: "root", num_children: columns.length },
    ...columns.map(({ name, type }): Schema[number] => {
      const base = { name, repetition_type: "OPTIONAL" } as const;
      if (typeof type === "object")
        return { ...base, type: "INT64", converted_type: "DECIMAL", precision: 18, scale: type.digits };
      if (type === "date") return { ...base, type: "INT64", converted_type: "TIMESTAMP_MILLIS" };
      return { ...base, type: "BYTE_ARRAY", converted_type: type === "json" ? "JSON" : "UTF8" };
    }),
  ];
  const writer = new ParquetWriter({ writer: fileWriter(file), schema, createdBy: "keymeter" });
  let waiting: FocusRow[] = [];
  const flush = async (): Promise<void> => {
    if (waiting.length === 0) return;
    const rows = waiting;
    waiting = [];
    await writer.write({
      columnData: columns.map((column) => ({
        name: column.name,
        data: rows.map((row) => asValue(row[column.name], column)),
      })),
      rowGroupSize: GROUP,
    });
  };
  return {
    async write(rows) {
      for (const row of rows) {
        waiting.push(row);
        if (waiting.length >= GROUP) await flush();
      }
    },
    async end() {
      await flush();
      await writer.finish();
    },
  };
}

function asValue(value: string | bigint | undefined, { type }: Column): unknown {
  if (value === undefined) return undefined;
  if (type === "date") return new Date(String(value));
  if (type === "json") return JSON.parse(String(value)) as unknown;
  return value;
}

/** What FOCUS wants beside a dataset. */
function metadata(columns: readonly Column[], { version, sinceDay, untilDay }: FocusOptions): object {
  return {
    FocusVersion: version,
    DataGenerator: "keymeter",
    CreationDate: new Date().toISOString(),
    ChargePeriodStart: sinceDay,
    ChargePeriodEnd: untilDay,
    ColumnDefinition: columns.map(({ name, type }) => ({
      ColumnName: name,
      DataType: typeof type === "object" ? "DECIMAL" : { string: "STRING", date: "DATETIME", json: "JSON" }[type],
    })),
  };
}

export type ChargebackReport = {
  readonly charges: readonly Charge[];
  /** Closed provider-days of the month, and those that are not, metered or billed: these are as metered only, and may
   *  still change. */
  readonly closedDays: number;
  readonly openDays: number;
};

/** The month's money by owner. `month` as "2026-11", of UTC days. */
export async function reportChargeback(
  { usage, billing }: ReportBooks,
  month: string,
  by: readonly Owner[],
  onDay: (day: string) => void,
): Promise<ChargebackReport> {
  const sinceDay = `${month}-01`;
  const untilDay = `${addDays(sinceDay, 31).slice(0, 7)}-01`;
  const names = await readNames(usage);
  const costs = new Map<string, { owner: string[]; provider: string; meteredNanoUsd: NanoUsd }>();
  const differences = new Map<string, NanoUsd>();
  const [closed, open] = [new Set<string>(), new Set<string>()];
  const signed = billing ? await readClosed(billing, sinceDay, untilDay) : [];
  for (const one of signed) {
    closed.add(`${one.provider} ${one.day}`);
    differences.set(one.provider, (differences.get(one.provider) ?? 0n) + one.billedNanoUsd - one.meteredNanoUsd);
  }
  // What was billed for the hours before the meter is nobody's here.
  for (const { provider, day, cause, amountNanoUsd } of billing
    ? await readVarianceSums(billing, sinceDay, untilDay)
    : [])
    if (cause === "before the meter" && closed.has(`${provider} ${day}`))
      differences.set(provider, (differences.get(provider) ?? 0n) - amountNanoUsd);
  const firstDay = await firstMeteredDay(usage, Date.now());
  for (const { provider, day, lines } of billing ? await readBillDays(billing, sinceDay, untilDay) : [])
    if (lines > 0 && day >= firstDay && !closed.has(`${provider} ${day}`)) open.add(`${provider} ${day}`);
  for (const one of billing ? await readCorrections(billing, sinceDay, untilDay) : [])
    differences.set(one.provider, (differences.get(one.provider) ?? 0n) + one.billedNanoUsd);
  await readMetered({ usage, billing }, sinceDay, untilDay, (day, provider, lines) => {
    if (!closed.has(`${provider} ${day}`)) open.add(`${provider} ${day}`);
    for (const line of lines) {
      const owner = by.map((one) =>
        one === "key"
          ? (names.get(line.keyId) ?? line.keyId)
          : one === "user"
            ? (names.get(line.user) ?? line.user)
            : line[one],
      );
      const name = JSON.stringify([provider, owner]);
      const cost = costs.get(name) ?? { owner, provider, meteredNanoUsd: 0n };
      cost.meteredNanoUsd += line.costNanoUsd;
      costs.set(name, cost);
    }
    onDay(day);
  });
  const owned: OwnedCost[] = [...costs.values()];
  return { charges: chargeback(owned, differences, by.length), closedDays: closed.size, openDays: open.size };
}
