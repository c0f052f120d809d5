// Our few panel shapes. Each takes a question, for a panel without one answers nothing: it becomes the description, together with the unit and
// the kind of money. Ids and refIds are set here, because the SDK sets none.
import type { Builder } from "@grafana/grafana-foundation-sdk/cog";
import type { Panel as PanelModel } from "@grafana/grafana-foundation-sdk/dashboard";
import {
  FieldColorBuilder,
  FieldColorModeId,
  MappingType,
  SpecialValueMatch,
  ThresholdsConfigBuilder,
  ThresholdsMode,
} from "@grafana/grafana-foundation-sdk/dashboard";
import {
  GraphDrawStyle,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  StackingConfigBuilder,
  StackingMode,
  TableSortByFieldStateBuilder,
  TooltipDisplayMode,
  VizLegendOptionsBuilder,
  VizTextDisplayOptionsBuilder,
  VizTooltipOptionsBuilder,
} from "@grafana/grafana-foundation-sdk/common";
import { PanelBuilder as BarChartBuilder } from "@grafana/grafana-foundation-sdk/barchart";
import { PanelBuilder as BarGaugeBuilder } from "@grafana/grafana-foundation-sdk/bargauge";
import { DataqueryBuilder, PromQueryFormat } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TableBuilder } from "@grafana/grafana-foundation-sdk/table";
import { PanelBuilder as TimeseriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";
import { DatetimeISO, PercentUnit, RequestsPerSecond, Seconds, Short } from "@grafana/grafana-foundation-sdk/units";

/** `metered`: from our own reading of answers. `billed`: the provider's word. `none`: no money. */
type MoneyKind = "metered" | "billed" | "forecast" | "landing" | "hypothetical" | "none";

/** One query: its expression, and the legend of its series (in tables: the column of its value). */
type Query = { readonly expr: string; readonly legend?: string };

export type Shape = {
  readonly title: string;
  readonly question: string;
  readonly money: MoneyKind;
  readonly unit: string;
  readonly queries: readonly Query[];
  readonly width: number;
  readonly height: number;
  /** Where green ends and where orange ends, and what that means, in words. */
  readonly limits?: readonly [orange: number, red: number];
  readonly meaning?: string;
  readonly decimals?: number;
};

export type Placed = Builder<PanelModel>;

export const DATASOURCE = { type: "prometheus", uid: "${datasource}" };
const MONEY: { readonly [kind in MoneyKind]: string } = {
  metered: "Metered money: counted here as it was used, from the ledger.",
  billed: "Billed money: what the provider states, beside what was metered.",
  forecast: "Forecast money: frozen at the window's start.",
  landing: "As it looks now: spent so far, and what is to come.",
  hypothetical: "Hypothetical money: never spent.",
  none: "No money.",
};
/** With every digit: the usual unit says $1.10K where an invoice says $1,100.00. */
export const Dollars = "currency:financial:$";
/** Units in words. */
const UNITS: { readonly [unit: string]: string } = {
  [Dollars]: "US dollars",
  [PercentUnit]: "percent",
  [RequestsPerSecond]: "requests a second",
  [Seconds]: "seconds",
  [DatetimeISO]: "an instant",
  [Short]: "a number",
};

/** Spend of whole days, for history: `last_day` stands all day long, and is looked at in the middle of the day after, which is the same
 *  day in every zone from Hawaii to Auckland. Exact as of then; later corrections are in the report pages. */
export function ofDays(selector: string, metric = "keymeter_spend_usd"): string {
  return `last_over_time(${metric}{${selector}, window="last_day"}[1h] offset -34h30m)`;
}

/** A figure as it is now. */
export function stat(shape: Shape): Placed {
  return base(new StatBuilder(), shape, "now").reduceOptions(LAST());
}

/** Shares side by side, with limits. */
export function bars(shape: Shape): Placed {
  const panel = base(new BarGaugeBuilder(), shape, "now");
  // A share is a share of a whole: without an end, Grafana takes the largest for one.
  if (shape.unit === PercentUnit) panel.max(1);
  return panel.min(0).reduceOptions(LAST()).text(new VizTextDisplayOptionsBuilder().titleSize(14).valueSize(18));
}

/** How figures moved. */
export function lines(shape: Shape & { readonly stacked?: boolean }): Placed {
  const panel = curves(shape).fillOpacity(shape.stacked ? 40 : 0);
  return shape.stacked ? panel.stacking(new StackingConfigBuilder().mode(StackingMode.Normal)) : panel;
}

/** A bar a day, of the last `days` days, whatever the dashboard's range. */
export function dayBars(shape: Shape & { readonly days: number }): Placed {
  return days(shape)
    .drawStyle(GraphDrawStyle.Bars)
    .fillOpacity(80)
    .lineWidth(0)
    .stacking(new StackingConfigBuilder().mode(StackingMode.Normal));
}

/** The same for figures that are no sum. */
export function dayLines(shape: Shape & { readonly days: number }): Placed {
  return days(shape);
}

function days(shape: Shape & { readonly days: number }): TimeseriesBuilder {
  return curves(shape)
    .interval("1d")
    .maxDataPoints(shape.days + 2)
    .timeFrom(`${shape.days}d`);
}

function curves(shape: Shape): TimeseriesBuilder {
  return base(new TimeseriesBuilder(), shape, "range")
    .min(0)
    .colorScheme(PALETTE())
    .legend(LEGEND())
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi));
}

