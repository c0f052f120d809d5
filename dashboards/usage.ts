// Usage and efficiency: what drives spend. Volume, caching, size of requests, and money that bought nothing.
import { PercentUnit, RequestsPerSecond, Short } from "@grafana/grafana-foundation-sdk/units";
import { CHOSEN, dashboard } from "./dashboard.ts";
import { dayLines, Dollars, lines, ofDays, stat, table } from "./panels.ts";

const ORG = 'scope="org", id="all"';
const TEAMS = 'scope="team", id=~"$team"';
const MODELS = 'scope="model", id=~"$model"';
const INPUT = 'class=~"input|cache_read|cache_write"';

export const usage = dashboard({
  uid: "keymeter-usage",
  title: "Usage and efficiency",
  from: "now-24h",
  variables: ["team", "project", "env", "provider", "model", "key"],
  page: "changes",
  sections: [
    {
      title: "Right now",
      panels: [
        lines({
          title: "Cost per hour by model",
          question: "Which model is the money going to? A speed, not a sum: read totals from tables.",
          money: "metered",
          unit: Dollars,
          stacked: true,
          width: 12,
          height: 8,
          queries: [
            {
              expr: 'sum by (model) (provider_model:keymeter_cost_usd:rate5m{provider=~"$provider", model=~"$model"}) * 3600',
              legend: "{{model}}",
            },
          ],
        }),
        lines({
          title: "Tokens by class",
          question: "What kind of tokens are they?",
          money: "none",
          unit: Short,
          stacked: true,
          width: 12,
          height: 8,
          queries: [
            {
              expr: 'sum by (class) (provider_model_class:keymeter_tokens:rate5m{provider=~"$provider", model=~"$model"})',
              legend: "{{class}} a second",
            },
          ],
        }),
      ],
    },
    {
      title: "Today",
      panels: [
        stat({
          title: "Input read from cache, today",
          question: "How much of the input did caches save us from paying in full?",
          money: "none",
          unit: PercentUnit,
          decimals: 0,
          width: 6,
          height: 5,
          queries: [
            {
              expr: `sum(keymeter_spend_tokens{${ORG}, window="day", class="cache_read"}) / sum(keymeter_spend_tokens{${ORG}, window="day", ${INPUT}})`,
            },
          ],
        }),
        stat({
          title: "Cost of a request, today",
          question: "What does a request cost on average?",
          money: "metered",
          unit: Dollars,
          decimals: 4,
          width: 6,
          height: 5,
          queries: [
            {
              expr: `sum(keymeter_breakdown_usd{window="day", ${CHOSEN}}) / sum(keymeter_breakdown_requests{window="day", ${CHOSEN}})`,
            },
          ],
        }),
        stat({
          title: "Cost of errors, the last whole day",
          question: "How much went to requests that did not end well?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 6,
          height: 5,
          queries: [
            {
              expr: 'sum(keymeter_last_day_outcome_usd{outcome!="complete", provider=~"$provider", model=~"$model"}) or vector(0)',
            },
          ],
        }),
        stat({
          title: "of that day's spend",
          question: "Which share of the day bought no complete answer?",
          money: "metered",
          unit: PercentUnit,
          decimals: 1,
          limits: [0.05, 0.15],
          meaning: "Orange from 5 %, red from 15 %.",
          width: 6,
          height: 5,
          queries: [
            {
              expr: '(sum(keymeter_last_day_outcome_usd{outcome!="complete", provider=~"$provider", model=~"$model"}) or vector(0)) / sum(keymeter_last_day_outcome_usd{provider=~"$provider", model=~"$model"})',
            },
          ],
        }),
        table({
          title: "Keys today",
          question: "Which twenty keys cost most today?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 9,
          labels: {
            name: {
              title: "Key",
              link: { title: "Key detail", url: "/d/keymeter-key?var-key=${__data.fields.Id:percentencode}" },
            },
            team: { title: "Team" },
            id: {
              title: "Id",
              link: { title: "Last requests", url: "${pages}/key?id=${__value.raw:percentencode}" },
            },
          },
          queries: [
            {
              expr: `sum by (name, team, id) (label_replace(topk(20, sum by (key) (keymeter_breakdown_usd{window="day", ${CHOSEN}})), "id", "$1", "key", "(.*)") * on (id) group_left (name, team) keymeter_key_info)`,
              legend: "Today",
            },
          ],
        }),
        table({
          title: "How the last whole day's requests ended",
          question: "Which failures cost money, and at whom?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 9,
          labels: { outcome: { title: "Outcome" }, provider: { title: "Provider" } },
          values: { Requests: { unit: Short, decimals: 0 } },
          queries: [
            {
              expr: 'sum by (outcome, provider) (keymeter_last_day_outcome_usd{provider=~"$provider", model=~"$model"})',
              legend: "Cost",
            },
            {
              expr: 'sum by (outcome, provider) (keymeter_last_day_outcome_requests{provider=~"$provider", model=~"$model"})',
              legend: "Requests",
            },
          ],
        }),
      ],
    },
    {
      title: "By day",
      panels: [
        dayLines({
          title: "Cost of a request by team",
          question: "Is it getting cheaper per piece of work?",
          money: "metered",
          unit: Dollars,
          decimals: 4,
          width: 8,
          height: 8,
          days: 60,
          queries: [{ expr: `${ofDays(TEAMS)} / ${ofDays(TEAMS, "keymeter_spend_requests")}`, legend: "{{id}}" }],
        }),
        dayLines({
          title: "Input read from cache by model",
          question: "Do caches hold, and for which model not?",
          money: "none",
          unit: PercentUnit,
          decimals: 0,
          width: 8,
          height: 8,
          days: 60,
          queries: [
            {
              expr: `sum by (id) (${ofDays(`${MODELS}, class="cache_read"`, "keymeter_spend_tokens")}) / sum by (id) (${ofDays(`${MODELS}, ${INPUT}`, "keymeter_spend_tokens")})`,
              legend: "{{id}}",
            },
          ],
        }),
        dayLines({
          title: "Tokens of a request by team",
          question: "Do prompts grow?",
          money: "none",
          unit: Short,
          decimals: 0,
          width: 8,
          height: 8,
          days: 60,
          queries: [
            {
              expr: `sum by (id) (${ofDays(TEAMS, "keymeter_spend_tokens")}) / sum by (id) (${ofDays(TEAMS, "keymeter_spend_requests")})`,
              legend: "{{id}}",
            },
          ],
        }),
        lines({
          title: "Requests by outcome",
          question: "How much traffic is there, and how does it end?",
          money: "none",
          unit: RequestsPerSecond,
          stacked: true,
          width: 24,
          height: 7,
          queries: [
            {
              expr: 'sum by (outcome) (provider_model_outcome:keymeter_requests:rate5m{provider=~"$provider", model=~"$model"})',
              legend: "{{outcome}}",
            },
          ],
        }),
      ],
    },
  ],
});
