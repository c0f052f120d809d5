// Spend of a day or a month, as SVG: what was spent, where it lands as it looks now with its 80 % band, what was
// forecast at the start, and the budget. Drawn on the server by Vega, for messages and pages. Plain shapes, so that it
// reads on a light and on a dark ground, and as small as a phone. The words stand above the plot, in the colours of
// what they name: nothing is ever written over a line.
import type { Mark, Spec } from "vega";
import { draw, FONT, moneyAxis, PAPER, USUAL } from "./draw.ts";
import type { Palette, Size } from "./draw.ts";

/** What is drawn. Hours from `startMs` on, an hour each, in USD; `spent` as far as it is known. */
export type SpendSeries = {
  /** Undefined: what stands around it says it. */
  readonly title?: string | undefined;
  readonly startMs: number;
  readonly endMs: number;
  readonly nowMs: number;
  readonly spent: readonly number[];
  /** As it was forecast at the start. */
  readonly expected: readonly number[];
  /** What is to come, from now on; undefined: nobody knows yet. */
  readonly ahead: Ahead | undefined;
  readonly budget: number | undefined;
  readonly timezone: string;
  /** From here on the meter ran: before it nothing is known, which is not nothing. */
  readonly knownFromMs?: number | undefined;
};

/** Hours from now on, the first one what is left of the running one, and the band of their total against its median:
 *  0.8 and 1.3. */
export type Ahead = { readonly hours: readonly number[]; readonly low: number; readonly high: number };

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

export async function drawSpend(series: SpendSeries, palette: Palette = PAPER, size: Size = USUAL): Promise<string> {
  return draw(specOf(series, palette, size));
}

