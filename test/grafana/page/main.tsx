// Draws a dashboard's panels with Grafana's own components, from answers of Prometheus. What Grafana does around them is repeated here in small:
// frames, transformations, field options.
import {
  applyFieldOverrides,
  createTheme,
  dateTime,
  displayNameOverrideProcessor,
  FieldType,
  getDisplayProcessor,
  getDisplayValueAlignmentFactors,
  getFieldDisplayValues,
  identityOverrideProcessor,
  numberOverrideProcessor,
  standardTransformers,
  standardTransformersRegistry,
  thresholdsOverrideProcessor,
  toDataFrame,
  transformDataFrame,
  unitOverrideProcessor,
  valueMappingsOverrideProcessor,
  FieldConfigOptionsRegistry,
} from "@grafana/data";
import type {
  DataFrame,
  DataTransformerConfig,
  DataTransformerInfo,
  FieldConfigPropertyItem,
  FieldConfigSource,
  FieldDisplay,
  ReduceDataOptions,
} from "@grafana/data";
import {
  BarGauge,
  BigValue,
  GlobalStyles,
  PanelChrome,
  Table,
  ThemeContext,
  TimeSeries,
  VizRepeater,
} from "@grafana/ui";
import { Component } from "react";
import type { ComponentProps, ReactElement, ReactNode } from "react";
import { BigValueGraphMode, LegendDisplayMode, VizOrientation } from "@grafana/schema";
import type { VizLegendOptions } from "@grafana/schema";
// Grafana's own face: what fits in another may not fit in it.
import "@fontsource/inter/400.css";
import "@fontsource/inter/500.css";
import { createRoot } from "react-dom/client";
import { lastValueFrom } from "rxjs";

type Answer = {
  readonly refId: string;
  readonly legend: string;
  readonly format: string;
  readonly series: readonly { readonly metric: Record<string, string>; readonly values: readonly [number, string][] }[];
};
type Panel = {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly transformations?: DataTransformerConfig[];
  readonly fieldConfig?: Partial<FieldConfigSource>;
  readonly options: Pick<ComponentProps<typeof BigValue>, "colorMode" | "justifyMode" | "textMode"> &
    Pick<ComponentProps<typeof BarGauge>, "displayMode" | "showUnfilled" | "text"> & {
      readonly valueMode: ComponentProps<typeof BarGauge>["valueDisplayMode"];
      readonly reduceOptions?: Partial<ReduceDataOptions>;
      readonly legend?: Partial<VizLegendOptions>;
      readonly sortBy?: ComponentProps<typeof Table>["initialSortBy"];
    };
};
type Drawing = {
  readonly panel: Panel;
  readonly answers: readonly Answer[];
  readonly fromMs: number;
  readonly untilMs: number;
};

const COLUMN = 60;
const ROW = 38;
const WIDTH = 24 * COLUMN;
const LEGEND: VizLegendOptions = {
  calcs: [],
  displayMode: LegendDisplayMode.List,
  placement: "bottom",
  showLegend: true,
};

// Two names of one transformer are one entry.
const TRANSFORMERS = new Map(
  (Object.values(standardTransformers) as DataTransformerInfo[]).map((info) => [info.id, info]),
);
standardTransformersRegistry.setInit(() =>
  [...TRANSFORMERS.values()].map((info) => ({
    id: info.id,
    name: info.name,
    editor: () => null,
    imageDark: "",
    imageLight: "",
    transformation: async () => info,
  })),
);

const option = (
  path: string,
  process: FieldConfigPropertyItem["process"],
  isCustom = false,
): FieldConfigPropertyItem => ({
  id: isCustom ? `custom.${path}` : path,
  path,
  name: path,
  isCustom,
  editor: () => null,
  override: () => null,
  process,
  shouldApply: () => true,
  settings: {},
});
const CUSTOM = [
  "drawStyle",
  "fillOpacity",
  "lineWidth",
  "lineStyle",
  "stacking",
  "showPoints",
  "pointSize",
  "axisSoftMax",
  "align",
  "width",
  "minWidth",
  "inspect",
  "cellOptions",
  "hidden",
  "spanNulls",
];
const OPTIONS = new FieldConfigOptionsRegistry(() => [
  option("unit", unitOverrideProcessor),
  option("decimals", numberOverrideProcessor),
  option("min", numberOverrideProcessor),
  option("max", numberOverrideProcessor),
  option("displayName", displayNameOverrideProcessor),
  option("thresholds", thresholdsOverrideProcessor),
  option("mappings", valueMappingsOverrideProcessor),
  option("color", identityOverrideProcessor),
  option("noValue", identityOverrideProcessor),
  option("links", identityOverrideProcessor),
  ...CUSTOM.map((name) => option(name, identityOverrideProcessor, true)),
]);

