// keymeter prices show MODEL
import { parseArgs } from "node:util";
import { createPriceBook } from "../ledger/prices.ts";
import type { Price } from "../ledger/prices.ts";
import { FEE_UNITS, UNITS } from "../ledger/usage.ts";
import type { Unit } from "../ledger/usage.ts";
import { loadProxyConfig } from "../proxy/config.ts";
import { formatTable } from "./table.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter prices show MODEL [--tier flex] [--json]`;

/** Providers that need no setting, and whose price list each goes by. */
const OWN_LISTS = [
  { name: "openai", priceList: "openai" },
  { name: "anthropic", priceList: "anthropic" },
  { name: "gcp.gemini", priceList: "google" },
];
const TOKENS = 1_000_000n;

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  const { values, positionals } = parseArgs({
    args: rest,
    allowPositionals: true,
    options: { tier: { type: "string" }, json: { type: "boolean", default: false } },
  });
  const [model] = positionals;
  if (verb !== "show" || model === undefined) throw new UsageError(USAGE);
  const config = loadProxyConfig();
  const book = createPriceBook(config.prices);
  const lists = [...OWN_LISTS, ...config.upstreams];
  const found = lists.flatMap((provider) => {
    const price = book.find(provider.priceList, model, Date.now(), values.tier === undefined ? [] : [values.tier]);
    return price ? [{ provider: provider.name, price }] : [];
  });
  if (found.length === 0) {
    if (values.json) process.stdout.write(`${JSON.stringify({ model, price: null })}\n`);
    else
      process.stdout.write(
        `${model} has no price at any configured provider: its use is counted, its money is not. Add one under proxy.prices in keymeter.yaml, in USD per million tokens.\n`,
      );
    process.exitCode = 1;
    return;
  }
  for (const { provider, price } of found) {
    if (price.unknownTiers.length > 0) {
      process.stderr.write(
        `${provider} ${model}: no price is known for the tier "${values.tier}"; such a request is booked at the plain price, marked as inferred\n`,
      );
      process.exitCode = 1;
    }
    const rows = UNITS.flatMap((unit) => {
      const unitPrice = price.units[unit];
      return unitPrice
        ? [
            [
              unit,
              perMillion(unitPrice.base, unit, price),
              unitPrice.steps
                .map((step) => `${perMillion(step.price, unit, price)} above ${step.above} input tokens`)
                .join(", "),
            ],
          ]
        : [];
    });
    if (values.json)
      process.stdout.write(
        `${JSON.stringify({ provider, model, version: price.version, confidence: price.confidence, usdPerMillion: Object.fromEntries(rows.map(([unit, usd]) => [unit, usd])) })}\n`,
      );
    else
      process.stdout.write(
        `${provider} ${model}: ${price.version}, ${price.confidence}\n${formatTable(["unit", "USD per million", "long context"], rows)}\n`,
      );
  }
}

/** pico-USD a unit as decimal USD a million units, with the multipliers of the tier asked for. */
function perMillion(pico: bigint, unit: Unit, { multipliers }: Price): string {
  const ratios = (FEE_UNITS as readonly Unit[]).includes(unit) ? [] : multipliers;
  const all = ratios.reduce((product, ratio) => product * ratio.numerator, pico * TOKENS);
  const micro = ratios.reduce((rest, ratio) => rest / ratio.denominator, all);
  const text = (micro / 1_000_000_000_000n).toString();
  const fraction = (micro % 1_000_000_000_000n).toString().padStart(12, "0").replace(/0+$/, "");
  return fraction === "" ? text : `${text}.${fraction}`;
}
