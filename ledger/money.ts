// Money is integer and bigint. Two units, never mixed: prices are pico-USD (1e-12) per unit, amounts are
// nano-USD (1e-9). Nothing here passes through a float; decimal text is parsed digit by digit.

/** An amount of money: nano-USD, 1e-9 USD. */
export type NanoUsd = bigint;
/** A price for one unit (one token, one search): pico-USD, 1e-12 USD. */
export type PicoUsdPerUnit = bigint;
/** An exact multiplier such as 1/2 for batches. */
export type Ratio = { readonly numerator: bigint; readonly denominator: bigint };

const NANO_DIGITS = 9;
const PICO_DIGITS = 12;

/** Parses decimal USD such as "12.5" into nano-USD. Throws a RangeError that names the text when it is no plain
 *  decimal or finer than a nano-USD. */
export function parseUsd(text: string): NanoUsd {
  return parseDecimal(text, NANO_DIGITS, "an amount in USD");
}

/** Parses "USD per million units", the one unit of price lists, into pico-USD per unit: "0.0375" is 37,500. */
export function parseUsdPerMillion(text: string): PicoUsdPerUnit {
  return parseDecimal(text, PICO_DIGITS - 6, "a price in USD per million");
}

/** Parses "USD per thousand uses" (web searches, requests) into pico-USD per use. */
export function parseUsdPerThousand(text: string): PicoUsdPerUnit {
  return parseDecimal(text, PICO_DIGITS - 3, "a price in USD per thousand");
}

/** Parses "USD each" (a picture, a second, a character) into pico-USD. */
export function parseUsdEach(text: string): PicoUsdPerUnit {
  return parseDecimal(text, PICO_DIGITS, "a price in USD each");
}

/** Parses a multiplier, a decimal such as "1.25" or a fraction such as "5/3", into an exact ratio. */
export function parseRatio(text: string): Ratio {
  const [above = "", below] = text.split("/");
  if (below !== undefined) {
    const [upper, lower] = [parseRatio(above), parseRatio(below)];
    return { numerator: upper.numerator * lower.denominator, denominator: upper.denominator * lower.numerator };
  }
  const scale = text.includes(".") ? text.length - text.indexOf(".") - 1 : 0;
  return { numerator: parseDecimal(text, scale, "a multiplier"), denominator: 10n ** BigInt(scale) };
}

/** quantity x price x multipliers, exact until one rounding, half up, to nano-USD. */
export function multiply(quantity: number, price: PicoUsdPerUnit, multipliers: readonly Ratio[] = []): NanoUsd {
  let numerator = BigInt(quantity) * price;
  // The same half up, for what most lines are.
  if (multipliers.length === 0 && numerator >= 0n) return (numerator + 500n) / 1000n;
  let denominator = 1000n;
  for (const ratio of multipliers) {
    numerator *= ratio.numerator;
    denominator *= ratio.denominator;
  }
  // Half up, away from zero where it is negative.
  const rounded = (2n * (numerator < 0n ? -numerator : numerator) + denominator) / (2n * denominator);
  return numerator < 0n ? -rounded : rounded;
}

/** Decimal USD with all nine digits: exact, for machines. */
export function formatUsdExact(amount: NanoUsd): string {
  return formatDecimal(amount, NANO_DIGITS);
}

/** Money for people: a sign, "$", cents; below a cent the first two digits that are not zero: "$1,234.57", "-$0.21",
 *  "$0.0039". */
export function formatUsd(amount: NanoUsd): string {
  return withSign(formatRounded(amount, digitsFor(amount)));
}

/** What is left, for people: never more than it is, as rounding would have it. */
export function formatUsdDown(amount: NanoUsd): string {
  const step = 10n ** BigInt(NANO_DIGITS - digitsFor(amount));
  const over = ((amount % step) + step) % step;
  return formatUsd(amount - over);
}

/** What something may cost, for people: never less than it is. */
export function formatUsdUp(amount: NanoUsd): string {
  const step = 10n ** BigInt(NANO_DIGITS - digitsFor(amount));
  return formatUsd(((amount + step - 1n) / step) * step);
}

/** Money for people in cents alone, for tables of sums: what is more than nothing and less than half a cent is
 *  "<$0.01". */
export function formatUsdCents(amount: NanoUsd): string {
  const words = withSign(formatRounded(amount, 2));
  return amount === 0n || !/^-?\$0\.00$/.test(words) ? words : amount < 0n ? "-<$0.01" : "<$0.01";
}

/** Money that somebody set, such as the amount of a budget: no digit is lost, "$500.00", "$0.000001". */
export function formatUsdSet(amount: NanoUsd): string {
  return withSign(formatDecimal(amount, NANO_DIGITS).replace(/0{1,7}$/, ""));
}

/** Amounts of one column: in cents, or, where none comes to a cent, each with the digits that it needs. */
export function formatUsdColumn(amounts: readonly NanoUsd[]): string[] {
  const isSmall = amounts.every((amount) => digitsFor(amount) > 2 || amount === 0n);
  return amounts.map(isSmall ? formatUsd : formatUsdCents);
}

