// A checker of FOCUS exports: presence, type, nullability, allowed values, formats, units, price x quantity, order of
// own columns. Our own reading of the 1.2 and 1.4 rules that concern a dataset like ours; the official validator is a
// Python tool (see README.md).
import { columnsOf } from "./focus.ts";
import type { FocusVersion } from "./focus.ts";

/** A row as it stands in the file: text, or undefined for null. */
export type FileRow = { readonly [column: string]: string | undefined };
export type Problem = { readonly row: number | undefined; readonly column: string; readonly rule: string };

const NOT_NULL: readonly string[] = [
  "BilledCost",
  "BillingAccountId",
  "BillingCurrency",
  "BillingPeriodStart",
  "BillingPeriodEnd",
  "ChargeCategory",
  "ChargeFrequency",
  "ChargePeriodStart",
  "ChargePeriodEnd",
  "ContractedCost",
  "EffectiveCost",
  "InvoiceIssuerName",
  "ListCost",
  "ServiceCategory",
  "ServiceSubcategory",
  "ServiceName",
];
const NOT_NULL_IN: { readonly [version in FocusVersion]: readonly string[] } = {
  "1.2": ["ProviderName", "PublisherName"],
  "1.4": ["ServiceProviderName", "HostProviderName"],
};
const GONE_IN: { readonly [version in FocusVersion]: readonly string[] } = {
  "1.2": ["ServiceProviderName", "HostProviderName"],
  "1.4": ["ProviderName", "PublisherName"],
};
const ALLOWED: { readonly [column: string]: readonly string[] } = {
  ChargeCategory: ["Usage", "Purchase", "Tax", "Credit", "Adjustment"],
  ChargeClass: ["Correction"],
  ChargeFrequency: ["One-Time", "Recurring", "Usage-Based"],
  PricingCategory: ["Standard", "Dynamic", "Committed", "Other"],
  ServiceCategory: ["AI and Machine Learning"],
  ServiceSubcategory: ["Generative AI"],
  BillingCurrency: ["USD"],
  x_TokenDirection: ["Input", "Output"],
  x_TokenCacheAction: ["Uncached", "Read", "Write"],
};
const DECIMAL = /^-?(0|[1-9]\d*)(\.\d+)?([eE]-?\d+)?$/;
const DATE = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/;
const UNIT = /^(?:[1-9]\d* )?(?:Tokens|Requests|Units|Seconds|Token-Hours)$/;
const PLACEHOLDERS = new Set(["N/A", "n/a", "null", "NULL", "none", "None", "-"]);
const MOST_PROBLEMS = 100;

/** Every rule over every row; the first hundred problems. */
export function checkFocus(header: readonly string[], rows: Iterable<FileRow>, version: FocusVersion): Problem[] {
  const problems: Problem[] = [];
  const add = (row: number | undefined, column: string, rule: string): void => {
    if (problems.length < MOST_PROBLEMS) problems.push({ row, column, rule });
  };
  checkHeader(header, version, add);
  const types = new Map(columnsOf(version).map(({ name, type }) => [name, type]));
  let index = 0;
  for (const row of rows) {
    index += 1;
    const at = (column: string, rule: string): void => add(index, column, rule);
    for (const column of [...NOT_NULL, ...NOT_NULL_IN[version]])
      if (row[column] === undefined) at(column, "must not be null");
    for (const [column, value] of Object.entries(row))
      if (value !== undefined) checkValue(column, value, types.get(column), at);
    checkPeriods(row, at);
    checkQuantities(row, at);
    checkMoney(row, at);
    checkSku(row, at);
  }
  return problems;
}

type AddToHeader = (row: number | undefined, column: string, rule: string) => void;
type AddToRow = (column: string, rule: string) => void;

function checkHeader(header: readonly string[], version: FocusVersion, add: AddToHeader): void {
  for (const { name } of columnsOf(version)) if (!header.includes(name)) add(undefined, name, "is missing");
  for (const name of GONE_IN[version]) if (header.includes(name)) add(undefined, name, `is no column of ${version}`);
  if (new Set(header).size < header.length) add(undefined, "", "a column stands twice");
  let own = false;
  for (const name of header) {
    if (name.startsWith("x_")) own = true;
    else if (own) add(undefined, name, "stands after a column of our own");
    else if (!/^[A-Z][A-Za-z0-9]*$/.test(name)) add(undefined, name, "must be PascalCase");
  }
}

