// Our few panel shapes. Each takes a question, for a panel without one answers nothing: it becomes the description, together
// with the kind of money. Ids and refIds are set here, because the SDK sets none.
import type { Builder } from "@grafana/grafana-foundation-sdk/cog";
import type { Dashboard, Panel as PanelModel } from "@grafana/grafana-foundation-sdk/dashboard";
import {
  DashboardBuilder,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  ThresholdsConfigBuilder,
  ThresholdsMode,
  VariableRefresh,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { ReduceDataOptionsBuilder, StackingConfigBuilder, StackingMode } from "@grafana/grafana-foundation-sdk/common";
import { PanelBuilder as BarGaugeBuilder } from "@grafana/grafana-foundation-sdk/bargauge";
import { DataqueryBuilder, PromQueryFormat } from "@grafana/grafana-foundation-sdk/prometheus";
import { PanelBuilder as StatBuilder } from "@grafana/grafana-foundation-sdk/stat";
import { PanelBuilder as TableBuilder } from "@grafana/grafana-foundation-sdk/table";
import { PanelBuilder as TimeseriesBuilder } from "@grafana/grafana-foundation-sdk/timeseries";

/** `metered`: from our own reading of answers. `billed`: the provider's word. `none`: no money. */
type MoneyKind = "metered" | "billed" | "forecast" | "none";

/** One query: its expression, and the legend of its series. */
type Query = { readonly expr: string; readonly legend?: string };

type Shape = {
  readonly title: string;
  readonly question: string;
  readonly money: MoneyKind;
  readonly unit: string;
  readonly queries: readonly Query[];
  readonly width: number;
  readonly height: number;
  /** Where green ends and where orange ends. */
  readonly limits?: readonly [orange: number, red: number];
  readonly decimals?: number;
};

type Placed = Builder<PanelModel>;

const DATASOURCE = { type: "prometheus", uid: "${datasource}" };
const MONEY: { readonly [kind in MoneyKind]: string } = {
  metered: "Metered money: what we expect to owe, from the ledger.",
  billed: "Billed money: what the provider states.",
  forecast: "Forecast money: frozen at the window's start.",
  none: "",
};

/** A figure as it is now. */
export function stat(shape: Shape): Placed {
  return base(new StatBuilder(), shape, true).reduceOptions(new ReduceDataOptionsBuilder().calcs(["lastNotNull"]));
}

/** Shares side by side, with limits. */
export function bars(shape: Shape): Placed {
  return base(new BarGaugeBuilder(), shape, true)
    .min(0)
    .reduceOptions(new ReduceDataOptionsBuilder().calcs(["lastNotNull"]));
}

/** How figures moved. */
export function lines(shape: Shape & { readonly stacked?: boolean }): Placed {
  const panel = base(new TimeseriesBuilder(), shape, false)
    .fillOpacity(shape.stacked ? 40 : 0)
    .min(0);
  return shape.stacked ? panel.stacking(new StackingConfigBuilder().mode(StackingMode.Normal)) : panel;
}

/** Rows, the largest first. */
export function table(shape: Shape): Placed {
  return base(new TableBuilder(), shape, true)
    .overrideByName("Value", [{ id: "unit", value: shape.unit }])
    .withTransformation({
      id: "organize",
      options: { excludeByName: { Time: true, __name__: true, instance: true, job: true } },
    });
}

type Section = { readonly title: string; readonly panels: readonly Placed[] };

/** A dashboard of sections, with the data source and the team as variables. */
export function dashboard(uid: string, title: string, from: string, sections: readonly Section[]): Dashboard {
  const builder = new DashboardBuilder(title)
    .uid(uid)
    .tags(["keymeter"])
    .time({ from, to: "now" })
    .timezone("browser")
    .refresh("1m")
    .readonly()
    .withVariable(new DatasourceVariableBuilder("datasource").label("Data source").type("prometheus"))
    .withVariable(
      new QueryVariableBuilder("team")
        .label("Team")
        .datasource(DATASOURCE)
        .multi(true)
        .includeAll(true)
        .allValue(".*")
        .query('label_values(keymeter_spend_usd{scope="team"}, id)')
        .refresh(VariableRefresh.OnTimeRangeChanged),
    )
    .link(
      new DashboardLinkBuilder("Keymeter")
        .type(DashboardLinkType.Dashboards)
        .tags(["keymeter"])
        .asDropdown(true)
        .keepTime(true),
    );
  for (const section of sections) {
    builder.withRow(new RowBuilder(section.title));
    for (const panel of section.panels) builder.withPanel(panel);
  }
  const built = builder.build();
  let id = 0;
  for (const panel of built.panels ?? []) panel.id = ++id;
  // The SDK hides links in the controls menu of new Grafana versions.
  for (const link of built.links ?? []) delete (link as { placement?: unknown }).placement;
  return built;
}

type AnyPanelBuilder = StatBuilder | BarGaugeBuilder | TimeseriesBuilder | TableBuilder;

function base<B extends AnyPanelBuilder>(builder: B, shape: Shape, instant: boolean): B {
  builder
    .title(shape.title)
    .description([shape.question, MONEY[shape.money]].filter((part) => part !== "").join(" "))
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
  }
  shape.queries.forEach((query, i) => {
    const one = new DataqueryBuilder()
      .refId(String.fromCodePoint(65 + i))
      .expr(query.expr)
      .datasource(DATASOURCE);
    if (query.legend !== undefined) one.legendFormat(query.legend);
    builder.withTarget(
      instant
        ? one.instant().format(builder instanceof TableBuilder ? PromQueryFormat.Table : PromQueryFormat.TimeSeries)
        : one.range(),
    );
  });
  return builder;
}
