// Finance overview: what was spent today and this month, where it lands, what is left, and by whom.
import { Dollars, PercentUnit } from "@grafana/grafana-foundation-sdk/units";
import { bars, dashboard, lines, stat, table } from "./panels.ts";

const TEAM = 'id=~"$team"';

export const finance = dashboard("keymeter-finance", "Keymeter / Finance overview", "now-7d", [
  {
    title: "Now",
    panels: [
      stat({
        title: "Spend today",
        question: "What have we spent since midnight?",
        money: "metered",
        unit: Dollars,
        decimals: 2,
        width: 6,
        height: 4,
        queries: [{ expr: 'keymeter_spend_usd{scope="org", window="day"}' }],
      }),
      stat({
        title: "Spend this month",
        question: "What have we spent this month?",
        money: "metered",
        unit: Dollars,
        decimals: 2,
        width: 6,
        height: 4,
        queries: [{ expr: 'keymeter_spend_usd{scope="org", window="month"}' }],
      }),
      stat({
        title: "Month-end forecast",
        question: "Where will the month end, and within which band with 80 % probability?",
        money: "forecast",
        unit: Dollars,
        decimals: 0,
        width: 6,
        height: 4,
        queries: [
          { expr: 'keymeter_forecast_usd{scope="org", window="month", quantile="0.1"}', legend: "at least" },
          { expr: 'keymeter_forecast_usd{scope="org", window="month", quantile="0.5"}', legend: "expected" },
          { expr: 'keymeter_forecast_usd{scope="org", window="month", quantile="0.9"}', legend: "at most" },
        ],
      }),
      stat({
        title: "Ahead of today's forecast",
        question:
          "How much more than the whole day's forecast will today cost, as a share of it? An alert fires above 20 %.",
        money: "forecast",
        unit: PercentUnit,
        decimals: 0,
        limits: [0.1, 0.2],
        width: 6,
        height: 4,
        queries: [
          {
            expr: 'keymeter_over_forecast_usd{scope="org", window="day"} / on (scope, id, window) keymeter_forecast_usd{quantile="0.5"}',
          },
        ],
      }),
    ],
  },
  {
    title: "Budgets",
    panels: [
      bars({
        title: "Budget used",
        question: "Which budgets are near their end?",
        money: "metered",
        unit: PercentUnit,
        decimals: 0,
        limits: [0.8, 1],
        width: 12,
        height: 8,
        queries: [
          { expr: "keymeter_budget_spent_usd / keymeter_budget_usd", legend: "{{scope}} ({{window}}, {{kind}})" },
        ],
      }),
      table({
        title: "Budget left",
        question: "How much may each budget still spend in its running window?",
        money: "metered",
        unit: Dollars,
        decimals: 2,
        width: 12,
        height: 8,
        queries: [{ expr: "sort(keymeter_budget_usd - keymeter_budget_spent_usd)" }],
      }),
    ],
  },
  {
    title: "Who and what",
    panels: [
      lines({
        title: "Spend of the day by team",
        question: "Since when does a team's day run away, and against which forecast?",
        money: "metered",
        unit: Dollars,
        width: 12,
        height: 9,
        queries: [
          { expr: `keymeter_spend_usd{scope="team", window="day", ${TEAM}}`, legend: "{{id}}" },
          { expr: `keymeter_forecast_so_far_usd{scope="team", window="day", ${TEAM}}`, legend: "{{id}}, forecast" },
        ],
      }),
      lines({
        title: "Cost per hour by model",
        question: "Which model is the money going to right now? A speed, not a sum: read totals from the tables.",
        money: "metered",
        unit: Dollars,
        stacked: true,
        width: 12,
        height: 9,
        queries: [
          { expr: "sum by (model) (rate(keymeter_cost_usd_total[$__rate_interval])) * 3600", legend: "{{model}}" },
        ],
      }),
      table({
        title: "This month by team",
        question: "Which team spent what this month?",
        money: "metered",
        unit: Dollars,
        decimals: 2,
        width: 8,
        height: 9,
        queries: [{ expr: `sort_desc(sum by (id) (keymeter_spend_usd{scope="team", window="month", ${TEAM}}))` }],
      }),
      table({
        title: "This month by model",
        question: "Which model cost what this month?",
        money: "metered",
        unit: Dollars,
        decimals: 2,
        width: 8,
        height: 9,
        queries: [{ expr: "sort_desc(sum by (provider, model) (keymeter_model_spend_usd))" }],
      }),
      table({
        title: "This month by key",
        question: "Which twenty keys cost most this month, and whose are they?",
        money: "metered",
        unit: Dollars,
        decimals: 2,
        width: 8,
        height: 9,
        queries: [
          {
            expr: 'topk(20, sum by (id) (keymeter_spend_usd{scope="key", window="month"})) * on (id) group_left (name, team, owner) keymeter_key_info',
          },
        ],
      }),
    ],
  },
  {
    title: "Does it agree with the bill?",
    panels: [
      lines({
        title: "Metered and billed by day",
        question: "Do our figures and the provider's agree, for each UTC day that was compared?",
        money: "billed",
        unit: Dollars,
        width: 16,
        height: 8,
        queries: [
          { expr: "sum by (provider, day) (keymeter_metered_usd)", legend: "{{provider}} {{day}} metered" },
          { expr: "sum by (provider, day) (keymeter_billed_usd)", legend: "{{provider}} {{day}} billed" },
        ],
      }),
      table({
        title: "Billed minus metered, by cause",
        question: "How much do they differ, and why?",
        money: "billed",
        unit: Dollars,
        decimals: 2,
        width: 8,
        height: 8,
        queries: [{ expr: "sum by (provider, cause) (keymeter_variance_usd)" }],
      }),
    ],
  },
]);
