// Meter health: is the meter running, does it lose anything, is it in anybody's way, and do alerts reach people?
import { PercentUnit, Seconds } from "@grafana/grafana-foundation-sdk/units";
import { dashboard } from "./dashboard.ts";
import { bars, byKeyName, Count, Days, inWords, lines, stat, table } from "./panels.ts";

const SILENT = "No data from the collector";
const NO_PROXY = "No data from the proxy";

export const meterHealth = dashboard({
  uid: "keymeter-meter-health",
  title: "Meter health",
  from: "now-6h",
  variables: ["provider"],
  page: "refused",
  sections: [
    {
      title: "Is it running?",
      panels: [
        stat({
          title: "Do the programs answer?",
          question: "Does Prometheus reach proxy, collector and alerts?",
          money: "none",
          unit: Count,
          width: 9,
          height: 4,
          states: { "1": { text: "up", color: "green" }, "0": { text: "DOWN", color: "red" } },
          empty: "Prometheus scrapes no program of Keymeter",
          queries: [
            { expr: 'label_replace(up{job=~"keymeter-.*"}, "job", "$1", "job", "keymeter-(.*)")', legend: "{{job}}" },
          ],
        }),
        stat({
          title: "Can the ledger be written?",
          question: "Can the proxy book what it forwards? While it cannot, it refuses everything.",
          money: "none",
          unit: Count,
          width: 5,
          height: 4,
          states: { "1": { text: "yes", color: "green" }, "0": { text: "NO", color: "red" } },
          empty: NO_PROXY,
          queries: [{ expr: "keymeter_ledger_up" }],
        }),
        stat({
          title: "Age of the gauges",
          question: "How old are the figures on the other dashboards?",
          money: "none",
          unit: Seconds,
          decimals: 0,
          limits: [60, 120],
          meaning: "Orange from one minute, red from two.",
          width: 5,
          height: 4,
          empty: SILENT,
          queries: [{ expr: "time() - keymeter_collector_refresh_timestamp_seconds" }],
        }),
        stat({
          title: "Alerts waiting for Slack",
          question: "Is anything said by Alertmanager that Slack has not taken?",
          money: "none",
          unit: Count,
          decimals: 0,
          limits: [1, 10],
          meaning: "Orange from the first one, red from ten.",
          width: 5,
          height: 4,
          empty: "No data from the alerts program",
          queries: [{ expr: "keymeter_outbox_deliveries" }],
        }),
        table({
          title: "Which alerts fire?",
          question: "Which alerts fire now?",
          money: "none",
          unit: Count,
          decimals: 0,
          width: 12,
          height: 7,
          empty: "No alert fires",
          labels: {
            alertname: { title: "Alert" },
            severity: { title: "Severity", width: 100 },
            team: { title: "Team", width: 150 },
          },
          queries: [
            {
              expr: 'count by (alertname, severity, team) (ALERTS{alertname=~"Keymeter.+", alertstate="firing", severity!="none"})',
              legend: "Firing",
            },
          ],
        }),
        bars({
          title: "Which budgets burn too fast?",
          question: "How many times faster than evenly was each budget spent in the last hour?",
          money: "none",
          unit: Count,
          decimals: 1,
          limits: [6, 14.4],
          meaning: "1 spends the budget exactly; orange from 6, red from 14.4.",
          width: 12,
          height: 7,
          empty: "No budget of a week or longer is set",
          queries: [
            { expr: byKeyName('keymeter_budget_burn_ratio{span="1h"}'), legend: "{{scope}} ({{window}}, {{kind}})" },
          ],
        }),
      ],
    },
    {
      title: "Traffic",
      panels: [
        lines({
          title: "Refusals a minute, by reason",
          question: "Why do we refuse requests, before any byte goes upstream? The report page says whom.",
          money: "none",
          unit: Count,
          stacked: true,
          width: 12,
          height: 8,
          empty: "Nothing was refused in this range",
          queries: [
            {
              expr: inWords("sum by (reason) (rate(keymeter_refused_total[$__rate_interval])) * 60", "reason"),
              legend: "{{reason}}",
            },
          ],
        }),
        lines({
          title: "Which providers fail?",
          question: "Which share of the last ten minutes' attempts did a provider fail?",
          money: "none",
          unit: PercentUnit,
          width: 12,
          height: 8,
          empty: "Fewer than 20 answers in any ten minutes: too few to tell",
          queries: [
            {
              expr: 'sum by (provider) (keymeter_provider_failed_ratio{provider=~"$provider"})',
              legend: "{{provider}}",
            },
          ],
        }),
        lines({
          title: "Are the providers slow?",
          question: "How long is the wait for a provider's first byte, for 95 of 100 requests?",
          money: "none",
          unit: Seconds,
          width: 12,
          height: 8,
          empty: "No request in this range",
          queries: [
            {
              expr: 'histogram_quantile(0.95, sum by (provider, le) (rate(keymeter_first_byte_seconds_bucket{provider=~"$provider"}[$__rate_interval])))',
              legend: "{{provider}}",
            },
          ],
        }),
        lines({
          title: "How many requests are under way?",
          question: "How many requests are with a provider, and how many events wait for the ledger?",
          money: "none",
          unit: Count,
          decimals: 0,
          width: 12,
          height: 8,
          empty: NO_PROXY,
          queries: [
            { expr: "keymeter_open_requests", legend: "With a provider" },
            { expr: "keymeter_ledger_waiting_settlements", legend: "Waiting for the ledger" },
          ],
        }),
      ],
    },
    {
      title: "What is not exact",
      panels: [
        table({
          title: "Which models have no price?",
          question: "Which models have no price, since the proxy's start? Their money is missing everywhere.",
          money: "none",
          unit: Count,
          decimals: 0,
          width: 6,
          height: 8,
          empty: "None: every model used has a price",
          labels: { model: { title: "Model" }, provider: { title: "Provider" } },
          queries: [{ expr: "sum by (provider, model) (keymeter_unpriced_requests_total) > 0", legend: "Requests" }],
        }),
        table({
          title: "Which are priced by family?",
          question: "Which models are priced by a family's entry instead of their own, since the proxy's start?",
          money: "none",
          unit: Count,
          decimals: 0,
          width: 6,
          height: 8,
          empty: "None: every model used has an entry of its own",
          labels: { model: { title: "Model" }, provider: { title: "Provider" } },
          queries: [
            {
              expr: "sum by (provider, model) (keymeter_inferred_price_requests_total) > 0",
              legend: "Requests",
            },
          ],
        }),
        table({
          title: "Where is use estimated?",
          question: "For which requests did the provider not state what was used, since the proxy's start?",
          money: "none",
          unit: Count,
          decimals: 0,
          width: 6,
          height: 8,
          empty: "Nowhere: providers stated what was used",
          labels: { model: { title: "Model" }, provider: { title: "Provider" } },
          queries: [
            {
              expr: "sum by (provider, model) (keymeter_estimated_requests_total + keymeter_unknown_usage_requests_total) > 0",
              legend: "Requests",
            },
          ],
        }),
        stat({
          title: "Age of the price list",
          question: "How old are the prices that we meter by?",
          money: "none",
          unit: Days,
          decimals: 0,
          limits: [30, 90],
          meaning: "Orange from 30 days, red from 90.",
          width: 6,
          height: 8,
          empty: SILENT,
          queries: [{ expr: "floor((time() - keymeter_price_list_timestamp_seconds) / 86400)" }],
        }),
      ],
    },
  ],
});
