// FOCUS rows out of the books: one row a token class. Pure. What was metered stands as usage under its key and team; on
// a closed day what the bill says otherwise stands beside it, so that the rows of the day add up to the bill exactly.
// Source: FOCUS 1.2 (2025-05) and 1.4 (2026-06), Cost and Usage; the token columns of the 1.5 draft go under x_ until
// it is ratified.
import { formatAttributes } from "./focus-units.ts";
import type { Comparison, Correction, Variance, VarianceCause } from "../ledger/billing/closed-days.ts";
import type { MeteredLine } from "../ledger/billing/metered.ts";
import { parseRatio, scale } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { ProviderFacts } from "../ledger/providers.ts";
import { addDays, utcDay } from "../ledger/windows.ts";
import { describeUnit } from "./focus-units.ts";

export const FOCUS_VERSIONS = ["1.2", "1.4"] as const;
export type FocusVersion = (typeof FOCUS_VERSIONS)[number];

/** Decimals are integers of 10^-digits. */
type ColumnType = "string" | "date" | "json" | { readonly digits: 0 | 6 | 9 };
export type Column = { readonly name: string; readonly type: ColumnType; readonly versions?: readonly FocusVersion[] };
/** A value of a column: decimals as bigint in the column's digits. Undefined: null. */
export type FocusRow = { readonly [column: string]: string | bigint | undefined };

const MONEY = { digits: 9 } as const;
const ALL_COLUMNS: readonly Column[] = [
  { name: "BilledCost", type: MONEY },
  { name: "BillingAccountId", type: "string" },
  { name: "BillingAccountName", type: "string" },
  { name: "BillingAccountType", type: "string" },
  { name: "BillingCurrency", type: "string" },
  { name: "BillingPeriodEnd", type: "date" },
  { name: "BillingPeriodStart", type: "date" },
  { name: "ChargeCategory", type: "string" },
  { name: "ChargeClass", type: "string" },
  { name: "ChargeDescription", type: "string" },
  { name: "ChargeFrequency", type: "string" },
  { name: "ChargePeriodEnd", type: "date" },
  { name: "ChargePeriodStart", type: "date" },
  { name: "ConsumedQuantity", type: { digits: 0 } },
  { name: "ConsumedUnit", type: "string" },
  { name: "ContractedCost", type: MONEY },
  { name: "ContractedUnitPrice", type: MONEY },
  { name: "EffectiveCost", type: MONEY },
  { name: "HostProviderName", type: "string", versions: ["1.4"] },
  { name: "InvoiceId", type: "string" },
  { name: "InvoiceIssuerName", type: "string" },
  { name: "ListCost", type: MONEY },
  { name: "ListUnitPrice", type: MONEY },
  { name: "PricingCategory", type: "string" },
  { name: "PricingQuantity", type: { digits: 6 } },
  { name: "PricingUnit", type: "string" },
  { name: "ProviderName", type: "string", versions: ["1.2"] },
  { name: "PublisherName", type: "string", versions: ["1.2"] },
  { name: "ResourceId", type: "string" },
  { name: "ResourceName", type: "string" },
  { name: "ResourceType", type: "string" },
  { name: "ServiceCategory", type: "string" },
  { name: "ServiceName", type: "string" },
  { name: "ServiceProviderName", type: "string", versions: ["1.4"] },
  { name: "ServiceSubcategory", type: "string" },
  { name: "SkuId", type: "string" },
  { name: "SkuMeter", type: "string" },
  { name: "SkuPriceDetails", type: "json" },
  { name: "SkuPriceId", type: "string" },
  { name: "Tags", type: "json" },
  ...[
    "x_BillState",
    "x_CredentialId",
    "x_Env",
    "x_Feature",
    "x_KeyId",
    "x_Kind",
    "x_PriceVersion",
    "x_Project",
    "x_Provider",
    "x_ServedModel",
    "x_Team",
    "x_Tier",
    "x_TokenCacheAction",
    "x_TokenClass",
    "x_TokenDirection",
    "x_UsageState",
    "x_VarianceCause",
  ].map((name): Column => ({ name, type: "string" })),
];

export function columnsOf(version: FocusVersion): readonly Column[] {
  return ALL_COLUMNS.filter(({ versions }) => versions?.includes(version) ?? true);
}

/** One UTC day of one provider, as the books have it. */
export type FocusDay = {
  readonly provider: string;
  /** Who that is; undefined: settings do not name it any more. */
  readonly facts: ProviderFacts | undefined;
  readonly day: string;
  readonly metered: readonly MeteredLine[];
  /** Of a closed day: what was signed, and what was corrected later. Undefined: the day is open, and its rows are what
   *  was metered. */
  readonly closed:
    | { readonly comparisons: readonly Comparison[]; readonly corrections: readonly Correction[] }
    | undefined;
  readonly keyName: (keyId: string) => string | undefined;
  /** The provider's key id of a credential, as bills name it. */
  readonly billedKeyOf: (credential: string) => string;
};

