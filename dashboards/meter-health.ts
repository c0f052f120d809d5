// Meter health: is the meter running, does it lose anything, is it in anybody's way, and do alerts reach people?
import { PercentUnit, RequestsPerSecond, Seconds, Short } from "@grafana/grafana-foundation-sdk/units";
import { dashboard } from "./dashboard.ts";
import { bars, lines, stat, table } from "./panels.ts";

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
          title: "Programs up",
          question: "Do proxy, collector and alerts answer? 1 does, 0 does not.",
          money: "none",
          unit: Short,
          width: 6,
          height: 4,
          queries: [{ expr: 'up{job=~"keymeter-.*"}', legend: "{{job}}" }],
        }),
        stat({
          title: "Ledger can commit",
          question: "Can the proxy book what it forwards? At 0 it refuses everything.",
          money: "none",
          unit: Short,
          width: 6,
          height: 4,
          queries: [{ expr: "keymeter_ledger_up" }],
        }),
        stat({
          title: "Age of the gauges",
          question: "How old are the figures on the other dashboards?",
          money: "none",
          unit: Seconds,
          limits: [60, 120],
          meaning: "Orange from one minute, red from two.",
          width: 6,
          height: 4,
          queries: [{ expr: "time() - keymeter_collector_refresh_timestamp_seconds" }],
        }),
        stat({
          title: "Alerts waiting for Slack",
          question: "Is anything said by Alertmanager that Slack has not taken?",
          money: "none",
          unit: Short,
          limits: [1, 10],
          meaning: "Orange from the first one, red from ten.",
          width: 6,
          height: 4,
          queries: [{ expr: "keymeter_outbox_deliveries" }],
        }),
        table({
          title: "What is on",
          question: "Which alerts fire now?",
          money: "none",
          unit: Short,
          width: 12,
          height: 7,
          labels: {
            alertname: { title: "Alert" },
            severity: { title: "Severity" },
            team: { title: "Team" },
          },
          queries: [
            {
              expr: 'count by (alertname, severity, team) (ALERTS{alertname=~"Keymeter.+", alertstate="firing", severity!="none"})',
              legend: "Firing",
            },
          ],
        }),
        bars({
          title: "Burn rates over an hour",
          question: "Which budgets are spent how many times faster than evenly?",
          money: "none",
          unit: Short,
          decimals: 1,
          limits: [6, 14.4],
          meaning: "1 spends the budget exactly; orange from 6, red from 14.4.",
          width: 12,
          height: 7,
          queries: [
            { expr: 'sum by (scope, window) (keymeter_budget_burn_ratio{span="1h"})', legend: "{{scope}}, {{window}}" },
          ],
        }),
      ],
    },
    {
      title: "Traffic",
      panels: [
        lines({
          title: "Refused before any byte went upstream",
          question: "Why do we refuse requests? The report page says whom.",
          money: "none",
          unit: RequestsPerSecond,
          stacked: true,
          width: 12,
          height: 8,
          queries: [{ expr: "sum by (reason) (rate(keymeter_refused_total[$__rate_interval]))", legend: "{{reason}}" }],
        }),
        lines({
          title: "Failed by the provider",
          question: "Which share of the last ten minutes' attempts did a provider fail?",
          money: "none",
          unit: PercentUnit,
          width: 12,
          height: 8,
          queries: [
            {
              expr: 'sum by (provider) (keymeter_provider_failed_ratio{provider=~"$provider"})',
              legend: "{{provider}}",
            },
          ],
        }),
        lines({
          title: "Provider's first byte, 95th percentile",
          question: "Are the providers slow?",
          money: "none",
          unit: Seconds,
          width: 12,
          height: 8,
          queries: [
            {
              expr: 'histogram_quantile(0.95, sum by (provider, le) (rate(keymeter_first_byte_seconds_bucket{provider=~"$provider"}[$__rate_interval])))',
              legend: "{{provider}}",
            },
          ],
        }),
        lines({
          title: "Open exchanges",
          question: "How many requests are with a provider, and how many events wait for the ledger?",
          money: "none",
          unit: Short,
          width: 12,
          height: 8,
          queries: [
            { expr: "keymeter_open_requests", legend: "open" },
            { expr: "keymeter_ledger_waiting_settlements", legend: "waiting for the ledger" },
          ],
        }),
      ],
    },
    {
      title: "What is not exact",
      panels: [
        table({
          title: "Unpriced",
          question: "Which models have no price? Their money is missing everywhere.",
          money: "none",
          unit: Short,
          decimals: 0,
          width: 6,
          height: 8,
          labels: { model: { title: "Model" }, provider: { title: "Provider" } },
          queries: [
            { expr: "sum by (provider, model) (keymeter_unpriced_requests_total) > 0", legend: "Since the start" },
          ],
        }),
        table({
          title: "Priced by family",
          question: "Which models are priced by a family's entry instead of their own?",
          money: "none",
          unit: Short,
          decimals: 0,
          width: 6,
          height: 8,
          labels: { model: { title: "Model" }, provider: { title: "Provider" } },
          queries: [
            {
              expr: "sum by (provider, model) (keymeter_inferred_price_requests_total) > 0",
              legend: "Since the start",
            },
          ],
        }),
        table({
          title: "Estimated or unknown use",
          question: "For which attempts did the provider not state what was used?",
          money: "none",
          unit: Short,
          decimals: 0,
          width: 6,
          height: 8,
          labels: { model: { title: "Model" }, provider: { title: "Provider" } },
          queries: [
            {
              expr: "sum by (provider, model) (keymeter_estimated_requests_total + keymeter_unknown_usage_requests_total) > 0",
              legend: "Since the start",
            },
          ],
        }),
        stat({
          title: "Age of the price list",
          question: "How old are the prices that we meter by?",
          money: "none",
          unit: Seconds,
          limits: [2_592_000, 7_776_000],
          meaning: "Orange from 30 days, red from 90.",
          width: 6,
          height: 8,
          queries: [{ expr: "time() - keymeter_price_list_timestamp_seconds" }],
        }),
      ],
    },
  ],
});