function specOf(series: SpendSeries, palette: Palette, { width, height }: Size): Spec {
  const { title, startMs, endMs, expected, budget, timezone } = series;
  const { ground, ink, quiet, strong, band, limit } = palette;
  const frozen = sums(expected).map((sum, i) => ({ at: Math.min(startMs + i * HOUR_MS, endMs), sum }));
  const past = pastOf(series);
  const ahead = aheadOf(series, past.at(-1)?.sum ?? 0);
  const last = ahead.at(-1);
  const most = Math.max(
    ...frozen.map(({ sum }) => sum),
    ...ahead.map(({ high }) => high),
    ...past.map(({ sum }) => sum),
    budget ?? 0,
    0.01,
  );
  const label = new Intl.DateTimeFormat("en-GB", {
    timeZone: timezone,
    ...(endMs - startMs > 2 * DAY_MS ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit" }),
  });
  const step = endMs - startMs > 2 * DAY_MS ? 7 * DAY_MS : 6 * HOUR_MS;
  const ticks = Array.from({ length: Math.floor((endMs - startMs) / step) + 1 }, (_, i) => startMs + i * step);
  const names = Object.fromEntries(ticks.map((at) => [String(at), label.format(at)]));
  const words: readonly (readonly [words: string, colour: string, isBold: boolean])[] = [
    [`spent ${money(past.at(-1)?.sum ?? 0)}`, strong, true],
    ...(last
      ? [[`lands at ${money(last.sum)} (${money(last.low)} to ${money(last.high)})`, strong, false] as const]
      : []),
    ...(frozen.length > 1 ? [[`forecast at the start ${money(frozen.at(-1)?.sum ?? 0)}`, quiet, false] as const] : []),
    ...(budget === undefined ? [] : [[`budget ${money(budget)}`, limit, false] as const]),
  ];
  const lines = linesOf(
    words.map(([text]) => text),
    width,
  );
  return {
    $schema: "https://vega.github.io/schema/vega/v6.json",
    width,
    height,
    padding: { left: 16, right: 16, bottom: 16, top: 16 },
    ...(ground === undefined ? {} : { background: ground }),
    autosize: { type: "fit", contains: "padding" },
    config: { axis: { labelFont: FONT, titleFont: FONT }, title: { font: FONT }, text: { font: FONT } },
    title: {
      text: title === undefined ? "" : wrapped(title),
      anchor: "start",
      frame: "group",
      color: ink,
      fontSize: 22,
      fontWeight: 600,
      offset: 14,
    },
    data: [
      { name: "frozen", values: frozen },
      { name: "ahead", values: ahead },
      { name: "past", values: past },
      { name: "last", values: past.slice(-1) },
      { name: "budget", values: budget === undefined ? [] : [{ sum: budget }] },
      {
        name: "words",
        values: words.map(([text, colour, isBold], i) => ({ text, colour, isBold, ...lines[i] })),
      },
    ],
    scales: [
      { name: "x", type: "linear", zero: false, domain: [startMs, endMs], range: "width" },
      { name: "y", type: "linear", domain: [0, most * 1.05], range: "height", nice: true },
    ],
    axes: [
      {
        orient: "bottom",
        scale: "x",
        values: ticks,
        labelColor: quiet,
        labelFontSize: 18,
        tickColor: band,
        domainColor: quiet,
        labelOverlap: true,
        encode: { labels: { update: { text: { signal: `${JSON.stringify(names)}[datum.value]` } } } },
      },
      moneyAxis(most, palette, 18),
    ],
    marks: marksOf(palette, lines.at(-1)?.row ?? 0),
  };
}

/** The shapes, from the back to the front; the words stand above the plot in as many rows as they need. */
function marksOf({ quiet, strong, band, limit }: Palette, lastRow: number): Mark[] {
  return [
    {
      type: "area",
      from: { data: "ahead" },
      encode: {
        enter: {
          x: { scale: "x", field: "at" },
          y: { scale: "y", field: "low" },
          y2: { scale: "y", field: "high" },
          fill: { value: band },
        },
      },
    },
    line("frozen", quiet, { strokeWidth: { value: 2 }, strokeDash: { value: [3, 6] } }),
    line("ahead", strong, { strokeWidth: { value: 3 }, strokeDash: { value: [10, 7] } }),
    {
      type: "rule",
      from: { data: "budget" },
      encode: {
        enter: {
          x: { value: 0 },
          x2: { signal: "width" },
          y: { scale: "y", field: "sum" },
          stroke: { value: limit },
          strokeWidth: { value: 3 },
        },
      },
    },
    line("past", strong, {
      strokeWidth: { value: 5 },
      strokeCap: { value: "round" },
      strokeJoin: { value: "round" },
    }),
    {
      type: "symbol",
      from: { data: "last" },
      encode: {
        enter: {
          x: { scale: "x", field: "at" },
          y: { scale: "y", field: "sum" },
          size: { value: 140 },
          fill: { value: strong },
        },
      },
    },
    {
      type: "text",
      from: { data: "words" },
      encode: {
        enter: {
          x: { field: "x" },
          y: { signal: `(datum.row - ${lastRow}) * ${WORD_HEIGHT} - 18` },
          text: { field: "text" },
          fill: { field: "colour" },
          font: { value: FONT },
          fontSize: { value: WORD_SIZE },
          fontWeight: { signal: "datum.isBold ? 700 : 400" },
        },
      },
    },
  ];
}

const WORD_SIZE = 18;
const WORD_HEIGHT = 26;
/** How wide a letter is at that size, on the generous side. */
const LETTER_WIDTH = 10.4;
const TITLE_LETTERS = 48;

/** Where each of some words stands, one after the other, in as many rows as they need. */
function linesOf(words: readonly string[], room: number): { readonly x: number; readonly row: number }[] {
  let [x, row] = [0, 0];
  return words.map((text) => {
    const width = text.length * LETTER_WIDTH + 24;
    if (x > 0 && x + width > room - 90) [x, row] = [0, row + 1];
    const place = { x, row };
    x += width;
    return place;
  });
}

/** A title in as many lines as it needs. */
function wrapped(title: string): string[] {
  const lines: string[] = [];
  for (const word of title.split(" ")) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + word.length < TITLE_LETTERS) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}

function money(amount: number): string {
  return amount.toLocaleString("en-US", { style: "currency", currency: "USD" });
}

type Point = { readonly at: number; readonly sum: number };

/** Running sums up to now, from where the meter ran. */
function pastOf({ startMs, nowMs, spent, knownFromMs = startMs }: SpendSeries): Point[] {
  const all = sums(spent).map((sum, i) => ({ at: Math.min(startMs + i * HOUR_MS, nowMs), sum }));
  return all.filter(({ at }, i) => at >= knownFromMs || i === all.length - 1);
}

/** From now to the end, with the band that opens. */
function aheadOf(
  { nowMs, endMs, ahead }: SpendSeries,
  soFar: number,
): (Point & { readonly low: number; readonly high: number })[] {
  if (!ahead) return [];
  const { hours, low, high } = ahead;
  return sums(hours).map((sum, i) => ({
    at: i === 0 ? nowMs : Math.min(Math.floor(nowMs / HOUR_MS) * HOUR_MS + i * HOUR_MS, endMs),
    sum: soFar + sum,
    low: soFar + sum * low,
    high: soFar + sum * high,
  }));
}

function line(data: string, colour: string, more: object): NonNullable<Spec["marks"]>[number] {
  return {
    type: "line",
    from: { data },
    encode: {
      enter: { x: { scale: "x", field: "at" }, y: { scale: "y", field: "sum" }, stroke: { value: colour }, ...more },
    },
  };
}

/** Running sums, beginning with nothing. */
function sums(values: readonly number[]): number[] {
  let total = 0;
  return [0, ...values.map((value) => (total += value))];
}
