// Draws a dashboard's panels with Grafana's own components, from answers of Prometheus. What Grafana does around them is repeated here in small:
// frames, transformations, field options.
import {
  applyFieldOverrides,
  createTheme,
  dateTime,
  displayNameOverrideProcessor,
  FieldType,
  getDisplayProcessor,
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
import type { ReactNode } from "react";
import { createRoot } from "react-dom/client";
import { lastValueFrom } from "rxjs";

type Answer = {
  readonly refId: string;
  readonly legend: string;
  readonly format: string;
  readonly series: readonly { readonly metric: Record<string, string>; readonly values: readonly [number, string][] }[];
};
export type Drawing = {
  readonly panel: any;
  readonly answers: readonly Answer[];
  readonly fromMs: number;
  readonly untilMs: number;
};

const COLUMN = 60;
const ROW = 38;
const WIDTH = 24 * COLUMN;

standardTransformersRegistry.setInit(
  () =>
    // Two names of one transformer are one entry.
    [...new Map(Object.values(standardTransformers).map((info: any) => [info.id, info])).values()].map((info: any) => ({
      id: info.id,
      name: info.name,
      aliasIds: info.aliasIds,
      transformation: async () => info,
      editor: () => null,
    })) as any,
);

const option = (id: string, process: any, isCustom = false): any => ({
  id: isCustom ? `custom.${id}` : id,
  path: id,
  name: id,
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

/** "{{team}} ({{kind}})" with a series' labels. */
function named(legend: string, metric: Record<string, string>): string {
  return legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (_whole, label: string) => metric[label] ?? "");
}

function framesOf({ refId, legend, format, series }: Answer, isAlone: boolean): any[] {
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
  return series.map(({ metric, values }) =>
    toDataFrame({
      refId,
      fields: [
        {
          name: "Time",
          type: FieldType.time,
          values: values.map(([at]) => at * 1000),
          config: { interval: values.length > 1 ? (values[1]![0] - values[0]![0]) * 1000 : 60_000 },
        },
        {
          name: "Value",
          type: FieldType.number,
          labels: metric,
          values: values.map(([, value]) => Number(value)),
          config: legend === "" || legend === "__auto" ? {} : { displayNameFromDS: named(legend, metric) },
        },
      ],
    }),
  );
}

const theme = createTheme({ colors: { mode: location.hash === "#dark" ? "dark" : "light" } });

async function prepare({ panel, answers }: Drawing): Promise<any[]> {
  const frames = answers.flatMap((answer) => framesOf(answer, answers.length === 1));
  const transformed = await lastValueFrom(transformDataFrame(panel.transformations ?? [], frames));
  const ready = applyFieldOverrides({
    data: transformed,
    fieldConfig: { defaults: {}, overrides: [], ...panel.fieldConfig },
    fieldConfigRegistry: OPTIONS,
    replaceVariables: (words: string) => words,
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

function Shown({
  drawing,
  frames,
  width,
  height,
}: {
  drawing: Drawing;
  frames: any[];
  width: number;
  height: number;
}): ReactNode {
  const { panel, fromMs, untilMs } = drawing;
  const { options } = panel;
  if (frames.length === 0 || frames.every((frame) => frame.length === 0)) return <p className="empty">No data</p>;
  const displayed = (): any[] =>
    getFieldDisplayValues({
      fieldConfig: { defaults: {}, overrides: [], ...panel.fieldConfig },
      reduceOptions: { calcs: ["lastNotNull"], values: false, ...options.reduceOptions },
      replaceVariables: (words: string) => words,
      theme,
      data: frames,
      sparkline: false,
      timeZone: "utc",
    });
  switch (panel.type) {
    case "stat":
      return (
        <VizRepeater
          source={frames}
          getValues={displayed}
          width={width}
          height={height}
          orientation={"auto" as any}
          renderCounter={0}
          renderValue={({ value, width: own, height: tall }: any) => (
            <BigValue
              value={value.display}
              width={own}
              height={tall}
              theme={theme}
              colorMode={options.colorMode}
              graphMode={"none" as any}
              justifyMode={options.justifyMode}
              textMode={options.textMode}
              count={displayed().length}
            />
          )}
        />
      );
    case "bargauge":
      return (
        <VizRepeater
          source={frames}
          getValues={displayed}
          width={width}
          height={height}
          orientation={"horizontal" as any}
          minVizHeight={16}
          minVizWidth={8}
          itemSpacing={8}
          renderCounter={0}
          renderValue={({ value, width: own, height: tall, orientation }: any) => (
            <BarGauge
              value={value.display}
              field={value.field}
              display={value.view?.getFieldDisplayProcessor(value.colIndex)}
              width={own}
              height={tall}
              orientation={orientation}
              theme={theme}
              itemSpacing={8}
              displayMode={options.displayMode}
              showUnfilled={options.showUnfilled}
              valueDisplayMode={options.valueMode}
              text={options.text}
            />
          )}
        />
      );
    case "timeseries":
      return (
        <TimeSeries
          frames={frames}
          width={width}
          height={height}
          timeZone="utc"
          timeRange={{
            from: dateTime(fromMs),
            to: dateTime(untilMs),
            raw: { from: dateTime(fromMs), to: dateTime(untilMs) },
          }}
          legend={{ calcs: [], displayMode: "list", placement: "bottom", showLegend: true, ...options.legend } as any}
        />
      );
    // Bars beside each other are no component of the library: their figures stand in its table.
    case "barchart":
    case "table":
      return <Table data={frames[0]} width={width} height={height} initialSortBy={options.sortBy} />;
    default:
      return <p className="trouble">{`no component for ${panel.type}`}</p>;
  }
}

async function draw(title: string, drawings: readonly Drawing[]): Promise<void> {
  const shown = await Promise.all(
    drawings.map(async (drawing) => ({ drawing, frames: drawing.panel.type === "row" ? [] : await prepare(drawing) })),
  );
  const bottom = Math.max(...drawings.map(({ panel }) => panel.gridPos.y + panel.gridPos.h));
  createRoot(document.getElementById("root")!).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <style>{`body { margin: 0; background: ${theme.colors.background.canvas} } h1 { font-size: 20px; margin: 12px } h2 { font-size: 15px; margin: 10px 0 0 }`}</style>
      <h1>{title}</h1>
      <div style={{ position: "relative", width: WIDTH, height: bottom * ROW }}>
        {shown.map(({ drawing, frames }) => {
          const { x, y, w, h } = drawing.panel.gridPos;
          const box = { position: "absolute", left: x * COLUMN + 4, top: y * ROW + 2 } as const;
          if (drawing.panel.type === "row")
            return (
              <h2 key={drawing.panel.id} style={box}>
                {drawing.panel.title}
              </h2>
            );
          return (
            <div key={drawing.panel.id} data-panel={drawing.panel.title} style={box}>
              <PanelChrome
                title={drawing.panel.title}
                description={drawing.panel.description}
                width={w * COLUMN - 8}
                height={h * ROW - 6}
              >
                {(width: number, height: number) => (
                  <Guard>
                    <Shown drawing={drawing} frames={frames} width={width} height={height} />
                  </Guard>
                )}
              </PanelChrome>
            </div>
          );
        })}
      </div>
    </ThemeContext.Provider>,
  );
}

(window as any).draw = draw;
