// keymeter prices show MODEL | check | reprice
import { parseArgs } from "node:util";
import { readAdjusted } from "../ledger/usage/adjustments.ts";
import type { Adjustment } from "../ledger/usage/adjustments.ts";
import { multipliersOf } from "../ledger/cost.ts";
import { walkEvents } from "../ledger/usage/events.ts";
import { firstAttemptId, readAttemptId } from "../ledger/ids.ts";
import { formatUsd, formatUsdColumn } from "../ledger/money.ts";
import { openPriceBook } from "../ledger/prices/price-list.ts";
import type { Price, PriceBook, UnitPrice } from "../ledger/prices/price-book.ts";
import { isFee, UNITS } from "../ledger/usage.ts";
import type { Unit } from "../ledger/usage.ts";
import { repriced } from "../ledger/prices/reprice.ts";
import { readSpend } from "../ledger/usage/spend.ts";
import { differenceOf, readStated } from "../ledger/usage/stated.ts";
import type { StatedSums } from "../ledger/usage/stated.ts";
import { addDays, createCalendar } from "../ledger/windows.ts";
import { loadProxyConfig } from "../proxy/config.ts";
import type { ProxyConfig } from "../proxy/config.ts";
import { noteKept } from "./kept.ts";
import { makeChange, requireUsage } from "./books.ts";
import { parseDay } from "./days.ts";
import { toJson } from "../service/json.ts";
import { formatTable } from "./table.ts";
import { noSuchVerb, UsageError } from "./usage-error.ts";

export const USAGE = `keymeter prices show MODEL [--tier flex] [--json]
keymeter prices check [--since 30d] [--json]     what was metered and has no price, or only one that was inferred
keymeter prices reprice --since 2026-11-01 [--dry-run] [--json]     prices what was metered anew: adjustments, never an edit`;

const TOKENS = 1_000_000n;
/** Stated costs that part from ours by more. */
const WORTH_SAYING = 0.01;

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  switch (verb) {
    case "show":
      return show(rest);
    case "check":
      return check(rest);
    case "reprice":
      return reprice(rest);
    default:
      throw noSuchVerb("prices", verb, ["show", "check", "reprice"], USAGE);
  }
}

/** Models of the last days whose money is missing or guessed. Exits with 1 when there are any without a price. */
async function check(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { since: { type: "string", default: "30d" }, json: { type: "boolean", default: false } },
  });
  const config = loadProxyConfig();
  const calendar = createCalendar(config.timezone);
  const books = await requireUsage(config);
  const until = addDays(calendar.day(Date.now()), 1);
  const sinceDay = parseDay(values.since, calendar);
  const spend = await readSpend(books, ["provider", "model"], sinceDay, until);
  const stated = (await readStated(books, calendar.dayStart(sinceDay))).filter(
    (one) => one.unbelieved > 0 || (differenceOf(one) ?? 0) > WORTH_SAYING,
  );
  await books.close();
  const rows = spend
    .filter((row) => row.unpriced > 0 || row.inferred > 0)
    .map(({ group: { provider = "", model = "" }, requests, unpriced, inferred, costNanoUsd }) => ({
      provider,
      model,
      requests,
      unpriced,
      inferred,
      costNanoUsd,
    }));
  if (rows.some((row) => row.unpriced > 0)) process.exitCode = 1;
  if (values.json) return void process.stdout.write(`${toJson(rows)}\n`);
  for (const one of stated) process.stdout.write(`${describeStated(one)}\n`);
  if (rows.length === 0)
    return void process.stdout.write(`Everything metered since ${values.since} has a price of its own.\n`);
  const costs = formatUsdColumn(rows.map((row) => row.costNanoUsd));
  process.stdout.write(
    `${formatTable(
      ["provider", "model", "requests", "unpriced", "inferred", "cost"],
      rows.map((row, i) => [
        row.provider,
        row.model,
        String(row.requests),
        String(row.unpriced),
        String(row.inferred),
        row.unpriced === row.requests && row.costNanoUsd === 0n ? "unpriced" : (costs[i] ?? ""),
      ]),
    )}\n
Unpriced use is missing from the money; inferred money goes by a model family, or holds a fee that a free allowance may cover.
\`keymeter prices show MODEL\` says which price was taken. Give a price of your own under proxy.prices in keymeter.yaml.\n`,
  );
}

function describeStated(one: StatedSums): string {
  const { provider, model, requests, unbelieved, statedNanoUsd, oursNanoUsd } = one;
  const share = Math.round((differenceOf(one) ?? 0) * 1000) / 10;
  const sums = `${provider} ${model}: the provider states ${formatUsd(statedNanoUsd)} for ${requests} answers, our prices come to ${formatUsd(oursNanoUsd)} (${share} % apart)`;
  return unbelieved === 0
    ? `${sums}; what it states is booked.`
    : `${sums}; ${unbelieved} stated costs are too small to be believed, and ours is booked.`;
}

