// Usage and efficiency: what drives spend. Volume, caching, size of requests, and money that bought nothing.
import { PercentUnit } from "@grafana/grafana-foundation-sdk/units";
import { CHOSEN, dashboard } from "./dashboard.ts";
import { Count, dayLines, Dollars, inWords, lines, ofDays, Rounded, stat, table } from "./panels.ts";

const ORG = 'scope="org", id="all"';
const TEAMS = 'scope="team", id=~"$team"';
const MODELS = 'scope="model", id=~"$model"';
const INPUT = 'class=~"input|cache_read|cache_write"';
const LIVE = 'provider=~"$provider", model=~"$model"';
const IDLE_TODAY = "No request today yet";
const IDLE_YESTERDAY = "No request on the last whole day";
const NO_DAY = "No whole day of use yet: the first stands here tomorrow";
const NO_RATE = "No request in this range, or Prometheus does not load rules.yaml";

export const usage = dashboard({
  uid: "keymeter-usage",
  title: "Usage and efficiency",
  from: "now-24h",
  variables: ["team", "project", "env", "provider", "model", "key"],
  page: "changes",
  sections: [
    {
      title: "Today and yesterday",
      panels: [
        stat({
          title: "Cost of a request, today",
          question: "What does a request cost on average?",
          money: "metered",
          unit: Dollars,
          decimals: 4,
          width: 6,
          height: 4,
          empty: IDLE_TODAY,
          queries: [
            {
              expr: `sum(keymeter_breakdown_usd{window="day", ${CHOSEN}}) / sum(keymeter_breakdown_requests{window="day", ${CHOSEN}})`,
            },
          ],
        }),
        stat({
          title: "Input read from cache, today",
          question: "How much of the input did caches save us from paying in full?",
          money: "none",
          unit: PercentUnit,
          decimals: 0,
          width: 6,
          height: 4,
          empty: IDLE_TODAY,
          queries: [
            {
              expr: `sum(keymeter_spend_tokens{${ORG}, window="day", class="cache_read"}) / sum(keymeter_spend_tokens{${ORG}, window="day", ${INPUT}})`,
            },
          ],
        }),
        stat({
          title: "Cost of errors, yesterday",
          question: "How much of the last whole day went to requests that did not end well?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 6,
          height: 4,
          empty: IDLE_YESTERDAY,
          queries: [
            {
              expr: `sum(keymeter_last_day_outcome_usd{outcome!="complete", ${LIVE}}) or vector(0)`,
            },
          ],
        }),
        stat({
          title: "Errors in yesterday's spend",
          question: "Which share of the last whole day's spend bought no complete answer?",
          money: "metered",
          unit: PercentUnit,
          decimals: 1,
          limits: [0.05, 0.15],
          meaning: "Orange from 5 %, red from 15 %.",
          width: 6,
          height: 4,
          empty: IDLE_YESTERDAY,
          queries: [
            {
              expr: `(sum(keymeter_last_day_outcome_usd{outcome!="complete", ${LIVE}}) or vector(0)) / sum(keymeter_last_day_outcome_usd{${LIVE}})`,
            },
          ],
        }),
        table({
          title: "Which keys cost most today?",
          question: "Which twenty keys cost most today, and whose are they?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 9,
          empty: IDLE_TODAY,
          labels: {
            name: {
              title: "Key",
              link: { title: "Key detail", url: "/d/keymeter-key?var-key=${__data.fields.Id:percentencode}" },
            },
            id: {
              title: "Id",
              width: 150,
              link: { title: "Last requests", url: "${pages}/key?id=${__value.raw:percentencode}" },
            },
            team: { title: "Team" },
          },
          queries: [
            {
              expr: `sum by (name, team, id) (label_replace(topk(20, sum by (key) (keymeter_breakdown_usd{window="day", ${CHOSEN}})), "id", "$1", "key", "(.*)") * on (id) group_left (name, team) keymeter_key_info)`,
              legend: "Today",
            },
          ],
        }),
        table({
          title: "How did yesterday's requests end?",
          question: "Which failures of the last whole day cost money, and at whom?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 9,
          empty: IDLE_YESTERDAY,
          labels: { outcome: { title: "Outcome" }, provider: { title: "Provider" } },
          values: { Requests: { unit: Count, decimals: 0 } },
          queries: [
            {
              expr: inWords(`sum by (outcome, provider) (keymeter_last_day_outcome_usd{${LIVE}})`, "outcome"),
              legend: "Cost",
            },
            {
              expr: inWords(`sum by (outcome, provider) (keymeter_last_day_outcome_requests{${LIVE}})`, "outcome"),
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
          title: "Does a team's request get cheaper?",
          question: "What did a request of each team cost, day by day?",
          money: "metered",
          unit: Dollars,
          decimals: 4,
          width: 8,
          height: 8,
          days: 60,
          empty: NO_DAY,
          queries: [{ expr: `${ofDays(TEAMS)} / ${ofDays(TEAMS, "keymeter_spend_requests")}`, legend: "{{id}}" }],
        }),
        dayLines({
          title: "Do caches hold, and for which model not?",
          question: "Which share of each model's input was read from a cache, day by day?",
          money: "none",
          unit: PercentUnit,
          width: 8,
          height: 8,
          days: 60,
          empty: NO_DAY,
          queries: [
            {
              expr: `sum by (id) (${ofDays(`${MODELS}, class="cache_read"`, "keymeter_spend_tokens")}) / sum by (id) (${ofDays(`${MODELS}, ${INPUT}`, "keymeter_spend_tokens")})`,
              legend: "{{id}}",
            },
          ],
        }),
        dayLines({
          title: "Do a team's requests grow?",
          question: "How many tokens did a request of each team have, day by day?",
          money: "none",
          unit: Rounded,
          width: 8,
          height: 8,
          days: 60,
          empty: NO_DAY,
          queries: [
            {
              expr: `sum by (id) (${ofDays(TEAMS, "keymeter_spend_tokens")}) / sum by (id) (${ofDays(TEAMS, "keymeter_spend_requests")})`,
              legend: "{{id}}",
            },
          ],
        }),
      ],
    },
    {
      title: "In the range above",
      panels: [
        lines({
          title: "What does an hour cost, and on which model?",
          question: "How fast is money spent, by model? A speed, not a sum: read totals from tables.",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          stacked: true,
          width: 12,
          height: 8,
          empty: NO_RATE,
          queries: [
            { expr: `sum by (model) (provider_model:keymeter_cost_usd:rate5m{${LIVE}}) * 3600`, legend: "{{model}}" },
          ],
        }),
        lines({
          title: "How many tokens a minute, of which class?",
          question: "What kind of tokens are they, and how many a minute?",
          money: "none",
          unit: Rounded,
          stacked: true,
          width: 12,
          height: 8,
          empty: NO_RATE,
          queries: [
            {
              expr: inWords(`sum by (class) (provider_model_class:keymeter_tokens:rate5m{${LIVE}}) * 60`, "class"),
              legend: "{{class}}",
            },
          ],
        }),
        lines({
          title: "How many requests a minute, and how do they end?",
          question: "How much traffic is there, and how does it end?",
          money: "none",
          unit: Count,
          stacked: true,
          width: 24,
          height: 7,
          empty: NO_RATE,
          queries: [
            {
              expr: inWords(
                `sum by (outcome) (provider_model_outcome:keymeter_requests:rate5m{${LIVE}}) * 60`,
                "outcome",
              ),
              legend: "{{outcome}}",
            },
          ],
        }),
      ],
    },
  ],
});
