// Model comparison: what models cost for what they do, and what the same tokens would have cost on another one.
import { PercentUnit } from "@grafana/grafana-foundation-sdk/units";
import { CHOSEN, dashboard } from "./dashboard.ts";
import { Count, dayBars, Dollars, lines, ofDays, table, UNPRICED } from "./panels.ts";

const MONTH = 'scope="model", id=~"$model", window="month"';
/** What has no price has no cost: zero would be a lie. */
const COST = `(sum by (id) (keymeter_spend_usd{${MONTH}}) > 0)`;
const NO_USE = "No model was used this month yet";
const INPUT = 'class=~"input|cache_read|cache_write"';

export const models = dashboard({
  uid: "keymeter-models",
  title: "Model comparison",
  from: "now-30d",
  variables: ["team", "project", "env", "provider", "model", "key"],
  page: "models",
  sections: [
    {
      title: "This month",
      panels: [
        table({
          title: "What does each model cost for what it does?",
          question:
            "What does each model cost, in all, for a request and for a million tokens, and how well does it cache? A model without a cost has no price, or costs nothing.",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 24,
          height: 9,
          empty: NO_USE,
          labels: { id: { title: "Model" } },
          values: {
            Requests: { unit: Count, decimals: 0 },
            "Per request": { unit: Dollars, decimals: 5 },
            "Read from cache": { unit: PercentUnit, decimals: 0 },
            "Output of all tokens": { unit: PercentUnit, decimals: 0 },
          },
          queries: [
            { expr: COST, legend: "Cost" },
            { expr: `sum by (id) (keymeter_spend_requests{${MONTH}})`, legend: "Requests" },
            {
              expr: `${COST} / sum by (id) (keymeter_spend_requests{${MONTH}})`,
              legend: "Per request",
            },
            {
              expr: `${COST} / sum by (id) (keymeter_spend_tokens{${MONTH}}) * 1e6`,
              legend: "Per million tokens",
            },
            {
              expr: `sum by (id) (keymeter_spend_tokens{${MONTH}, class="cache_read"}) / sum by (id) (keymeter_spend_tokens{${MONTH}, ${INPUT}})`,
              legend: "Read from cache",
            },
            {
              expr: `sum by (id) (keymeter_spend_tokens{${MONTH}, class="output"}) / sum by (id) (keymeter_spend_tokens{${MONTH}})`,
              legend: "Output of all tokens",
            },
          ],
        }),
        table({
          title: "What would it cost on another model?",
          question:
            "What would this month's tokens of all models cost at each model's list price? Tokens by class, short contexts, no tiers and fees; models count tokens differently. The report page reprices each model by itself.",
          money: "hypothetical",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 9,
          empty: NO_USE,
          labels: {
            model: { title: "Model" },
            provider: {
              title: "Provider",
              link: {
                title: "Report page",
                url: "${pages}/models?on=${__data.fields.Provider}/${__data.fields.Model}",
              },
            },
          },
          queries: [
            {
              expr: 'sum by (model, provider) (keymeter_price_usd_per_million_tokens * on (class) group_left () sum by (class) (keymeter_spend_tokens{scope="org", window="month"})) / 1e6',
              legend: "All of it would cost",
            },
          ],
        }),
        table({
          title: "Which team uses which model?",
          question: "Which team's money goes to which model?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 9,
          empty: NO_USE,
          labels: { team: { title: "Team" }, model: { title: "Model" } },
          values: { "This month": { words: UNPRICED } },
          queries: [
            { expr: `sum by (team, model) (keymeter_breakdown_usd{window="month", ${CHOSEN}})`, legend: "This month" },
          ],
        }),
      ],
    },
    {
      title: "Over time",
      panels: [
        dayBars({
          title: "Which models does the money move to?",
          question: "What was spent on each model, day by day?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 9,
          days: 60,
          empty: "No whole day of spend yet: the first stands here tomorrow",
          queries: [{ expr: ofDays('scope="model", id=~"$model"'), legend: "{{id}}" }],
        }),
        lines({
          title: "When did list prices change?",
          question: "What did a million tokens cost by the price list, and when did that change?",
          money: "hypothetical",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 9,
          empty: "No model with a price was used this month yet",
          queries: [
            {
              expr: 'sum by (model, class) (keymeter_price_usd_per_million_tokens{provider=~"$provider", model=~"$model", class=~"input|output"})',
              legend: "{{model}}, {{class}}",
            },
          ],
        }),
      ],
    },
  ],
});