const MOST_A_CHANGE = 500;

/** Events whose price is another one today get an adjustment of the difference. Doing it twice changes nothing. */
async function reprice(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      since: { type: "string" },
      "dry-run": { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  if (values.since === undefined) throw new UsageError(`reprice needs a --since\n${USAGE}`);
  const config = loadProxyConfig();
  const sinceMs = createCalendar(config.timezone).dayStart(parseDay(values.since, createCalendar(config.timezone)));
  const book = openBook(config);
  const books = await requireUsage(config);
  await noteKept(books, sinceMs);
  const adjusted = await readAdjusted(books, firstAttemptId(sinceMs) - 1);
  const found: Adjustment[] = [];
  let seen = 0;
  for await (const event of walkEvents(books, { sinceMs })) {
    seen += 1;
    const adjustment = repriced(event, adjusted.get(readAttemptId(event.attemptId)), book, (provider, model) =>
      config.providers.priceListOf(provider, model),
    );
    if (adjustment) found.push(adjustment);
  }
  await books.close();
  if (!values["dry-run"])
    for (let from = 0; from < found.length; from += MOST_A_CHANGE)
      await makeChange(config, { type: "adjust", adjustments: found.slice(from, from + MOST_A_CHANGE) });
  const sum = found.reduce((total, { amountNanoUsd }) => total + amountNanoUsd, 0n);
  const done = !values["dry-run"];
  if (values.json)
    return void process.stdout.write(`${toJson({ events: seen, adjustments: found.length, sumNanoUsd: sum, done })}\n`);
  process.stdout.write(
    `${found.length} of ${seen} events since ${values.since} have another price today: ${formatUsd(sum)} ${done ? "were added in adjustments" : "would be added; leave out --dry-run to do it"}.\n`,
  );
}

async function show(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { tier: { type: "string" }, json: { type: "boolean", default: false } },
  });
  const [model] = positionals;
  if (model === undefined) throw new UsageError(USAGE);
  const config = loadProxyConfig();
  const book = openBook(config);
  const found = config.providers.all.flatMap(({ name: provider, priceListOf }) => {
    const list = priceListOf(model);
    const price = book.find(list, model, Date.now(), values.tier === undefined ? [] : [values.tier]);
    return price ? [{ provider, price }] : [];
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
    const rows = UNITS.flatMap((unit): (readonly [Unit, string, string])[] => {
      const unitPrice = price.units[unit];
      return unitPrice
        ? [
            [
              unit,
              perMillion(unitPrice.base, unit, unitPrice, price),
              unitPrice.steps
                .map((step) => `${perMillion(step.price, unit, unitPrice, price)} above ${step.above} input tokens`)
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
        `${provider} ${model}: ${price.version}, ${price.confidence}\n${formatTable(["units", "USD", "long context"], grouped(rows))}\n`,
      );
  }
}

/** Units of one price on one line, and what is sold one by one by the piece. */
function grouped(rows: readonly (readonly [unit: Unit, usdPerMillion: string, steps: string])[]): string[][] {
  const lines = new Map<string, string[]>();
  for (const [unit, usd, steps] of rows) {
    const price = isFee(unit) ? `${perPiece(usd)} each` : `${usd} a million`;
    const place = JSON.stringify([price, steps]);
    lines.set(place, [...(lines.get(place) ?? []), unit]);
  }
  return [...lines].map(([place, units]) => [units.join(", "), ...(JSON.parse(place) as string[])]);
}

/** "10000" a million is "0.01" each: the point moves by six places. */
function perPiece(usdPerMillion: string): string {
  const [whole = "", fraction = ""] = usdPerMillion.split(".");
  const digits = whole.padStart(7, "0");
  return `${digits.slice(0, -6)}.${digits.slice(-6)}${fraction}`.replace(/\.?0+$/, "");
}

function openBook({ dataDir, prices, discounts }: ProxyConfig): PriceBook {
  return openPriceBook(dataDir, prices, discounts, (message) => process.stderr.write(`${message}\n`));
}

/** pico-USD a unit as decimal USD a million units, with the multipliers of the tier asked for. */
function perMillion(pico: bigint, unit: Unit, unitPrice: UnitPrice, price: Price): string {
  const ratios = multipliersOf(unit, unitPrice, price);
  const all = ratios.reduce((product, ratio) => product * ratio.numerator, pico * TOKENS);
  const micro = ratios.reduce((rest, ratio) => rest / ratio.denominator, all);
  const text = (micro / 1_000_000_000_000n).toString();
  const fraction = (micro % 1_000_000_000_000n).toString().padStart(12, "0").replace(/0+$/, "");
  return fraction === "" ? text : `${text}.${fraction}`;
}