function withSign(decimal: string): string {
  const [whole = "", fraction] = decimal.replace("-", "").split(".");
  const words = `$${whole.replace(/\B(?=(\d{3})+$)/g, ",")}${fraction === undefined ? "" : `.${fraction}`}`;
  return decimal.startsWith("-") ? `-${words}` : words;
}

function digitsFor(amount: NanoUsd): number {
  const size = amount < 0n ? -amount : amount;
  if (size === 0n || size >= CENT) return 2;
  return Math.min(NANO_DIGITS, NANO_DIGITS - size.toString().length + 2);
}

const CENT = 10_000_000n;

/** Rounded half away from zero. */
function formatRounded(amount: NanoUsd, digits: number): string {
  const size = amount < 0n ? -amount : amount;
  const step = 10n ** BigInt(NANO_DIGITS - digits);
  const rounded = ((2n * size + step) / (2n * step)) * step;
  return formatDecimal(amount < 0n ? -rounded : rounded, digits);
}

/** Splits an amount over weights so that the parts add up to it exactly: floors by share, and what is left over goes, a
 *  nano-USD each, to the largest remainders (the first of equal ones). All weights zero: in equal parts. Weights are
 *  not negative; no weight, no part. */
export function allocate(amount: NanoUsd, weights: readonly bigint[]): NanoUsd[] {
  if (weights.length === 0) return [];
  const total = weights.reduce((sum, weight) => sum + weight, 0n);
  const shares = total === 0n ? weights.map(() => 1n) : weights;
  const whole = total === 0n ? BigInt(weights.length) : total;
  const size = amount < 0n ? -amount : amount;
  const parts = shares.map((share) => (size * share) / whole);
  let left = size - parts.reduce((sum, part) => sum + part, 0n);
  const byRemainder = shares
    .map((share, i) => ({ i, remainder: (size * share) % whole }))
    .toSorted((a, b) => (a.remainder === b.remainder ? a.i - b.i : a.remainder > b.remainder ? -1 : 1));
  for (const { i } of byRemainder) {
    if (left === 0n) break;
    parts[i] = (parts[i] ?? 0n) + 1n;
    left -= 1n;
  }
  return amount < 0n ? parts.map((part) => -part) : parts;
}

/** `amount` x `numerator` / `denominator`, rounded half away from zero. */
export function scale(amount: bigint, numerator: bigint, denominator: bigint): bigint {
  const product = amount * numerator * (denominator < 0n ? -1n : 1n);
  const size = product < 0n ? -product : product;
  const base = denominator < 0n ? -denominator : denominator;
  const rounded = (2n * size + base) / (2n * base);
  return product < 0n ? -rounded : rounded;
}

/** Decimal text of any fineness, in units of 10^-`digits`, rounded half away from zero; with the last place that the
 *  text has, in the same unit, and at least 1. An exponent is read ("1.2E-7"). Throws a RangeError that names the text
 *  when it is no number. */
export function parseRounded(text: string, digits: number): { readonly value: bigint; readonly resolution: bigint } {
  const match = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d{1,3}))?$/.exec(text.trim());
  const [, sign = "", whole = "", fraction = "", exponent = "0"] = match ?? [];
  if (!match || whole + fraction === "") throw new RangeError(`"${text}" is no number`);
  const places = fraction.length - Number(exponent);
  const all = BigInt(whole + fraction) * (sign === "-" ? -1n : 1n);
  if (places <= digits) {
    const step = 10n ** BigInt(digits - places);
    return { value: all * step, resolution: step };
  }
  return { value: scale(all, 1n, 10n ** BigInt(places - digits)), resolution: 1n };
}

/** A float for gauges and charts, which know nothing else. The last step of a figure, never an intermediate one. */
export function toUsdNumber(amount: NanoUsd): number {
  return Number(amount) / 1e9;
}

function parseDecimal(text: string, scale: number, what: string): bigint {
  const match = /^(-?)(\d{1,15})(?:\.(\d+))?$/.exec(text.trim());
  if (!match) throw new RangeError(`"${text}" is not ${what}: write a plain decimal such as 12.50`);
  const fraction = (match[3] ?? "").replace(/0+$/, "");
  if (fraction.length > scale)
    throw new RangeError(`"${text}" is finer than ${what} can be: at most ${scale} decimals`);
  const value = BigInt((match[2] ?? "0") + fraction.padEnd(scale, "0"));
  return match[1] ? -value : value;
}

function formatDecimal(amount: bigint, digits: number): string {
  const sign = amount < 0n ? "-" : "";
  const all = (amount < 0n ? -amount : amount).toString().padStart(NANO_DIGITS + 1, "0");
  const fraction = all.slice(-NANO_DIGITS).slice(0, digits);
  return `${sign}${all.slice(0, -NANO_DIGITS)}${digits > 0 ? `.${fraction}` : ""}`;
}
