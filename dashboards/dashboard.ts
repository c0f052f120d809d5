// A dashboard of sections: variables, links and annotations are the same on all, as far as a dashboard can honour them.
import type { Dashboard } from "@grafana/grafana-foundation-sdk/dashboard";
import {
  AnnotationQueryBuilder,
  DashboardBuilder,
  DashboardLinkBuilder,
  DashboardLinkType,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  VariableHide,
  VariableRefresh,
} from "@grafana/grafana-foundation-sdk/dashboard";
import { DATASOURCE } from "./panels.ts";
import type { Placed } from "./panels.ts";

type Variable = "team" | "project" | "env" | "provider" | "model" | "key";
type Section = { readonly title: string; readonly panels: readonly Placed[] };
type Settings = {
  readonly uid: string;
  readonly title: string;
  readonly from: string;
  /** Those that every panel, or the panels that say so, go by. */
  readonly variables: readonly Variable[];
  /** Of which one value is looked at. */
  readonly single?: Variable;
  /** The report page that goes further. */
  readonly page: string;
  readonly sections: readonly Section[];
};

/** The selector of all variables, on spend by all of its parts. */
export const CHOSEN =
  'team=~"$team", project=~"$project", env=~"$env", provider=~"$provider", model=~"$model", key=~"$key"';

const LABELS: { readonly [variable in Variable]: string } = {
  team: "Team",
  project: "Project",
  env: "Environment",
  provider: "Provider",
  model: "Model",
  key: "Key",
};
/** What happened, drawn on every time axis. Instants come as values, in milliseconds. */
const ANNOTATIONS = [
  {
    name: "Alerts",
    color: "red",
    expr: 'ALERTS{alertname=~"Keymeter.+", alertstate="firing", severity!="none"}',
    title: "{{alertname}}",
    text: "{{team}} {{id}} {{provider}}",
  },
  {
    name: "Caps refuse",
    color: "orange",
    expr: "sum by (scope, window) (keymeter_budget_refused_requests) > 0",
    title: "A cap refuses",
    text: "{{scope}}, {{window}}",
  },
  {
    name: "Price changes",
    color: "purple",
    expr: "keymeter_price_list_timestamp_seconds * 1000",
    title: "A new price list",
    text: "",
    isInstant: true,
  },
  {
    name: "Closed days",
    color: "blue",
    expr: "keymeter_day_closed_timestamp_seconds * 1000",
    title: "Signed off",
    text: "{{provider}}, {{day}}",
    isInstant: true,
  },
] as const;

export function dashboard({ uid, title, from, variables, single, page, sections }: Settings): Dashboard {
  const builder = new DashboardBuilder(`Keymeter / ${title}`)
    .uid(uid)
    .tags(["keymeter"])
    .time({ from, to: "now" })
    // Days of history are drawn at midnight UTC, whichever zone they belong to.
    .timezone("utc")
    .refresh("1m")
    .readonly()
    .weekStart("monday")
    .withVariable(new DatasourceVariableBuilder("datasource").label("Data source").type("prometheus"))
    .withVariable(
      new QueryVariableBuilder("pages")
        .label("Report pages")
        .hide(VariableHide.HideVariable)
        .datasource(DATASOURCE)
        .query("label_values(keymeter_pages_info, url)")
        .refresh(VariableRefresh.OnTimeRangeChanged),
    )
    .link(
      new DashboardLinkBuilder("Keymeter")
        .type(DashboardLinkType.Dashboards)
        .tags(["keymeter"])
        .asDropdown(true)
        .includeVars(true)
        .keepTime(true),
    )
    .link(
      new DashboardLinkBuilder("Report page")
        .type(DashboardLinkType.Link)
        .tooltip("Single rows, downloads, and what prints")
        .icon("external link")
        .targetBlank(true)
        .url(`\${pages}/${page}`),
    );
  for (const name of variables) builder.withVariable(variable(name, name === single));
  for (const { name, color, expr, title: words, text, ...rest } of ANNOTATIONS)
    builder.annotation(
      new AnnotationQueryBuilder()
        .name(name)
        .datasource(DATASOURCE)
        .enable(true)
        .iconColor(color)
        .expr(expr)
        .step("60s")
        .titleFormat(words)
        .textFormat(text)
        .useValueForTime("isInstant" in rest),
    );
  for (const section of sections) {
    builder.withRow(new RowBuilder(section.title));
    for (const panel of section.panels) builder.withPanel(panel);
  }
  const built = builder.build();
  let id = 0;
  for (const panel of built.panels ?? []) panel.id = ++id;
  // The SDK hides links and annotations in the controls menu of new Grafana versions.
  for (const one of [...(built.links ?? []), ...(built.annotations?.list ?? [])])
    delete (one as { placement?: unknown }).placement;
  // And writes down what is no field of these: how an interval is chosen, of variables that are none, and a footer that
  // tables have no more.
  for (const one of built.templating?.list ?? [])
    for (const name of ["auto", "auto_min", "auto_count"] as const) delete one[name];
  for (const panel of built.panels ?? []) delete (panel as { options?: { footer?: unknown } }).options?.footer;
  return built;
}

function variable(name: Variable, isSingle: boolean): QueryVariableBuilder {
  const builder = new QueryVariableBuilder(name)
    .label(LABELS[name])
    .datasource(DATASOURCE)
    .refresh(VariableRefresh.OnTimeRangeChanged);
  // Keys have names for people and ids for queries.
  if (name === "key")
    builder
      .query('query_result(keymeter_key_info{team=~"$team"})')
      .regex('/id="(?<value>[^"]+)".*name="(?<text>[^"]+)"/');
  else builder.query(`label_values(keymeter_breakdown_usd{window="month"}, ${name})`);
  return isSingle ? builder : builder.multi(true).includeAll(true).allValue(".*");
}
