// Finance overview: what was spent today and this month, where it lands, what is left, who spends it, and how far these
// figures can be trusted.
import { PercentUnit } from "@grafana/grafana-foundation-sdk/units";
import { CHOSEN, dashboard } from "./dashboard.ts";
import { bars, byKeyName, Count, dayBars, Dollars, lines, ofDays, stat, table, UNPRICED } from "./panels.ts";

const MONTH = 'scope="org", window="month"';
const LEARNING = "Learning, no forecast yet";
const NO_BUDGET = "No budget is set";
const NO_SPEND = "Nothing was spent this month yet";
/** Budgets of one scope, window and kind may be several: each has its row. */
const BUDGET = "sum by (budget, scope, window, kind)";

export const finance = dashboard({
  uid: "keymeter-finance",
  title: "Finance overview",
  from: "now-30d",
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
          empty: "No data from the collector",
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
          empty: "No data from the collector",
          queries: [{ expr: `keymeter_spend_usd{${MONTH}}` }],
        }),
        stat({
          title: "Where the month lands",
          question: "Where will the month end as it looks now, and within which band with 80 % probability?",
          money: "landing",
          unit: Dollars,
          decimals: 2,
          width: 10,
          height: 4,
          empty: LEARNING,
          queries: [
            { expr: `keymeter_landing_usd{${MONTH}, quantile="0.1"}`, legend: "At least" },
            { expr: `keymeter_landing_usd{${MONTH}, quantile="0.5"}`, legend: "Lands at" },
            { expr: `keymeter_landing_usd{${MONTH}, quantile="0.9"}`, legend: "At most" },
          ],
        }),
        stat({
          title: "Forecast when it began",
          question: "What was the month expected to cost on its first day?",
          money: "forecast",
          unit: Dollars,
          decimals: 2,
          meaning: "It does not move any more: where the month lands as it looks now stands beside it.",
          width: 6,
          height: 4,
          empty: LEARNING,
          queries: [{ expr: `keymeter_forecast_usd{${MONTH}, quantile="0.5"}` }],
        }),
        stat({
          title: "Ahead of forecast",
          question: "How much more than expected by now has this month cost, as a share of the whole month's forecast?",
          money: "forecast",
          unit: PercentUnit,
          decimals: 0,
          limits: [0.1, 0.2],
          meaning: "Orange from 10 %, red from 20 %: there an alert fires.",
          width: 8,
          height: 4,
          empty: LEARNING,
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
          width: 8,
          height: 4,
          empty: "No data from the collector",
          queries: [{ expr: 'sum(keymeter_breakdown_usd{window="month", team=""}) or vector(0)' }],
        }),
        stat({
          title: "Requests without a price, last 15 minutes",
          question: "Is money missing everywhere, because a model used in the last 15 minutes has no price?",
          money: "none",
          unit: Count,
          decimals: 0,
          limits: [1, 100],
          meaning: "Orange from the first one, red from 100.",
          width: 8,
          height: 4,
          empty: "No data from the collector",
          queries: [{ expr: "sum(keymeter_unpriced_requests) or vector(0)" }],
        }),
      ],
    },
    {
      title: "How it goes",
      panels: [
        lines({
          title: "Is the month on its forecast?",
          question:
            "Since when do we deviate from the forecast, and how far is the budget? Spend begins anew with each month.",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          hourly: true,
          width: 12,
          height: 9,
          empty: "Nothing was written down in this range yet",
          queries: [
            { expr: `keymeter_spend_usd{${MONTH}}`, legend: "Spent this month" },
            { expr: `keymeter_forecast_so_far_usd{${MONTH}}`, legend: "Expected by then, when it began" },
            { expr: 'keymeter_budget_usd{scope="the organisation", window="month"}', legend: "Budget ({{kind}})" },
          ],
        }),
        dayBars({
          title: "Which days were dear, and at which provider?",
          question: "What was spent on each of the last 60 whole days?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 9,
          days: 60,
          empty: "No whole day of spend yet: the first stands here tomorrow",
          queries: [{ expr: ofDays('scope="provider", id=~"$provider"'), legend: "{{id}}" }],
        }),
      ],
    },
    {
      title: "Budgets",
      panels: [
        bars({
          title: "Which budgets are nearly spent?",
          question: "How much of each budget's running window is spent?",
          money: "metered",
          unit: PercentUnit,
          decimals: 0,
          limits: [0.8, 1],
          meaning: "Orange from 80 %, red when it is spent.",
          width: 10,
          height: 8,
          empty: NO_BUDGET,
          queries: [
            {
              expr: byKeyName("(keymeter_budget_spent_usd / keymeter_budget_usd)"),
              legend: "{{scope}} ({{window}}, {{kind}})",
            },
          ],
        }),
        table({
          title: "Where will budgets land?",
          question: "How much may each budget still spend, and where will its window end?",
          money: "landing",
          unit: Dollars,
          decimals: 2,
          meaning: "Windows of an hour or a day are over before anybody reads: they have no landing.",
          width: 14,
          height: 8,
          empty: NO_BUDGET,
          labels: {
            scope: { title: "For" },
            window: { title: "Window", width: 80 },
            kind: { title: "Kind", width: 80 },
          },
          hidden: ["budget"],
          queries: [
            { expr: `${BUDGET} (${byKeyName("keymeter_budget_usd")})`, legend: "Budget" },
            {
              expr: `${BUDGET} (${byKeyName("(keymeter_budget_usd - keymeter_budget_spent_usd)")})`,
              legend: "Left",
            },
            {
              expr: `${BUDGET} (${byKeyName('keymeter_budget_landing_usd{quantile="0.5"}')})`,
              legend: "Lands at",
            },
            {
              expr: `${BUDGET} (${byKeyName('keymeter_budget_landing_usd{quantile="0.9"}')})`,
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
          title: "Which team spent what?",
          question:
            "Which team spent what, and where does its month land? That is of the whole team, whatever else is chosen above; beside it what was expected when the month began.",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 14,
          height: 9,
          empty: NO_SPEND,
          labels: {
            team: {
              title: "Team",
              link: { title: "Report page", url: "${pages}/team?id=${__value.raw:percentencode}" },
            },
          },
          queries: [
            { expr: `sum by (team) (keymeter_breakdown_usd{window="month", ${CHOSEN}})`, legend: "This month" },
            { expr: `sum by (team) (keymeter_breakdown_usd{window="day", ${CHOSEN}})`, legend: "Today" },
            { expr: ofTeams("keymeter_landing_usd"), legend: "Lands at" },
            { expr: ofTeams("keymeter_forecast_usd"), legend: "Forecast when it began" },
          ],
        }),
        table({
          title: "Which model cost what?",
          question: "Which model cost what, at whom?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 10,
          height: 9,
          empty: NO_SPEND,
          labels: { model: { title: "Model" }, provider: { title: "Provider", width: 130 } },
          values: { "This month": { words: UNPRICED } },
          queries: [
            {
              expr: `sum by (model, provider) (keymeter_breakdown_usd{window="month", ${CHOSEN}})`,
              legend: "This month",
            },
          ],
        }),
        table({
          title: "Which keys cost most?",
          question: "Which twenty keys cost most this month, and whose are they?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 24,
          height: 9,
          empty: NO_SPEND,
          labels: {
            name: {
              title: "Key",
              link: { title: "Key detail", url: "/d/keymeter-key?var-key=${__data.fields.Id:percentencode}" },
            },
            id: { title: "Id", link: { title: "Report page", url: "${pages}/key?id=${__value.raw:percentencode}" } },
            team: { title: "Team" },
            user: { title: "User" },
          },
          queries: [
            {
              expr: `sum by (name, team, user, id) (label_replace(topk(20, sum by (key) (keymeter_breakdown_usd{window="month", ${CHOSEN}})), "id", "$1", "key", "(.*)") * on (id) group_left (name, team, user) keymeter_key_info)`,
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
          title: "How good were forecasts of a day?",
          question:
            "Of the last four weeks: how far off were forecasts, in which direction, and how often did the band hold?",
          money: "none",
          unit: PercentUnit,
          decimals: 0,
          meaning:
            "The band should hold 80 %; an error above 50 % is of no use. What is small, such as a single key, is harder to tell than the whole.",
          width: 14,
          height: 8,
          empty: "No forecast has been scored yet: that takes a week of days",
          labels: {
            scope: {
              title: "Forecasts of",
              words: {
                org: "the organisation",
                team: "teams",
                project: "projects",
                env: "environments",
                provider: "providers",
                model: "models",
                key: "keys",
              },
            },
          },
          sortBy: "Error over spend",
          ascending: true,
          queries: [
            { expr: 'sum by (scope) (keymeter_forecast_error_ratio{window="day"})', legend: "Error over spend" },
            { expr: 'sum by (scope) (keymeter_forecast_bias_ratio{window="day"})', legend: "Too high (+) or low (-)" },
            { expr: 'sum by (scope) (keymeter_forecast_coverage_ratio{window="day"})', legend: "Within the band" },
          ],
        }),
        table({
          title: "What is not signed off yet?",
          question: "How old is each provider's oldest day that is not signed off? 0: all of them are.",
          money: "none",
          unit: Count,
          decimals: 0,
          width: 10,
          height: 8,
          empty: "No provider's bills are read",
          labels: { provider: { title: "Provider" } },
          queries: [
            {
              expr: "floor((time() - max by (provider) (keymeter_oldest_open_day_timestamp_seconds)) / 86400)",
              legend: "Oldest open day, days ago",
            },
          ],
        }),
      ],
    },
  ],
});

/** The months of teams, told by team. */
function ofTeams(metric: string): string {
  return `sum by (team) (label_replace(${metric}{scope="team", window="month", quantile="0.5", id=~"$team"}, "team", "$1", "id", "(.*)"))`;
}