const UNMETERED: ReadonlySet<VarianceCause> = new Set(["unmetered key", "unmetered model or endpoint"]);

/** The rows of a day. Of a closed day their BilledCost adds up to the bill. */
export function focusRows(day: FocusDay): FocusRow[] {
  const { closed } = day;
  const frame = frameOf(day);
  const rows = day.metered.flatMap((line) => meteredRow(day, line));
  if (!closed) return rows.map((row) => ({ ...frame, ...row, x_BillState: "open" }));
  for (const one of closed.comparisons)
    for (const variance of one.variances) {
      // Estimates were corrected in what was metered.
      if (variance.cause === "estimate corrected" || variance.amountNanoUsd === 0n) continue;
      rows.push(one.kind === undefined ? differenceRow(one, variance) : billRow(one.kind, variance));
    }
  for (const { seq, billedNanoUsd, madeAtMs } of closed.corrections) {
    if (billedNanoUsd === 0n) continue;
    rows.push({
      ...costs(billedNanoUsd),
      ChargeCategory: "Adjustment",
      ChargeClass: "Correction",
      ChargeDescription: `Correction ${seq + 1} of ${day.day}, from ${utcDay(madeAtMs)}: the bill changed after the day was closed`,
      x_Kind: "adjustment",
    });
  }
  return rows.map((row) => ({ ...frame, ...row, x_BillState: "closed" }));
}

/** A piece of a difference: use that only the bill knows stands as use, anything else as an adjustment. */
function differenceRow(one: Comparison, { cause, amountNanoUsd, quantity = 0, detail }: Variance): FocusRow {
  const isUse = UNMETERED.has(cause) && quantity > 0 && amountNanoUsd > 0n && one.unit !== undefined && one.unit !== "";
  return {
    ...costs(amountNanoUsd),
    ...(isUse ? used(one.unit ?? "", quantity, amountNanoUsd) : { ChargeCategory: "Adjustment" }),
    ChargeDescription: `${cause}: ${[one.model, one.unit].filter((part) => part).join(", ")}: ${detail}`,
    ...(one.key ? { ResourceId: one.key, ResourceType: "API Key" } : {}),
    x_CredentialId: one.key || undefined,
    x_Kind: isUse ? "usage" : "adjustment",
    x_ServedModel: one.model || undefined,
    x_VarianceCause: cause,
  };
}

/** A row of the bill beside use. */
function billRow(kind: NonNullable<Comparison["kind"]>, { cause, amountNanoUsd, detail }: Variance): FocusRow {
  const category = kind === "credit" && amountNanoUsd <= 0n ? "Credit" : kind === "tax" ? "Tax" : "Adjustment";
  return {
    ...costs(amountNanoUsd),
    ChargeCategory: category,
    ChargeDescription: detail,
    ChargeFrequency: "One-Time",
    x_Kind: kind,
    x_VarianceCause: cause,
  };
}

/** What every row of the day says. */
function frameOf({ provider, facts, day }: FocusDay): FocusRow {
  const who = facts?.focus ?? { service: provider, publisher: provider };
  const month = `${day.slice(0, 7)}-01`;
  const next = addDays(month, 31).slice(0, 7);
  return {
    BillingAccountId: provider,
    BillingAccountType: "Organization",
    BillingCurrency: "USD",
    BillingPeriodStart: `${month}T00:00:00Z`,
    BillingPeriodEnd: `${next}-01T00:00:00Z`,
    ChargeFrequency: "Usage-Based",
    ChargePeriodStart: `${day}T00:00:00Z`,
    ChargePeriodEnd: `${addDays(day, 1)}T00:00:00Z`,
    HostProviderName: who.publisher,
    InvoiceIssuerName: who.publisher,
    ProviderName: who.publisher,
    PublisherName: who.publisher,
    ServiceProviderName: who.publisher,
    ServiceCategory: "AI and Machine Learning",
    ServiceSubcategory: "Generative AI",
    ServiceName: who.service,
    x_Provider: provider,
  };
}