const theme = createTheme({ colors: { mode: location.hash === "#dark" ? "dark" : "light" } });
const asIs = (words: string): string => words;
const fieldsOf = ({ fieldConfig }: Panel): FieldConfigSource => ({ defaults: {}, overrides: [], ...fieldConfig });

/** "{{team}} ({{kind}})" with a series' labels. */
function named(legend: string, metric: Record<string, string>): string {
  return legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (_whole, label: string) => metric[label] ?? "");
}

function framesOf({ refId, legend, format, series }: Answer, isAlone: boolean): DataFrame[] {
  if (format === "table") {
    const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))]
      .filter((name) => name !== "__name__")
      .toSorted();
    const rows = series.flatMap(({ metric, values }) => values.slice(-1).map(([at, value]) => ({ metric, at, value })));
    return [
      toDataFrame({
        refId,
        fields: [
          { name: "Time", type: FieldType.time, values: rows.map(({ at }) => at * 1000) },
          ...labels.map((name) => ({
            name,
            type: FieldType.string,
            values: rows.map(({ metric }) => metric[name] ?? ""),
          })),
          {
            name: isAlone ? "Value" : `Value #${refId}`,
            type: FieldType.number,
            values: rows.map(({ value }) => Number(value)),
          },
        ],
      }),
    ];
  }
  return series.map(({ metric, values }) => {
    const [first, second] = values;
    const interval = first && second ? (second[0] - first[0]) * 1000 : 60_000;
    return toDataFrame({
      refId,
      fields: [
        { name: "Time", type: FieldType.time, values: values.map(([at]) => at * 1000), config: { interval } },
        {
          name: "Value",
          type: FieldType.number,
          labels: metric,
          values: values.map(([, value]) => Number(value)),
          config: legend === "" ? {} : { displayNameFromDS: named(legend, metric) },
        },
      ],
    });
  });
}

async function prepare({ panel, answers }: Drawing): Promise<DataFrame[]> {
  if (panel.type === "row") return [];
  const frames = answers.flatMap((answer) => framesOf(answer, answers.length === 1));
  const transformed = await lastValueFrom(transformDataFrame(panel.transformations ?? [], frames));
  const ready = applyFieldOverrides({
    data: transformed,
    fieldConfig: fieldsOf(panel),
    fieldConfigRegistry: OPTIONS,
    replaceVariables: asIs,
    theme,
    timeZone: "utc",
  });
  for (const frame of ready)
    for (const field of frame.fields) field.display = getDisplayProcessor({ field, theme, timeZone: "utc" });
  return ready;
}

class Guard extends Component<{ readonly children: ReactNode }, { readonly trouble?: string }> {
  override state: { readonly trouble?: string } = {};
  static getDerivedStateFromError(error: Error): { trouble: string } {
    return { trouble: error.message };
  }
  override render(): ReactNode {
    return this.state.trouble === undefined ? this.props.children : <p className="trouble">{this.state.trouble}</p>;
  }
}

type ShownProps = {
  readonly drawing: Drawing;
  readonly frames: DataFrame[];
  readonly width: number;
  readonly height: number;
};
type One = { readonly value: FieldDisplay; readonly width: number; readonly height: number };