function checkValue(column: string, value: string, type: unknown, at: AddToRow): void {
  if (value === "" || PLACEHOLDERS.has(value)) at(column, "null must be null, not a placeholder");
  const allowed = ALLOWED[column];
  if (allowed && !allowed.includes(value)) at(column, `"${value}" is none of ${allowed.join(", ")}`);
  if (type === "date" && !(DATE.test(value) && !Number.isNaN(Date.parse(value))))
    at(column, `"${value}" is no UTC instant`);
  if (typeof type === "object" && type !== null && !DECIMAL.test(value)) at(column, `"${value}" is no decimal`);
  if (type === "json") checkJson(column, value, at);
  if ((column === "ConsumedUnit" || column === "PricingUnit") && !UNIT.test(value)) at(column, `"${value}" is no unit`);
}

function checkJson(column: string, value: string, at: AddToRow): void {
  let parsed: unknown;
  try {
    parsed = JSON.parse(value);
  } catch {
    return at(column, "is no JSON");
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return at(column, "must be one object");
  const entries = Object.entries(parsed as { [key: string]: unknown });
  if (entries.some(([, member]) => typeof member === "object" && member !== null)) at(column, "must be flat");
  if (column === "SkuPriceDetails" && entries.some(([key]) => !/^(x_)?[A-Z][A-Za-z0-9]*$/.test(key)))
    at(column, "keys must be PascalCase");
}

function checkPeriods(row: FileRow, at: AddToRow): void {
  const [from, to] = [row["ChargePeriodStart"] ?? "", row["ChargePeriodEnd"] ?? ""];
  const [first, end] = [row["BillingPeriodStart"] ?? "", row["BillingPeriodEnd"] ?? ""];
  if (from >= to) at("ChargePeriodEnd", "must be after its start");
  if (first >= end) at("BillingPeriodEnd", "must be after its start");
  if (!first.endsWith("-01T00:00:00Z") || !end.endsWith("-01T00:00:00Z"))
    at("BillingPeriodStart", "a month begins on its first");
  if (row["ChargeClass"] === undefined && (from < first || to > end))
    at("ChargePeriodStart", "lies outside its billing period");
}

function checkQuantities(row: FileRow, at: AddToRow): void {
  const isUse = row["ChargeCategory"] === "Usage";
  const isCorrection = row["ChargeClass"] !== undefined;
  for (const kind of ["Consumed", "Pricing"])
    if ((row[`${kind}Quantity`] === undefined) !== (row[`${kind}Unit`] === undefined))
      at(`${kind}Unit`, "is null exactly when its quantity is");
  if (!isUse && row["ConsumedQuantity"] !== undefined) at("ConsumedQuantity", "must be null for what is no usage");
  if (isUse && !isCorrection) {
    if (row["ConsumedQuantity"] === undefined) at("ConsumedQuantity", "must not be null for usage");
    if (row["PricingQuantity"] === undefined) at("PricingQuantity", "must not be null for usage");
    if (row["PricingCategory"] === undefined) at("PricingCategory", "must not be null for usage");
  }
  if (!isUse && row["PricingCategory"] !== undefined) at("PricingCategory", "must be null for what is no usage");
  if (Number(row["ConsumedQuantity"] ?? 0) < 0 || Number(row["PricingQuantity"] ?? 0) < 0)
    at("ConsumedQuantity", "must not be negative");
}

/** Half of the last place that is exported. */
const TOLERANCE = 1.5e-9;

function checkMoney(row: FileRow, at: AddToRow): void {
  for (const kind of ["List", "Contracted"]) {
    const price = row[`${kind}UnitPrice`];
    if (price === undefined || row["ChargeClass"] !== undefined) continue;
    if (Number(price) < 0) at(`${kind}UnitPrice`, "must not be negative");
    const expected = Number(row["PricingQuantity"] ?? 0) * Number(price);
    const slack = Math.max(TOLERANCE, Math.abs(expected) * 1e-12);
    if (Math.abs(expected - Number(row[`${kind}Cost`])) > slack)
      at(`${kind}Cost`, "must be PricingQuantity x its unit price");
  }
  if (row["ChargeCategory"] === "Credit" && Number(row["BilledCost"]) > 0)
    at("BilledCost", "a credit must not be positive");
}

function checkSku(row: FileRow, at: AddToRow): void {
  for (const column of ["SkuMeter", "SkuPriceDetails", "SkuPriceId"])
    if (row["SkuId"] === undefined && row[column] !== undefined) at(column, "must be null when SkuId is");
  if (row["ChargeCategory"] === "Usage" && row["SkuId"] === undefined) at("SkuId", "must not be null for usage");
  if (row["ResourceId"] === undefined && (row["ResourceName"] !== undefined || row["ResourceType"] !== undefined))
    at("ResourceType", "must be null when ResourceId is");
  if (row["ChargeCategory"] === "Tax" && row["SkuId"] !== undefined) at("SkuId", "must be null for tax");
}
