// Files: FOCUS 1.x as CSV or Parquet, and the cost downloads of OpenAI and Anthropic. A file is read whole and checked
// before anything of it is booked. What a FOCUS file of ours says in x_ columns (the key, the model, the token class)
// is taken as it stands. Source of the columns: the FOCUS 1.2 and 1.4 specifications; the providers' downloads as their
// pages name them (unconfirmed).
import { CsvError } from "csv-parse";
import { parse } from "csv-parse/sync";
import { BILLED_KINDS } from "../../ledger/billing/bills.ts";
import type { BilledKind, BilledLine, BillOfDay } from "../../ledger/billing/bills.ts";
import { PROVIDERS } from "../../ledger/providers.ts";
import type { ProviderFacts } from "../../ledger/providers.ts";
import { parseRounded } from "../../ledger/money.ts";
import { UNITS } from "../../ledger/usage.ts";
import type { Unit } from "../../ledger/usage.ts";
import { addDays, DAY_MS, utcDay } from "../../ledger/windows.ts";
import { ImportError, requireUsd } from "./importer.ts";
import { tierOf } from "../reconcile.ts";
import { readLineItem } from "./line-items.ts";

/** A row as text; undefined: null or empty. */
type Row = { readonly [column: string]: string | undefined };

/** Reads a file into bills, a day of a provider each. Throws an ImportError that says which line, what was seen and
 *  what to do. */
export async function readBillFile(name: string, bytes: Buffer): Promise<BillOfDay[]> {
  const isParquet = bytes.subarray(0, 4).toString("latin1") === "PAR1";
  const rows = isParquet ? await readParquet(name, bytes) : readCsv(name, bytes);
  const [first] = rows;
  if (!first) throw new ImportError(`${name} holds no rows. Nothing was imported.`);
  const columns = new Set(Object.keys(first));
  const format = FORMATS.find(({ needs }) => needs.every((column) => columns.has(column)));
  if (!format) {
    const closest = FORMATS.map((one) => ({
      one,
      missing: one.needs.filter((column) => !columns.has(column)),
    })).toSorted((a, b) => a.missing.length / a.one.needs.length - b.missing.length / b.one.needs.length)[0];
    throw new ImportError(
      `${name}: its header is none that Keymeter knows (FOCUS 1.x, OpenAI costs, Anthropic costs). Closest is ${closest?.one.name ?? ""}, which also has ${closest?.missing.join(", ") ?? ""}. Nothing was imported; export it again, or rename the columns.`,
    );
  }
  const bills = new Map<string, { provider: string; day: string; lines: BilledLine[] }>();
  let end = "";
  rows.forEach((row, i) => {
    const place = `${name}, ${isParquet ? "row" : "line"} ${i + (isParquet ? 1 : 2)}`;
    for (const { provider, day, line } of format.read(row, place)) {
      const key = `${provider} ${day}`;
      const bill = bills.get(key) ?? { provider, day, lines: [] };
      bill.lines.push(line);
      bills.set(key, bill);
      if (day > end) end = day;
    }
  });
  // Nothing in it is anybody's that is metered here.
  if (end === "") return [];
  // An export knows its days up to its last one; a later export of the same days knows more.
  const asOfMs = Math.min(Date.parse(`${addDays(end, 1)}T00:00:00Z`), Date.now());
  return [...bills.values()].map((bill) => ({ ...bill, source: `file:${format.name}`, asOfMs }));
}

type Read = { readonly provider: string; readonly day: string; readonly line: BilledLine };
type Format = {
  readonly name: string;
  readonly needs: readonly string[];
  read(row: Row, place: string): Read[];
};

