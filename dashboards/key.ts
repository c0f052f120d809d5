// Key detail: one key. Whose it is, what it costs, whether that is usual for it, and on what.
import { DatetimeISO, Short } from "@grafana/grafana-foundation-sdk/units";
import { dashboard } from "./dashboard.ts";
import { dayBars, Dollars, lines, ofDays, stat, table } from "./panels.ts";

const KEY = 'scope="key", id="$key"';

export const key = dashboard({
  uid: "keymeter-key",
  title: "Key detail",
  from: "now-24h",
  variables: ["team", "key"],
  single: "key",
  page: "key?id=${key:percentencode}",
  sections: [
    {
      title: "Whose it is, and what it costs",
      panels: [
        table({
          title: "Whose it is",
          question: "Who answers for this key? Its id leads to its last requests, caps and alerts.",
          money: "none",
          unit: Short,
          width: 12,
          height: 5,
          labels: {
            name: { title: "Key" },
            team: {
              title: "Team",
              link: { title: "Report page", url: "${pages}/team?id=${__value.raw:percentencode}" },
            },
            project: { title: "Project" },
            env: { title: "Environment" },
            owner: { title: "Owner" },
            id: { title: "Id", link: { title: "Last requests", url: "${pages}/key?id=${__value.raw:percentencode}" } },
          },
          queries: [
            {
              expr: 'sum by (name, team, project, env, owner, id) (keymeter_key_info{id="$key"})',
              legend: "Known",
            },
          ],
        }),
        stat({
          title: "Today",
          question: "What has this key cost since midnight?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 4,
          height: 5,
          queries: [{ expr: `sum(keymeter_spend_usd{${KEY}, window="day"}) or vector(0)` }],
        }),
        stat({
          title: "This month",
          question: "What has this key cost this month?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 4,
          height: 5,
          queries: [{ expr: `sum(keymeter_spend_usd{${KEY}, window="month"}) or vector(0)` }],
        }),
        stat({
          title: "This month, expected",
          question: "What will its month cost?",
          money: "forecast",
          unit: Dollars,
          decimals: 2,
          width: 4,
          height: 5,
          queries: [{ expr: `sum(keymeter_landing_usd{${KEY}, window="month", quantile="0.5"})` }],
        }),
      ],
    },
    {
      title: "Is that usual?",
      panels: [
        lines({
          title: "Its day against its forecast",
          question: "Since when does it run away?",
          money: "metered",
          unit: Dollars,
          width: 12,
          height: 8,
          queries: [
            { expr: `keymeter_spend_usd{${KEY}, window="day"}`, legend: "spent" },
            { expr: `keymeter_forecast_so_far_usd{${KEY}, window="day"}`, legend: "expected by then" },
          ],
        }),
        lines({
          title: "Its hour against its line",
          question: "Is an hour dearer than is worth telling?",
          money: "metered",
          unit: Dollars,
          width: 12,
          height: 8,
          queries: [
            { expr: `keymeter_hour_usd{${KEY}}`, legend: "this hour so far" },
            { expr: `keymeter_hour_limit_usd{${KEY}}`, legend: "the line" },
          ],
        }),
        dayBars({
          title: "By day",
          question: "What did it cost each day?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 24,
          height: 7,
          days: 60,
          queries: [{ expr: ofDays(KEY), legend: "{{id}}" }],
        }),
      ],
    },
    {
      title: "On what",
      panels: [
        table({
          title: "Models",
          question: "On which models was it spent this month?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 8,
          labels: { model: { title: "Model" }, provider: { title: "Provider" } },
          values: { Requests: { unit: Short, decimals: 0 } },
          queries: [
            {
              expr: 'sum by (model, provider) (keymeter_breakdown_usd{window="month", key="$key"})',
              legend: "Cost",
            },
            {
              expr: 'sum by (model, provider) (keymeter_breakdown_requests{window="month", key="$key"})',
              legend: "Requests",
            },
          ],
        }),
        table({
          title: "Tokens this month",
          question: "How many tokens of each class?",
          money: "none",
          unit: Short,
          decimals: 0,
          width: 6,
          height: 8,
          labels: { class: { title: "Class" } },
          queries: [{ expr: `sum by (class) (keymeter_spend_tokens{${KEY}, window="month"})`, legend: "Tokens" }],
        }),
        table({
          title: "Replace its secret by",
          question: "When should this key's secret be replaced?",
          money: "none",
          unit: DatetimeISO,
          width: 6,
          height: 8,
          labels: { id: { title: "Id" } },
          queries: [
            {
              expr: `sum by (id) (keymeter_key_secret_due_timestamp_seconds{${KEY}}) * 1000`,
              legend: "By",
            },
          ],
        }),
      ],
    },
  ],
});