function meteredRow(day: FocusDay, line: MeteredLine): FocusRow[] {
  const { unit, model, tier } = line;
  if (line.quantity === 0 && line.costNanoUsd === 0n) return [];
  const owner: FocusRow = {
    ResourceId: line.keyId,
    ResourceName: day.keyName(line.keyId),
    ResourceType: "API Key",
    Tags: formatAttributes({ team: line.team, project: line.project, env: line.env, feature: line.feature }),
    x_CredentialId: day.billedKeyOf(line.credential) || undefined,
    x_Env: line.env || undefined,
    x_Feature: line.feature || undefined,
    x_KeyId: line.keyId,
    x_Kind: "usage",
    x_PriceVersion: line.priceVersion,
    x_Project: line.project || undefined,
    x_ServedModel: model,
    x_Team: line.team || undefined,
    x_Tier: tier || undefined,
    x_TokenClass: unit || undefined,
    x_UsageState: line.state,
  };
  if (unit === "" || line.quantity === 0)
    return [
      {
        ...owner,
        ...costs(line.costNanoUsd),
        ChargeCategory: "Adjustment",
        ChargeDescription:
          line.correction === ""
            ? `Held for answers without usage, ${model}`
            : `${line.correction === "bill" ? "Estimates corrected by the bill" : "Priced anew"}, ${model}`,
      },
    ];
  const { meter, direction, cacheAction } = describeUnit(unit);
  const price = priceOf(line);
  return [
    {
      ...owner,
      ...costs(line.costNanoUsd),
      ...quantities(unit, line.quantity),
      ...(price ? prices(unit, line.quantity, price) : {}),
      ChargeCategory: "Usage",
      ChargeDescription: `${meter}, ${model}${tier === "" ? "" : ` (${tier})`}`,
      PricingCategory: "Standard",
      SkuId: `${model}:${unit}`,
      SkuMeter: meter,
      SkuPriceDetails: formatAttributes({
        x_ModelId: model,
        x_TokenDirection: direction ?? "",
        x_TokenCacheAction: cacheAction ?? "",
      }),
      SkuPriceId: `${model}:${unit}:${tier === "" ? "standard" : tier}:${line.pricePicoUsd ?? "unpriced"}${line.multiplier ? `x${line.multiplier}` : ""}`,
      x_TokenCacheAction: cacheAction,
      x_TokenDirection: direction,
    },
  ];
}

/** Money that has no price and quantity of its own. */
function costs(amount: NanoUsd): FocusRow {
  return { BilledCost: amount, EffectiveCost: amount, ListCost: amount, ContractedCost: amount };
}

/** Use that only the bill knows: at the price that it was billed at. */
function used(unit: string, quantity: number, amount: NanoUsd): FocusRow {
  const { meter, direction, cacheAction, per } = describeUnit(unit);
  const price = scale(amount, BigInt(per), BigInt(quantity));
  return {
    ...quantities(unit, quantity),
    ...prices(unit, quantity, { list: price, contracted: price }),
    ChargeCategory: "Usage",
    PricingCategory: "Standard",
    SkuMeter: meter,
    SkuId: `unmetered:${unit}`,
    SkuPriceId: `unmetered:${unit}`,
    x_TokenClass: unit,
    x_TokenDirection: direction,
    x_TokenCacheAction: cacheAction,
  };
}

function quantities(unit: string, quantity: number): FocusRow {
  const { consumed, pricing, per } = describeUnit(unit);
  return {
    ConsumedQuantity: BigInt(quantity),
    ConsumedUnit: consumed,
    PricingQuantity: (BigInt(quantity) * 1_000_000n) / BigInt(per),
    PricingUnit: pricing,
  };
}

type UnitPrices = { readonly list: bigint; readonly contracted: bigint };

/** Price and cost as exported: the cost is the exported quantity times the exported price. */
function prices(unit: string, quantity: number, { list, contracted }: UnitPrices): FocusRow {
  const { per } = describeUnit(unit);
  const inPricing = (BigInt(quantity) * 1_000_000n) / BigInt(per);
  return {
    ListUnitPrice: list,
    ContractedUnitPrice: contracted,
    ListCost: scale(list, inPricing, 1_000_000n),
    ContractedCost: scale(contracted, inPricing, 1_000_000n),
  };
}

/** What was negotiated stands at the end of the price's version. */
const DISCOUNT = /-(\d+(?:\.\d+)?)%$/;

/** Nano-USD per pricing unit, with tiers; the list's without what was negotiated. Undefined: unpriced. */
function priceOf({ unit, pricePicoUsd, multiplier, priceVersion }: MeteredLine): UnitPrices | undefined {
  if (pricePicoUsd === undefined) return undefined;
  const { numerator, denominator } =
    multiplier === undefined ? { numerator: 1n, denominator: 1n } : parseRatio(multiplier);
  const { per } = describeUnit(unit);
  // pico-USD a unit x units a pricing unit / 1000 = nano-USD a pricing unit.
  const contracted = scale(pricePicoUsd * BigInt(per), numerator, 1000n * denominator);
  const off = DISCOUNT.exec(priceVersion ?? "")?.[1];
  if (off === undefined) return { list: contracted, contracted };
  const percent = parseRatio(off);
  const kept = 100n * percent.denominator - percent.numerator;
  const list =
    kept <= 0n
      ? contracted
      : scale(pricePicoUsd * BigInt(per), numerator * 100n * percent.denominator, 1000n * denominator * kept);
  return { list, contracted };
}
