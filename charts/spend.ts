// Spend of a day or a month against its forecast, as SVG: what was spent, what was expected with its 80 % band, and the budget. Drawn on the
// server by Vega, for messages and pages. Plain shapes, so that it reads on a light and on a dark ground, and as small as a phone.
import type { Spec } from "vega";
import { draw, FONT, moneyAxis, PAPER } from "./draw.ts";
import type { Palette } from "./draw.ts";

/** What is drawn. Hours from `startMs` on, an hour each, in USD; `spent` as far as it is known. */
export type SpendSeries = {
  /** Undefined: what stands around it says it. */
  readonly title?: string | undefined;
  readonly startMs: number;
  readonly endMs: number;
  readonly nowMs: number;
  readonly spent: readonly number[];
  readonly expected: readonly number[];
  /** The band of the total, against the median: 0.8 and 1.3. */
  readonly low: number;
  readonly high: number;
  readonly budget: number | undefined;
  readonly timezone: string;
};

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const WIDTH = 720;
const HEIGHT = 400;

export async function drawSpend(series: SpendSeries, palette: Palette = PAPER): Promise<string> {
  return draw(specOf(series, palette));
}

function specOf(
  { title, startMs, endMs, nowMs, spent, expected, low, high, budget, timezone }: SpendSeries,
  palette: Palette,
): Spec {
  const { ground, ink, quiet, strong, band, limit } = palette;
  const ahead = sums(expected).map((sum, i) => ({ at: startMs + i * HOUR_MS, sum, low: sum * low, high: sum * high }));
  const past = sums(spent).map((sum, i) => ({ at: Math.min(startMs + i * HOUR_MS, nowMs), sum }));
  const most = Math.max(...ahead.map((one) => one.high), ...past.map(({ sum }) => sum), budget ?? 0, 0.01);
  const label = new Intl.DateTimeFormat("en-GB", {
    timeZone: timezone,
    ...(endMs - startMs > 2 * DAY_MS ? { day: "numeric", month: "short" } : { hour: "2-digit", minute: "2-digit" }),
  });
  const step = endMs - startMs > 2 * DAY_MS ? 7 * DAY_MS : 6 * HOUR_MS;
  const ticks = Array.from({ length: Math.floor((endMs - startMs) / step) + 1 }, (_, i) => startMs + i * step);
  const names = Object.fromEntries(ticks.map((at) => [String(at), label.format(at)]));
  const last = past.at(-1);
  return {
    $schema: "https://vega.github.io/schema/vega/v6.json",
    width: WIDTH,
    height: HEIGHT,
    padding: 16,
    ...(ground === undefined ? {} : { background: ground }),
    autosize: { type: "fit", contains: "padding" },
    config: { axis: { labelFont: FONT, titleFont: FONT }, title: { font: FONT }, text: { font: FONT } },
    ...(title === undefined
      ? {}
      : {
          title: { text: title, anchor: "start", color: ink, fontSize: 24, fontWeight: 600, offset: 18, limit: WIDTH },
        }),
    data: [
      { name: "ahead", values: ahead },
      { name: "past", values: past },
      { name: "last", values: last ? [last] : [] },
      { name: "budget", values: budget === undefined ? [] : [{ sum: budget }] },
      { name: "end", values: ahead.slice(-1) },
    ],
    scales: [
      { name: "x", type: "linear", zero: false, domain: [startMs, endMs], range: "width" },
      { name: "y", type: "linear", domain: [0, most * 1.08], range: "height", nice: true },
    ],
    axes: [
      {
        orient: "bottom",
        scale: "x",
        values: ticks,
        labelColor: quiet,
        labelFontSize: 20,
        tickColor: band,
        domainColor: quiet,
        labelOverlap: true,
        encode: { labels: { update: { text: { signal: `${JSON.stringify(names)}[datum.value]` } } } },
      },
      moneyAxis(most, palette, 20),
    ],
    marks: [
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
      {
        type: "line",
        from: { data: "ahead" },
        encode: {
          enter: {
            x: { scale: "x", field: "at" },
            y: { scale: "y", field: "sum" },
            stroke: { value: quiet },
            strokeWidth: { value: 3 },
            strokeDash: { value: [10, 7] },
          },
        },
      },
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
            strokeDash: { value: [3, 5] },
          },
        },
      },
      {
        type: "line",
        from: { data: "past" },
        encode: {
          enter: {
            x: { scale: "x", field: "at" },
            y: { scale: "y", field: "sum" },
            stroke: { value: strong },
            strokeWidth: { value: 5 },
            strokeCap: { value: "round" },
            strokeJoin: { value: "round" },
          },
        },
      },
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
      textMark("last", strong, `'spent ' + format(datum.sum, '$,.2f')`, "at", { dy: -16, isBold: true }),
      textMark("end", quiet, `'forecast ' + format(datum.sum, '$,.2f')`, "end", { dy: 26, isBold: false }, "low"),
      textMark("budget", limit, `'budget ' + format(datum.sum, '$,.2f')`, "start", { dy: -8, isBold: false }),
    ],
  };
}

/** A word beside what it names: no legend to look up. It turns inwards near the right edge. */
function textMark(
  data: string,
  colour: string,
  text: string,
  where: "at" | "start" | "end",
  { dy, isBold }: { readonly dy: number; readonly isBold: boolean },
  beside = "sum",
): NonNullable<Spec["marks"]>[number] {
  const x = { at: { scale: "x", field: "at" }, start: { value: 8 }, end: { signal: "width - 4" } }[where];
  const align = {
    at: { signal: "scale('x', datum.at) > width / 2 ? 'right' : 'left'" },
    start: { value: "left" },
    end: { value: "right" },
  }[where];
  return {
    type: "text",
    from: { data },
    encode: {
      enter: {
        x,
        y: { scale: "y", field: beside },
        dy: { value: dy },
        align,
        text: { signal: text },
        fill: { value: colour },
        font: { value: FONT },
        fontSize: { value: 22 },
        fontWeight: { value: isBold ? 700 : 400 },
      },
    },
  } as NonNullable<Spec["marks"]>[number];
}

/** Running sums, beginning with nothing. */
function sums(values: readonly number[]): number[] {
  let total = 0;
  return [0, ...values.map((value) => (total += value))];
}