/** Bars side by side for each value of a label. */
export function compared(shape: Shape & { readonly by: string }): Placed {
  return base(new BarChartBuilder(), shape, "table")
    .colorScheme(PALETTE())
    .legend(LEGEND())
    .xField(shape.by)
    .withTransformation({ id: "joinByField", options: { byField: shape.by, mode: "outer" } })
    .withTransformation({ id: "organize", options: { excludeByName: HIDDEN, renameByName: valueNames(shape.queries) } })
    .withTransformation({ id: "sortBy", options: { sort: [{ field: shape.by }] } });
}

type Column = { readonly title: string; readonly unit?: string; readonly decimals?: number; readonly link?: Link };
/** Where a cell leads: `${__value.raw}` is what stands in it. */
type Link = { readonly title: string; readonly url: string };

/** Rows: labels in the order of `labels`, then a column a query. Links of other cells than their own read `${__data.fields.<label>}`. */
export function table(
  shape: Shape & {
    readonly labels: { readonly [label: string]: Column };
    /** Units of value columns, by legend, where they are not the panel's. */
    readonly values?: { readonly [legend: string]: Omit<Column, "title"> };
    readonly sortBy?: string;
  },
): Placed {
  const titles = Object.fromEntries(Object.entries(shape.labels).map(([label, { title }]) => [label, title]));
  const names = valueNames(shape.queries);
  const panel = base(new TableBuilder(), shape, "table")
    .minWidth(60)
    .mappings([
      { type: MappingType.SpecialValue, options: { match: SpecialValueMatch.Empty, result: { text: "(none)" } } },
    ])
    .withTransformation({ id: "merge", options: {} })
    .withTransformation({
      id: "organize",
      options: {
        excludeByName: HIDDEN,
        indexByName: Object.fromEntries(
          [...Object.keys(titles), ...Object.keys(names)].map((name, index) => [name, index]),
        ),
        renameByName: { ...titles, ...names },
      },
    });
  const values = new Set(Object.values(names));
  const columns = [
    ...Object.values(shape.labels),
    ...Object.entries(shape.values ?? {}).map(([title, column]) => ({ title, ...column })),
  ];
  for (const [i, { title, unit, decimals, link }] of columns.entries()) {
    // A label is a word, whatever the panel's figures are.
    const own = unit ?? (values.has(title) ? undefined : "string");
    const properties = [
      ...(own === undefined ? [] : [{ id: "unit", value: own }]),
      ...(decimals === undefined ? [] : [{ id: "decimals", value: decimals }]),
      ...(link === undefined ? [] : [{ id: "links", value: [link] }]),
      // What a row is of is read first, and is the longest.
      ...(i === 0 ? [{ id: "custom.minWidth", value: 140 }] : []),
    ];
    if (properties.length > 0) panel.overrideByName(title, properties);
  }
  for (const title of Object.values(names))
    if (shape.values?.[title] === undefined) panel.overrideByName(title, [{ id: "unit", value: shape.unit }]);
  const [first] = Object.values(names);
  return panel.sortBy([new TableSortByFieldStateBuilder().displayName(shape.sortBy ?? first ?? "").desc(true)]);
}

const HIDDEN = { Time: true, __name__: true, instance: true, job: true };
/** Each series its own colour, and its name below. The SDK hides names unless it is told. */
const PALETTE = (): FieldColorBuilder => new FieldColorBuilder().mode(FieldColorModeId.PaletteClassic);
const LEGEND = (): VizLegendOptionsBuilder =>
  new VizLegendOptionsBuilder().showLegend(true).displayMode(LegendDisplayMode.List).placement(LegendPlacement.Bottom);
const LAST = (): ReduceDataOptionsBuilder => new ReduceDataOptionsBuilder().calcs(["lastNotNull"]);

/** What Grafana calls the values of queries in a table, and what we do. */
function valueNames(queries: readonly Query[]): { readonly [name: string]: string } {
  return Object.fromEntries(
    queries.map(({ legend }, i) => [queries.length === 1 ? "Value" : `Value #${refId(i)}`, legend ?? "Value"]),
  );
}

function refId(index: number): string {
  return String.fromCodePoint(65 + index);
}

type AnyPanelBuilder = StatBuilder | BarGaugeBuilder | BarChartBuilder | TimeseriesBuilder | TableBuilder;

function base<B extends AnyPanelBuilder>(builder: B, shape: Shape, form: "now" | "range" | "table"): B {
  const unit = UNITS[shape.unit];
  if (unit === undefined) throw new Error(`${shape.title}: say the unit ${shape.unit} in words`);
  builder
    .title(shape.title)
    .description([shape.question, `Unit: ${unit}.`, MONEY[shape.money], shape.meaning].filter(Boolean).join(" "))
    .unit(shape.unit)
    .span(shape.width)
    .height(shape.height)
    .datasource(DATASOURCE);
  if (shape.decimals !== undefined) builder.decimals(shape.decimals);
  if (shape.limits) {
    const [orange, red] = shape.limits;
    builder.thresholds(
      new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps([
        { value: null, color: "green" },
        { value: orange, color: "orange" },
        { value: red, color: "red" },
      ]),
    );
  } else {
    // Without limits a colour would say something that nobody means.
    builder.thresholds(
      new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps([{ value: null, color: "text" }]),
    );
  }
  shape.queries.forEach((query, i) => {
    const one = new DataqueryBuilder().refId(refId(i)).expr(query.expr).datasource(DATASOURCE);
    if (query.legend !== undefined) one.legendFormat(query.legend);
    if (form === "range") one.range();
    else one.instant().format(form === "table" ? PromQueryFormat.Table : PromQueryFormat.TimeSeries);
    builder.withTarget(one);
  });
  return builder;
}