const FORMATS: readonly Format[] = [
  {
    name: "FOCUS",
    needs: [
      "BilledCost",
      "BillingCurrency",
      "ChargePeriodStart",
      "ChargePeriodEnd",
      "ChargeCategory",
      "ChargeDescription",
    ],
    read: readFocusRow,
  },
  {
    name: "OpenAI costs",
    needs: ["start_time_iso", "amount_value", "amount_currency", "line_item"],
    read(row, place) {
      const item = row["line_item"] ?? "";
      const { model, tier, unit } = readLineItem(item);
      requireUsd(row["amount_currency"], `${place}: the amounts`);
      return [
        {
          provider: "openai",
          day: dayOf(row["start_time_iso"], place),
          line: {
            kind: "usage",
            billedKey: row["api_key_id"],
            project: row["project_id"],
            model: item === "" ? undefined : model,
            tier,
            unit: unit === "cache_write_5m" ? "cache_write_30m" : unit,
            lineItem: item,
            ...money(row["amount_value"], place, "amount_value"),
            quantity: quantity(row["quantity"], place),
            raw: JSON.stringify(row),
          },
        },
      ];
    },
  },
  {
    name: "Anthropic costs",
    needs: ["usage_date_utc", "model", "token_type", "cost_usd"],
    read(row, place) {
      const type = row["token_type"] ?? "";
      const unit = ANTHROPIC_UNITS[type] ?? (row["cost_type"] === "web_search" ? "web_search" : undefined);
      return [
        {
          provider: "anthropic",
          day: dayOf(row["usage_date_utc"], place),
          line: {
            kind: unit === "web_search" ? "fee" : "usage",
            billedKey: row["api_key_id"] ?? row["api_key"],
            project: row["workspace"],
            model: row["model"],
            tier: row["usage_type"] === "batch" ? "batch" : "",
            unit,
            lineItem: [row["model"], type].filter((part) => part !== undefined && part !== "").join(", "),
            ...money(row["cost_usd"], place, "cost_usd"),
            raw: JSON.stringify(row),
          },
        },
      ];
    },
  },
];

const ANTHROPIC_UNITS: { readonly [type: string]: Unit } = {
  uncached_input_tokens: "input",
  input: "input",
  cache_read_input_tokens: "cache_read",
  input_cache_read: "cache_read",
  "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m",
  input_cache_write_5m: "cache_write_5m",
  "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
  input_cache_write_1h: "cache_write_1h",
  output_tokens: "output",
  output: "output",
};

const COUNTED = new Set(["Tokens", "Token", "Requests", "Units", "Seconds", "Token-Hours"]);

/** Clouds before makers: what a cloud sells of a maker is on the cloud's bill. */
const isMaker = ({ billedAs }: ProviderFacts): boolean => billedAs.isIssuer;
const BY_SERVICE = [...PROVIDERS.filter((one) => !isMaker(one)).toReversed(), ...PROVIDERS.filter(isMaker)];
/** What others resell under these names is billed elsewhere. */
const RESOLD = /azure|microsoft|amazon|aws|bedrock|oracle/i;

function providerOf(row: Row): string | undefined {
  if (row["x_Provider"] !== undefined) return row["x_Provider"];
  const who = [row["ServiceProviderName"], row["ProviderName"], row["InvoiceIssuerName"], row["ServiceName"]].join(" ");
  if (RESOLD.test(who)) return undefined;
  const service = row["ServiceName"] ?? "";
  const byName = BY_SERVICE.find(({ billedAs }) => billedAs.service.test(service));
  // A service of another name is theirs if they bill it; Google bills much else.
  const issuer = row["InvoiceIssuerName"] ?? "";
  return (byName ?? BY_SERVICE.find(({ billedAs }) => billedAs.isIssuer && billedAs.service.test(issuer)))?.name;
}

function readFocusRow(row: Row, place: string): Read[] {
  const provider = providerOf(row);
  // What others bill is not ours to compare.
  if (provider === undefined) return [];
  requireUsd(row["BillingCurrency"], `${place}: the amounts`);
  const day = dayOf(row["ChargePeriodStart"], place);
  const end = dayOf(row["ChargePeriodEnd"], place);
  if (end > addDays(day, 1))
    throw new ImportError(
      `${place}: the charge period ${row["ChargePeriodStart"]} to ${row["ChargePeriodEnd"]} is longer than a day. Nothing was imported; export by day or by hour.`,
    );
  const kinds: { readonly [category: string]: BilledKind } = {
    Usage: "usage",
    Purchase: "fee",
    Tax: "tax",
    Credit: "credit",
    Adjustment: "adjustment",
  };
  const said = row["x_Kind"] as BilledKind | undefined;
  const kind = said !== undefined && BILLED_KINDS.includes(said) ? said : kinds[row["ChargeCategory"] ?? ""];
  if (kind === undefined)
    throw new ImportError(
      `${place}: the charge category ${JSON.stringify(row["ChargeCategory"])} is none of FOCUS. Nothing was imported.`,
    );
  const unit = row["x_TokenClass"];
  if (unit !== undefined && !(UNITS as readonly string[]).includes(unit))
    throw new ImportError(`${place}: x_TokenClass ${JSON.stringify(unit)} is no token class. Nothing was imported.`);
  const named = unit === undefined ? readLineItem(row["ChargeDescription"] ?? row["SkuId"] ?? "") : undefined;
  const isUse = kind === "usage" || unit !== undefined;
  return [
    {
      provider,
      day,
      line: {
        kind,
        // Rows of ours name the key that paid, or that it is not known; their resource is the key that asked.
        billedKey: row["x_CredentialId"] ?? (row["x_KeyId"] === undefined ? row["ResourceId"] : ""),
        project: row["SubAccountId"],
        model: row["x_ServedModel"] ?? named?.model,
        tier: isUse ? tierOf(row["x_Tier"] ?? named?.tier ?? "") : undefined,
        unit: (unit as Unit | undefined) ?? named?.unit,
        lineItem: row["ChargeDescription"],
        ...money(row["BilledCost"], place, "BilledCost"),
        // A unit that is not ours says nothing that could be compared.
        quantity: COUNTED.has(row["ConsumedUnit"] ?? "") ? quantity(row["ConsumedQuantity"], place) : undefined,
        raw: JSON.stringify(row),
      },
    },
  ];
}

