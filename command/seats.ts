// keymeter seats list|price: what subscriptions cost a month, and what they paid for.
import { parseArgs } from "node:util";
import { formatUsd, formatUsdColumn, formatUsdSet } from "../ledger/money.ts";
import { readNames } from "../ledger/usage/key-use.ts";
import { readSeats } from "../ledger/usage/seat-prices.ts";
import { createCalendar } from "../ledger/windows.ts";
import { toJson } from "../service/json.ts";
import { makeChange, requireUsage } from "./books.ts";
import { parseUsdOption } from "./budget-options.ts";
import { loadCommandConfig } from "./config.ts";
import { parseMonth } from "./days.ts";
import { describeLimitScope, limitScopeOf } from "./limits.ts";
import { formatTable } from "./table.ts";
import { noSuchVerb, UsageError } from "./usage-error.ts";

export const USAGE = `keymeter seats list [--month 2026-11] [--json]      what each subscription costs, and what it paid for at the API's prices
keymeter seats price (--user U | --key K) AMOUNT [--from 2026-11]    what one costs a month, from that month (this one) on; 0 ends it`;

export async function run(args: string[]): Promise<void> {
  const [verb, ...rest] = args;
  if (verb === "list") return list(rest);
  if (verb === "price") return price(rest);
  throw noSuchVerb("seats", verb, ["list", "price"], USAGE);
}

async function list(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { month: { type: "string" }, json: { type: "boolean", default: false } },
  });
  if (values.month !== undefined) parseMonth(values.month);
  const config = loadCommandConfig();
  const calendar = createCalendar(config.timezone);
  const month = values.month ?? calendar.day(Date.now()).slice(0, 7);
  const books = await requireUsage(config);
  const seats = await readSeats(books, calendar, month);
  const names = await readNames(books);
  await books.close();
  if (values.json) return void process.stdout.write(`${toJson({ month, seats })}\n`);
  if (seats.length === 0)
    return void process.stdout.write(
      `No subscription paid for anything in ${month}, and none has a price. \`keymeter seats price --user NAME 200\` enters one.\n`,
    );
  const worth = formatUsdColumn(seats.map(({ valueNanoUsd }) => valueNanoUsd));
  const rows = seats.map(({ scope, priceNanoUsd, valueNanoUsd }, i) => [
    describeLimitScope(scope, names),
    priceNanoUsd === undefined ? "not entered" : formatUsdSet(priceNanoUsd),
    worth[i] ?? "",
    timesOf(valueNanoUsd, priceNanoUsd),
  ]);
  const priced = seats.reduce((sum, { priceNanoUsd = 0n }) => sum + priceNanoUsd, 0n);
  process.stdout.write(
    `${formatTable(["seat", "price a month", "paid for, worth", "value over price"], rows)}\nPrices in ${month}: ${formatUsd(priced)}. Worth: at the API's prices, in no sum of money.\n`,
  );
}

async function price(args: string[]): Promise<void> {
  const text = { type: "string" } as const;
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { user: text, key: text, from: text },
  });
  const [amount, ...more] = positionals;
  if (amount === undefined || more.length > 0) throw new UsageError(`say one amount in USD a month\n${USAGE}`);
  if (values.user === undefined && values.key === undefined)
    throw new UsageError(`whose seat? say --user or --key\n${USAGE}`);
  if (values.from !== undefined) parseMonth(values.from);
  const priceNanoUsd = parseUsdOption("amount", amount);
  const scope = await limitScopeOf(values);
  const config = loadCommandConfig();
  const month = values.from ?? createCalendar(config.timezone).day(Date.now()).slice(0, 7);
  await makeChange(config, { type: "setSeatPrice", seat: { scope, month, priceNanoUsd } });
  const books = await requireUsage(config);
  const name = describeLimitScope(scope, await readNames(books));
  await books.close();
  process.stdout.write(
    priceNanoUsd === 0n
      ? `${name}: no seat from ${month} on\n`
      : `${name}: ${formatUsdSet(priceNanoUsd)} a month from ${month} on\n`,
  );
}

/** "3.4 times"; nothing without a price. */
function timesOf(valueNanoUsd: bigint, priceNanoUsd: bigint | undefined): string {
  return priceNanoUsd === undefined ? "" : `${(Number((valueNanoUsd * 100n) / priceNanoUsd) / 100).toFixed(2)} times`;
}
