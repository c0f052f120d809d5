// Our few panel shapes. Each takes a question, for a panel without one answers nothing: it becomes the description,
// together with the unit and the kind of money. Ids and refIds are set here, because the SDK sets none.
import type { Builder } from "@grafana/grafana-foundation-sdk/cog";
import type { Panel as PanelModel, SpecialValueMap, ValueMap } from "@grafana/grafana-foundation-sdk/dashboard";
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
  TableCellHeight,
  TableSortByFieldStateBuilder,
  TooltipDisplayMode,
  VizLegendOptionsBuilder,
  VizTextDisplayOptionsBuilder,
  VizTooltipOptionsBuilder,
} from "@grafana/grafana-foundation-sdk/common";
import { PanelBuilder as BarGaugeBuilder } from "@grafana/grafana-foundation-sdk/bargauge";
import { DataqueryBuilder, PromQueryFormat } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TableBuilder } from "@grafana/grafana-foundation-sdk/table";
import { PanelBuilder as TimeseriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";
import { LocaleFormat, PercentUnit, Seconds, SiShort } from "@grafana/grafana-foundation-sdk/units";

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
  /** Why nothing stands there, when nothing does: a new installation, or nothing wrong. */
  readonly empty: string;
  /** What figures mean that are no quantity, such as 1 and 0. */
  readonly states?: { readonly [value: string]: { readonly text: string; readonly color: string } };
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
/** With every digit too: 17,204,311. The usual unit says 17 Mil. */
export const Count = LocaleFormat;
/** On axes, where it is the size that counts: 20 k, 17 M. */
export const Rounded = SiShort;
/** Of an instant in milliseconds. */
export const Day = "time:YYYY-MM-DD";
/** Days as days: the usual unit says 8.92 weeks. */
export const Days = "suffix: days";
/** Units in words. */
const UNITS: { readonly [unit: string]: string } = {
  [Dollars]: "US dollars",
  [PercentUnit]: "percent",
  [Seconds]: "seconds",
  [Day]: "a day",
  [Days]: "days",
  [Count]: "a number",
  [Rounded]: "a number",
};
/** Axes of money reach at least this far: below, their marks would differ by less than they can say. By decimals. */
const LEAST_AXIS: { readonly [decimals: number]: number } = { 2: 0.2, 4: 0.002 };
const NOTHING = "–";
/** What a cost of zero means for a model that was used. */
export const UNPRICED = { "0": "no price, or free" };

/** The words of a label that programs write with underscores: `cache_read` is "cache read". */
export function inWords(expr: string, label: string): string {
  const once = (inner: string): string => `label_replace(${inner}, "${label}", "$1 $2", "${label}", "([^_]+)_(.+)")`;
  return once(once(expr));
}

/** Budgets of a key by its name: their scope has its id. Those of keys that are not known stay as they are. */
export function byKeyName(expr: string): string {
  const named = `label_replace(${expr}, "id", "$1", "scope", "key ([^, ]+)") * on (id) group_left (name) keymeter_key_info`;
  return `label_replace(${named}, "scope", "key $1", "name", "(.+)") or on (budget) ${expr}`;
}

/** Spend of whole days, for history: `last_day` stands all day long, and is looked at in the middle of the day after,
 *  which is the same day in every zone from Hawaii to Auckland. Exact as of then; later corrections are in the report
 *  pages. */
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

/** How figures moved. `hourly`: a point at each full hour, where a history that was written by the hour has its points
 *  too. */
export function lines(shape: Shape & { readonly stacked?: boolean; readonly hourly?: boolean }): Placed {
  const panel = curves(shape).fillOpacity(shape.stacked ? 40 : 0);
  if (shape.hourly) panel.interval("1h");
  return shape.stacked ? panel.stacking(new StackingConfigBuilder().mode(StackingMode.Normal)) : panel;
}

/** A bar a day, of the last `days` days, whatever the dashboard's range. */
export function dayBars(shape: Shape & { readonly days: number }): Placed {
  return asBars(days(shape)).stacking(new StackingConfigBuilder().mode(StackingMode.Normal));
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

function asBars(panel: TimeseriesBuilder): TimeseriesBuilder {
  return panel.drawStyle(GraphDrawStyle.Bars).fillOpacity(80).lineWidth(0);
}

/** Figures that have their day as a label, such as those of a bill: a bar a day for the first query, a line through the
 *  days for the second. */
export function ofLabelledDays(shape: Shape & { readonly days: number }): Placed {
  const [, second] = shape.queries;
  return asBars(curves(shape, "table"))
    .timeFrom(`${shape.days}d`)
    .withTransformation({ id: "merge", options: {} })
    .withTransformation({ id: "organize", options: { excludeByName: HIDDEN, renameByName: valueNames(shape.queries) } })
    .withTransformation({
      id: "convertFieldType",
      options: { conversions: [{ targetField: "day", destinationType: "time", dateFormat: "YYYY-MM-DD" }], fields: {} },
    })
    .withTransformation({ id: "sortBy", options: { sort: [{ field: "day" }] } })
    .overrideByName(second?.legend ?? "", [
      { id: "custom.drawStyle", value: "line" },
      { id: "custom.lineWidth", value: 2 },
      { id: "custom.fillOpacity", value: 0 },
      { id: "custom.showPoints", value: "always" },
      { id: "custom.pointSize", value: 6 },
    ]);
}

function curves(shape: Shape, form: "range" | "table" = "range"): TimeseriesBuilder {
  const panel = base(new TimeseriesBuilder(), shape, form)
    .min(0)
    .colorScheme(PALETTE())
    .legend(LEGEND())
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi));
  if (shape.unit === Dollars) {
    const least = LEAST_AXIS[shape.decimals ?? -1];
    if (least === undefined) throw new Error(`${shape.title}: say how many decimals its money has`);
    panel.axisSoftMax(least);
  }
  // Marks that would need more decimals than are said have no words at all: of shares only 0 % and 100 % would be left.
  if (shape.unit === PercentUnit && shape.decimals !== undefined)
    throw new Error(`${shape.title}: an axis of shares chooses its decimals itself`);
  return panel;
}