/** The UTC day of a date or an instant. A time without a zone is UTC, as both providers and FOCUS write it. */
function dayOf(text: string | undefined, place: string): string {
  const match = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?) ?(Z|UTC|[+-]\d{2}:?\d{2})?)?$/.exec(
    text ?? "",
  );
  const [, date = "", time = "00:00", zone = "Z"] = match ?? [];
  const ms = Date.parse(`${date}T${time}${zone === "UTC" ? "Z" : zone}`);
  if (!match || Number.isNaN(ms) || !isDay(date))
    throw new ImportError(
      `${place}: ${JSON.stringify(text ?? null)} is no day. Nothing was imported; write it as 2026-11-23 or 2026-11-23T00:00:00Z.`,
    );
  const day = utcDay(ms);
  if (ms > Date.now() + DAY_MS)
    throw new ImportError(`${place}: ${day} lies in the future. Nothing was imported; is this a forecast and no bill?`);
  return day;
}

/** Whether the calendar has it: 2026-02-31 is none. */
function isDay(day: string): boolean {
  const ms = Date.parse(`${day}T00:00:00Z`);
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(day);
}

function money(
  text: string | undefined,
  place: string,
  column: string,
): Pick<BilledLine, "amountNanoUsd" | "resolutionNanoUsd"> {
  try {
    const { value, resolution } = parseRounded(text ?? "", 9);
    return { amountNanoUsd: value, resolutionNanoUsd: resolution > 10_000_000n ? 10_000_000n : resolution };
  } catch {
    throw new ImportError(
      `${place}: ${column} ${JSON.stringify(text ?? null)} is no number. Nothing was imported; write it as 1234.56.`,
    );
  }
}

function quantity(text: string | undefined, place: string): number | undefined {
  if (text === undefined) return undefined;
  const number = Number(text);
  if (!Number.isFinite(number))
    throw new ImportError(`${place}: the quantity ${JSON.stringify(text)} is no number. Nothing was imported.`);
  return Math.round(number);
}

const MOST_HEADER_BYTES = 16_384;

function readCsv(name: string, bytes: Buffer): Row[] {
  try {
    const header = bytes.subarray(0, MOST_HEADER_BYTES).toString("utf8").split(/\r?\n/, 1)[0] ?? "";
    const rows: { [column: string]: string }[] = parse(bytes, {
      // As spreadsheets of half of Europe save it.
      delimiter: header.includes(",") ? "," : ";",
      columns: true,
      bom: true,
      skip_empty_lines: true,
      trim: true,
    });
    return rows.map((row) =>
      Object.fromEntries(Object.entries(row).map(([column, text]) => [column, text === "" ? undefined : text])),
    );
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    throw new ImportError(`${name} is no CSV: ${error.message}. Nothing was imported; export it again.`);
  }
}

async function readParquet(name: string, bytes: Buffer): Promise<Row[]> {
  const [{ parquetReadObjects }, { compressors }] = await Promise.all([
    import("hyparquet"),
    import("hyparquet-compressors"),
  ]);
  try {
    const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
    const rows = await parquetReadObjects({ file, compressors });
    return rows.map((row) =>
      Object.fromEntries(Object.entries(row).map(([column, value]) => [column, textOf(value as unknown)])),
    );
  } catch (error) {
    throw new ImportError(
      `${name} cannot be read as Parquet: ${error instanceof Error ? error.message : String(error)}. Nothing was imported; export it again.`,
    );
  }
}

function textOf(value: unknown): string | undefined {
  if (value === null || value === undefined || value === "") return undefined;
  if (value instanceof Date) return value.toISOString();
  if (typeof value === "object") return JSON.stringify(value);
  return typeof value === "string" ? value : `${value as number | bigint | boolean}`;
}