function Shown({ drawing, frames, width, height }: ShownProps): ReactNode {
  const { panel, fromMs, untilMs } = drawing;
  const { options } = panel;
  const [first] = frames;
  const isEmpty = !first || frames.every((frame) => frame.length === 0);
  // A figure's or a bar's panel draws its words itself, as large as they fit.
  if (isEmpty && panel.type !== "stat" && panel.type !== "bargauge")
    return <p className="empty">{fieldsOf(panel).defaults.noValue ?? "No data"}</p>;
  const displayed = (): FieldDisplay[] =>
    getFieldDisplayValues({
      fieldConfig: fieldsOf(panel),
      reduceOptions: { calcs: ["lastNotNull"], values: false, ...options.reduceOptions },
      replaceVariables: asIs,
      theme,
      data: frames,
      sparkline: false,
      timeZone: "utc",
    });
  const each = (orientation: VizOrientation, renderValue: (one: One) => ReactElement): ReactNode => (
    <VizRepeater
      source={frames}
      getValues={displayed}
      width={width}
      height={height}
      orientation={orientation}
      minVizHeight={16}
      minVizWidth={8}
      itemSpacing={8}
      renderCounter={0}
      renderValue={renderValue}
    />
  );
  switch (panel.type) {
    case "stat":
      return each(VizOrientation.Auto, ({ value, width: own, height: tall }) => (
        <BigValue
          value={value.display}
          count={displayed().length}
          width={own}
          height={tall}
          theme={theme}
          colorMode={options.colorMode}
          graphMode={BigValueGraphMode.None}
          justifyMode={options.justifyMode}
          textMode={options.textMode}
        />
      ));
    case "bargauge":
      return each(VizOrientation.Horizontal, ({ value, width: own, height: tall }) => (
        <BarGauge
          value={value.display}
          field={value.field}
          alignmentFactors={getDisplayValueAlignmentFactors(displayed())}
          display={value.view?.getFieldDisplayProcessor(value.colIndex ?? 0)}
          width={own}
          height={tall}
          orientation={VizOrientation.Horizontal}
          theme={theme}
          itemSpacing={8}
          displayMode={options.displayMode}
          showUnfilled={options.showUnfilled}
          valueDisplayMode={options.valueMode}
          text={options.text}
        />
      ));
    case "timeseries": {
      const [from, to] = [dateTime(fromMs), dateTime(untilMs)];
      return (
        <TimeSeries
          frames={frames}
          width={width}
          height={height}
          timeZone="utc"
          timeRange={{ from, to, raw: { from, to } }}
          legend={{ ...LEGEND, ...options.legend }}
        />
      );
    }
    case "table":
      return first && <Table data={first} width={width} height={height} initialSortBy={options.sortBy} />;
    default:
      return <p className="trouble">{`no component for ${panel.type}`}</p>;
  }
}

function Placed({ drawing, frames }: Pick<ShownProps, "drawing" | "frames">): ReactNode {
  const { type, title, description, gridPos } = drawing.panel;
  const place = { position: "absolute", left: gridPos.x * COLUMN + 4, top: gridPos.y * ROW + 2 } as const;
  if (type === "row") return <h2 style={place}>{title}</h2>;
  return (
    <div data-panel={title} style={place}>
      <PanelChrome
        title={title}
        description={description ?? ""}
        width={gridPos.w * COLUMN - 8}
        height={gridPos.h * ROW - 6}
      >
        {(width: number, height: number) => (
          <Guard>
            <Shown drawing={drawing} frames={frames} width={width} height={height} />
          </Guard>
        )}
      </PanelChrome>
    </div>
  );
}

async function draw(title: string, drawings: readonly Drawing[]): Promise<void> {
  await Promise.all([400, 500].map((weight) => document.fonts.load(`${weight} 14px Inter`)));
  const ready = await Promise.all(drawings.map(async (drawing) => ({ drawing, frames: await prepare(drawing) })));
  const bottom = Math.max(...drawings.map(({ panel: { gridPos } }) => gridPos.y + gridPos.h));
  const root = document.getElementById("root");
  if (!root) throw new Error("the page has no root");
  createRoot(root).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <style>{`body { margin: 0; background: ${theme.colors.background.canvas} } h1 { font-size: 20px; margin: 12px } h2 { font-size: 15px; margin: 10px 0 0 } .empty { height: 100%; margin: 0; display: flex; align-items: center; justify-content: center; text-align: center }`}</style>
      <h1>{title}</h1>
      <div style={{ position: "relative", width: WIDTH, height: bottom * ROW }}>
        {ready.map((one) => (
          <Placed key={one.drawing.panel.id} {...one} />
        ))}
      </div>
    </ThemeContext.Provider>,
  );
}

/** Words of headings and cells that reach out of theirs, and tables that are wider than their panel. */
function cutWords(panel: Element): string[] {
  const cut: string[] = [];
  for (const grid of panel.querySelectorAll('[role="grid"], [role="table"]'))
    if (grid.scrollWidth > grid.clientWidth + 1) cut.push(`${grid.scrollWidth} px in ${grid.clientWidth}`);
  for (const cell of panel.querySelectorAll('[role="columnheader"], [role="gridcell"], [role="cell"]')) {
    const { left, right } = cell.getBoundingClientRect();
    const words = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    for (let word = words.nextNode(); word; word = words.nextNode()) {
      const range = document.createRange();
      range.selectNodeContents(word);
      const box = range.getBoundingClientRect();
      if (box.left < left + 2 || box.right > right - 2) cut.push(word.textContent ?? "");
    }
  }
  return cut;
}

Object.assign(globalThis, { draw, cutWords });