type Column = {
  readonly title: string;
  readonly unit?: string;
  readonly decimals?: number;
  readonly link?: Link;
  /** In pixels, where its heading and its figures would be cut otherwise. Columns without one share what is left. */
  readonly width?: number;
  /** What stands where there is nothing. */
  readonly empty?: string;
  /** What stands for figures or words that say too little by themselves. */
  readonly words?: { readonly [raw: string]: string };
};
/** Where a cell leads: `${__value.raw}` is what stands in it. */
type Link = { readonly title: string; readonly url: string };

/** Rows: labels in the order of `labels`, then a column a query. Links of other cells than their own read
 *  `${__data.fields.<label>}`. */
export function table(
  shape: Shape & {
    readonly labels: { readonly [label: string]: Column };
    /** Of value columns, by legend, what is not the panel's. */
    readonly values?: { readonly [legend: string]: Omit<Column, "title"> };
    /** Labels that tell rows apart, and are not shown; and values that only say that there is a row. */
    readonly hidden?: readonly string[];
    readonly sortBy?: string;
    readonly ascending?: boolean;
  },
): Placed {
  const titles = Object.fromEntries(Object.entries(shape.labels).map(([label, { title }]) => [label, title]));
  const names = valueNames(shape.queries);
  const panel = base(new TableBuilder(), shape, "table")
    .minWidth(60)
    .cellHeight(TableCellHeight.Sm)
    .withTransformation({ id: "merge", options: {} })
    .withTransformation({
      id: "organize",
      options: {
        excludeByName: { ...HIDDEN, ...Object.fromEntries((shape.hidden ?? []).map((name) => [name, true])) },
        indexByName: Object.fromEntries(
          [...Object.keys(titles), ...Object.keys(names)].map((name, index) => [name, index]),
        ),
        renameByName: { ...titles, ...names },
      },
    });
  const [widest] = Object.values(titles);
  for (const column of Object.values(shape.labels))
    // A label is a word, whatever the panel's figures are. What a row is of is read first, and is the longest.
    override(panel, { unit: "string", empty: "(none)", ...column }, column.title === widest ? { minWidth: 140 } : {});
  for (const title of Object.values(names)) {
    const column = { title, unit: shape.unit, empty: NOTHING, ...shape.values?.[title] };
    override(panel, { width: widthOf(column), ...column }, {});
  }
  const [first] = Object.values(names);
  return panel.sortBy([
    new TableSortByFieldStateBuilder().displayName(shape.sortBy ?? first ?? "").desc(shape.ascending !== true),
  ]);
}

function override(
  panel: TableBuilder,
  { title, unit, decimals, link, width, empty, words }: Column,
  { minWidth }: { readonly minWidth?: number },
): void {
  const property = (id: string, value: unknown): { id: string; value: unknown }[] =>
    value === undefined ? [] : [{ id, value }];
  const special = (match: SpecialValueMatch): SpecialValueMap => ({
    type: MappingType.SpecialValue,
    options: { match, result: { text: empty ?? NOTHING } },
  });
  const mappings = [
    states(Object.fromEntries(Object.entries(words ?? {}).map(([raw, text]) => [raw, { text }]))),
    special(SpecialValueMatch.Empty),
    special(SpecialValueMatch.NullAndNan),
  ];
  panel.overrideByName(title, [
    ...property("unit", unit),
    ...property("decimals", decimals),
    ...property("links", link && [link]),
    ...property("custom.width", width),
    ...property("custom.minWidth", minWidth),
    // Else the panel's words, why it is empty, would stand in every cell without a figure.
    ...property("noValue", empty),
    ...property("mappings", mappings),
  ]);
}

function states(by: { readonly [value: string]: { readonly text: string; readonly color?: string } }): ValueMap {
  return {
    type: MappingType.ValueToText,
    options: Object.fromEntries(Object.entries(by).map(([value, state], index) => [value, { ...state, index }])),
  };
}

/** Room for a column's heading, with the arrow of a sorted one, and for its figures. */
function widthOf({ title, unit, words = {} }: Column): number {
  const longest = Math.max(title.length, ...Object.values(words).map((text) => text.length));
  return Math.max(unit === Dollars ? 115 : 85, Math.round(longest * 7.5) + 40);
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

type AnyPanelBuilder = StatBuilder | BarGaugeBuilder | TimeseriesBuilder | TableBuilder;

function base<B extends AnyPanelBuilder>(builder: B, shape: Shape, form: "now" | "range" | "table"): B {
  const unit = UNITS[shape.unit];
  if (unit === undefined) throw new Error(`${shape.title}: say the unit ${shape.unit} in words`);
  builder
    .title(shape.title)
    .description([shape.question, `Unit: ${unit}.`, MONEY[shape.money], shape.meaning].filter(Boolean).join(" "))
    .unit(shape.unit)
    .noValue(shape.empty)
    .span(shape.width)
    .height(shape.height)
    .datasource(DATASOURCE);
  if (shape.decimals !== undefined) builder.decimals(shape.decimals);
  if (form === "now")
    // Nothing, or a share of nothing, is neither good nor bad.
    builder.mappings([
      states(shape.states ?? {}),
      {
        type: MappingType.SpecialValue,
        options: { match: SpecialValueMatch.NullAndNan, result: { text: shape.empty, color: "text" } },
      },
    ]);
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
