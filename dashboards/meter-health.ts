// Meter health: is the meter running, does it lose anything, is it in anybody's way?
import { RequestsPerSecond, Seconds, Short } from "@grafana/grafana-foundation-sdk/units";
import { dashboard, lines, stat, table } from "./panels.ts";

export const meterHealth = dashboard("keymeter-meter-health", "Keymeter / Meter health", "now-6h", [
  {
    title: "Is it running?",
    panels: [
      stat({
        title: "Programs up",
        question: "Do proxy, collector and alerts answer?",
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
        question: "How old are the figures on the finance dashboard?",
        money: "none",
        unit: Seconds,
        limits: [60, 120],
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
        width: 6,
        height: 4,
        queries: [{ expr: "keymeter_outbox_deliveries" }],
      }),
    ],
  },
  {
    title: "Traffic",
    panels: [
      lines({
        title: "Attempts by outcome",
        question: "How much traffic is there, and how does it end?",
        money: "none",
        unit: RequestsPerSecond,
        stacked: true,
        width: 12,
        height: 8,
        queries: [
          { expr: "sum by (outcome) (rate(keymeter_requests_total[$__rate_interval]))", legend: "{{outcome}}" },
        ],
      }),
      lines({
        title: "Refused before any byte went upstream",
        question: "Whom do we refuse, and why?",
        money: "none",
        unit: RequestsPerSecond,
        stacked: true,
        width: 12,
        height: 8,
        queries: [{ expr: "sum by (reason) (rate(keymeter_refused_total[$__rate_interval]))", legend: "{{reason}}" }],
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
            expr: "histogram_quantile(0.95, sum by (provider, le) (rate(keymeter_first_byte_seconds_bucket[$__rate_interval])))",
            legend: "{{provider}}",
          },
        ],
      }),
      lines({
        title: "Open exchanges",
        question: "How many requests are with a provider right now?",
        money: "none",
        unit: Short,
        width: 12,
        height: 8,
        queries: [{ expr: "keymeter_open_requests" }],
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
        width: 8,
        height: 8,
        queries: [{ expr: "sum by (provider, model) (keymeter_unpriced_requests_total) > 0" }],
      }),
      table({
        title: "Priced by family",
        question: "Which models are priced by a family's entry instead of their own?",
        money: "none",
        unit: Short,
        width: 8,
        height: 8,
        queries: [{ expr: "sum by (provider, model) (keymeter_inferred_price_requests_total) > 0" }],
      }),
      table({
        title: "Estimated or unknown use",
        question: "For which attempts did the provider not state what was used?",
        money: "none",
        unit: Short,
        width: 8,
        height: 8,
        queries: [
          {
            expr: "sum by (provider, model) (keymeter_estimated_requests_total + keymeter_unknown_usage_requests_total) > 0",
          },
        ],
      }),
    ],
  },
]);
