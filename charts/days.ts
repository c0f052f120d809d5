// Money by day, as SVG: a bar a day, stacked by who or what it went to; the largest at the bottom, the rest in one.
import type { Mark, Spec } from "vega";
import { draw, FONT, moneyAxis, SCREEN, USUAL } from "./draw.ts";
import type { Palette, Size } from "./draw.ts";

/** What is drawn, in USD. `days` in order, "2026-11-23"; each series with a value a day. */
export type DaySeries = {
  readonly days: readonly string[];
  /** `isBilled`: as it was billed, before anything was metered; comes after the others. */
  readonly series: readonly {
    readonly name: string;
    readonly values: readonly number[];
    readonly isBilled?: boolean;
  }[];
  /** The day on which the meter began, where it is one of these: what lies before it is not metered, and not zero. */
  readonly meteredFrom?: string | undefined;
};

export async function drawDays(chart: DaySeries, palette: Palette = SCREEN, size: Size = USUAL): Promise<string> {
  return draw(specOf(chart, palette, size));
}

function specOf({ days, series, meteredFrom }: DaySeries, palette: Palette, { width, height }: Size): Spec {
  const { ground, quiet, grid, series: colours } = palette;
  const rank = ({ isBilled = false }: DaySeries["series"][number]): number => Number(isBilled);
  const sorted = series.toSorted((a, b) => rank(a) - rank(b) || total(b.values) - total(a.values));
  const named = sorted.slice(0, colours.length - (sorted.length > colours.length ? 1 : 0));
  const rest = sorted.slice(named.length);
  const shown = [
    ...named,
    ...(rest.length > 0
      ? [{ name: `${rest.length} others`, values: days.map((_, i) => total(rest.map(({ values }) => values[i] ?? 0))) }]
      : []),
  ];
  const bars = days.flatMap((day, i) => {
    let below = 0;
    return shown.map(({ name, values }) => {
      const bar = { day, name, from: below, to: below + (values[i] ?? 0) };
      below = bar.to;
      return bar;
    });
  });
  const most = Math.max(...bars.map(({ to }) => to), 0.01);
  const every = Math.ceil(days.length / (width / 120));
  return {
    $schema: "https://vega.github.io/schema/vega/v6.json",
    width,
    height,
    padding: 16,
    ...(ground === undefined ? {} : { background: ground }),
    autosize: { type: "fit", contains: "padding" },
    config: { axis: { labelFont: FONT }, legend: { labelFont: FONT } },
    data: [{ name: "bars", values: bars }],
    scales: [
      { name: "x", type: "band", domain: [...days], range: "width", padding: 0.15 },
      { name: "y", type: "linear", domain: [0, most], range: "height", nice: true },
      { name: "colour", type: "ordinal", domain: shown.map(({ name }) => name), range: [...colours] },
    ],
    axes: [
      {
        orient: "bottom",
        scale: "x",
        values: days.filter((_, i) => i % every === 0),
        labelColor: quiet,
        labelFontSize: 16,
        tickColor: grid,
        domainColor: quiet,
        // "11-23": the year stands in the table.
        encode: { labels: { update: { text: { signal: "slice(datum.value, 5)" } } } },
      },
      moneyAxis(most, palette, 16),
    ],
    legends:
      shown.length > 1
        ? [
            {
              fill: "colour",
              orient: "bottom",
              columns: 3,
              labelColor: quiet,
              labelFontSize: 16,
              labelLimit: 200,
              symbolType: "square",
            },
          ]
        : [],
    marks: [
      ...(meteredFrom !== undefined && days.includes(meteredFrom) ? beganMarks(meteredFrom, quiet) : []),
      {
        type: "rect",
        from: { data: "bars" },
        encode: {
          enter: {
            x: { scale: "x", field: "day" },
            width: { scale: "x", band: 1 },
            y: { scale: "y", field: "to" },
            y2: { scale: "y", field: "from" },
            fill: { scale: "colour", field: "name" },
          },
        },
      },
    ],
  };
}

/** A line where the meter begins, and the word beside it, above the bars. */
function beganMarks(day: string, colour: string): Mark[] {
  const x = { scale: "x", value: day };
  return [
    {
      type: "rule",
      encode: {
        enter: {
          x,
          y: { value: -4 },
          y2: { signal: "height" },
          stroke: { value: colour },
          strokeDash: { value: [4, 4] },
        },
      },
    },
    {
      type: "text",
      encode: {
        enter: {
          x,
          dx: { signal: `scale('x', '${day}') > width / 2 ? -6 : 6` },
          align: { signal: `scale('x', '${day}') > width / 2 ? 'right' : 'left'` },
          y: { value: -6 },
          text: { value: `metered from ${day}` },
          fill: { value: colour },
          font: { value: FONT },
          fontSize: { value: 16 },
        },
      },
    },
  ];
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
