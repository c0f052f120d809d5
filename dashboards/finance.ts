// Finance overview: what was spent today and this month, where it lands, what is left, who spends it, and how far these figures can be trusted.
import { PercentUnit, Short } from "@grafana/grafana-foundation-sdk/units";
import { CHOSEN, dashboard } from "./dashboard.ts";
import { bars, dayBars, Dollars, lines, ofDays, stat, table } from "./panels.ts";

const MONTH = 'scope="org", window="month"';

export const finance = dashboard({
  uid: "keymeter-finance",
  title: "Finance overview",
  from: "now/M",
  variables: ["team", "project", "env", "provider", "model", "key"],
  page: "overview",
  sections: [
    {
      title: "This month",
      panels: [
        stat({
          title: "Spend today",
          question: "What have we spent since midnight?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 4,
          height: 4,
          queries: [{ expr: 'keymeter_spend_usd{scope="org", window="day"}' }],
        }),
        stat({
          title: "Spend this month",
          question: "What have we spent this month?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 4,
          height: 4,
          queries: [{ expr: `keymeter_spend_usd{${MONTH}}` }],
        }),
        stat({
          title: "Where the month lands",
          question: "Where will the month end as it looks now, and within which band with 80 % probability?",
          money: "landing",
          unit: Dollars,
          decimals: 0,
          width: 7,
          height: 4,
          queries: [
            { expr: `keymeter_landing_usd{${MONTH}, quantile="0.1"}`, legend: "at least" },
            { expr: `keymeter_landing_usd{${MONTH}, quantile="0.5"}`, legend: "lands at" },
            { expr: `keymeter_landing_usd{${MONTH}, quantile="0.9"}`, legend: "at most" },
          ],
        }),
        stat({
          title: "Ahead of forecast",
          question: "How much more than expected by now has this month cost, as a share of the whole month's forecast?",
          money: "forecast",
          unit: PercentUnit,
          decimals: 0,
          limits: [0.1, 0.2],
          meaning: "Orange from 10 %, red from 20 %: there an alert fires.",
          width: 4,
          height: 4,
          queries: [
            {
              expr: `sum(keymeter_over_forecast_usd{${MONTH}}) / sum(keymeter_forecast_usd{${MONTH}, quantile="0.5"})`,
            },
          ],
        }),
        stat({
          title: "Spend without a team",
          question: "How much of this month belongs to no team?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          limits: [1, 100],
          meaning: "Orange from 1 dollar, red from 100: give its keys an owner.",
          width: 5,
          height: 4,
          queries: [{ expr: 'sum(keymeter_breakdown_usd{window="month", team=""}) or vector(0)' }],
        }),
      ],
    },
    {
      title: "How it goes",
      panels: [
        lines({
          title: "This month against its forecast",
          question: "Since when do we deviate from the forecast, and how far is the budget?",
          money: "metered",
          unit: Dollars,
          width: 12,
          height: 9,
          queries: [
            { expr: `keymeter_spend_usd{${MONTH}}`, legend: "spent" },
            { expr: `keymeter_forecast_so_far_usd{${MONTH}}`, legend: "expected by then, on the first" },
            { expr: 'keymeter_budget_usd{scope="the organisation", window="month"}', legend: "budget ({{kind}})" },
          ],
        }),
        dayBars({
          title: "Spend by day and provider",
          question: "Which days were dear, and at which provider?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 9,
          days: 60,
          queries: [{ expr: ofDays('scope="provider", id=~"$provider"'), legend: "{{id}}" }],
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
          meaning: "Orange from 80 %, red when it is spent.",
          width: 12,
          height: 8,
          queries: [
            { expr: "keymeter_budget_spent_usd / keymeter_budget_usd", legend: "{{scope}} ({{window}}, {{kind}})" },
          ],
        }),
        table({
          title: "Where budgets land",
          question: "How much may each budget still spend, and where will its window end?",
          money: "landing",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 8,
          labels: { scope: { title: "For" }, window: { title: "Window" }, kind: { title: "Kind" } },
          queries: [
            { expr: "sum by (scope, window, kind) (keymeter_budget_usd)", legend: "Amount" },
            {
              expr: "sum by (scope, window, kind) (keymeter_budget_usd - keymeter_budget_spent_usd)",
              legend: "Left",
            },
            {
              expr: 'sum by (scope, window, kind) (keymeter_budget_landing_usd{quantile="0.5"})',
              legend: "Expected at its end",
            },
            {
              expr: 'sum by (scope, window, kind) (keymeter_budget_landing_usd{quantile="0.9"})',
              legend: "At most",
            },
          ],
        }),
      ],
    },
    {
      title: "Who and what (of the choice above)",
      panels: [
        table({
          title: "Teams this month",
          question: "Which team spent what, and what will its month cost?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 9,
          height: 9,
          labels: {
            team: {
              title: "Team",
              link: { title: "Report page", url: "${pages}/team?id=${__value.raw:percentencode}" },
            },
          },
          queries: [
            { expr: `sum by (team) (keymeter_breakdown_usd{window="month", ${CHOSEN}})`, legend: "This month" },
            { expr: `sum by (team) (keymeter_breakdown_usd{window="day", ${CHOSEN}})`, legend: "Today" },
            {
              expr: 'sum by (team) (label_replace(keymeter_landing_usd{scope="team", window="month", quantile="0.5", id=~"$team"}, "team", "$1", "id", "(.*)"))',
              legend: "Lands at, all of it",
            },
          ],
        }),
        table({
          title: "Models this month",
          question: "Which model cost what?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 6,
          height: 9,
          labels: { model: { title: "Model" }, provider: { title: "Provider" } },
          queries: [
            {
              expr: `sum by (model, provider) (keymeter_breakdown_usd{window="month", ${CHOSEN}})`,
              legend: "This month",
            },
          ],
        }),
        table({
          title: "Keys this month",
          question: "Which twenty keys cost most, and whose are they?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 9,
          height: 9,
          labels: {
            name: {
              title: "Key",
              link: { title: "Key detail", url: "/d/keymeter-key?var-key=${__data.fields.Id:percentencode}" },
            },
            owner: { title: "Owner" },
            id: { title: "Id", link: { title: "Report page", url: "${pages}/key?id=${__value.raw:percentencode}" } },
          },
          queries: [
            {
              expr: `sum by (name, owner, id) (label_replace(topk(20, sum by (key) (keymeter_breakdown_usd{window="month", ${CHOSEN}})), "id", "$1", "key", "(.*)") * on (id) group_left (name, owner) keymeter_key_info)`,
              legend: "This month",
            },
          ],
        }),
      ],
    },
    {
      title: "Can these figures be relied on?",
      panels: [
        table({
          title: "How good forecasts were",
          question:
            "Of the last four weeks: how far off were forecasts, in which direction, and how often did the band hold?",
          money: "none",
          unit: PercentUnit,
          decimals: 0,
          meaning: "The band should hold 80 %; an error above 50 % is of no use.",
          width: 12,
          height: 7,
          labels: { scope: { title: "Of" }, window: { title: "Window" } },
          queries: [
            { expr: "sum by (scope, window) (keymeter_forecast_error_ratio)", legend: "Error over spend" },
            { expr: "sum by (scope, window) (keymeter_forecast_bias_ratio)", legend: "Too high (+) or low (-)" },
            { expr: "sum by (scope, window) (keymeter_forecast_coverage_ratio)", legend: "Within the band" },
          ],
        }),
        table({
          title: "Not final yet",
          question: "Since how many days is a provider's oldest day not signed off?",
          money: "none",
          unit: Short,
          decimals: 0,
          width: 6,
          height: 7,
          labels: { provider: { title: "Provider" } },
          queries: [
            {
              expr: "floor((time() - max by (provider) (keymeter_oldest_open_day_timestamp_seconds)) / 86400)",
              legend: "Days",
            },
          ],
        }),
        stat({
          title: "Without a price, last 15 minutes",
          question: "Is money missing everywhere, because a model used in the last 15 minutes has no price?",
          money: "none",
          unit: Short,
          limits: [1, 100],
          meaning: "Orange from the first one, red from 100.",
          width: 6,
          height: 7,
          queries: [{ expr: "sum(keymeter_unpriced_requests) or vector(0)" }],
        }),
      ],
    },
  ],
});
