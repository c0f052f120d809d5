// Reconciliation: do metered and billed agree, why not, and up to when is it signed?
import { DatetimeISO, PercentUnit, Seconds, Short } from "@grafana/grafana-foundation-sdk/units";
import { dashboard } from "./dashboard.ts";
import { bars, compared, Dollars, stat, table } from "./panels.ts";

const PROVIDER = 'provider=~"$provider"';
/** Of days that have both: a day without a bill is not wrong, it is early. */
const METERED = `(keymeter_metered_usd{${PROVIDER}} and on (provider, day) keymeter_billed_usd)`;
const BILLED = `(keymeter_billed_usd{${PROVIDER}} and on (provider, day) keymeter_metered_usd)`;

export const reconciliation = dashboard({
  uid: "keymeter-reconciliation",
  title: "Reconciliation",
  from: "now-30d",
  variables: ["provider"],
  page: "bills",
  sections: [
    {
      title: "The last 62 days that have a bill",
      panels: [
        stat({
          title: "Billed",
          question: "What do the providers state?",
          money: "billed",
          unit: Dollars,
          decimals: 2,
          width: 5,
          height: 4,
          queries: [{ expr: `sum(keymeter_billed_usd{${PROVIDER}})` }],
        }),
        stat({
          title: "Billed minus metered",
          question: "By how much do the two differ?",
          money: "billed",
          unit: Dollars,
          decimals: 2,
          width: 5,
          height: 4,
          queries: [{ expr: `sum(${BILLED}) - sum(${METERED})` }],
        }),
        stat({
          title: "Difference of the bill",
          question: "How wrong are we, as a share of what is billed, either way?",
          money: "billed",
          unit: PercentUnit,
          decimals: 1,
          limits: [0.01, 0.03],
          meaning: "Green up to 1 %, red from 3 %.",
          width: 5,
          height: 4,
          queries: [{ expr: `abs(sum(${BILLED}) - sum(${METERED})) / sum(${BILLED})` }],
        }),
        stat({
          title: "Days signed off",
          question: "How many provider-days are closed?",
          money: "none",
          unit: Short,
          decimals: 0,
          width: 4,
          height: 4,
          queries: [{ expr: `count(keymeter_day_closed_timestamp_seconds{${PROVIDER}}) or vector(0)` }],
        }),
        stat({
          title: "Bill last read",
          question: "How old is what we know of the bills?",
          money: "none",
          unit: Seconds,
          limits: [10_800, 93_600],
          meaning: "Orange from 3 hours, red from 26: there an alert fires.",
          width: 5,
          height: 4,
          queries: [
            {
              expr: `time() - max by (provider) (keymeter_import_last_success_timestamp_seconds{${PROVIDER}})`,
              legend: "{{provider}}",
            },
          ],
        }),
      ],
    },
    {
      title: "Where and why",
      panels: [
        compared({
          title: "Metered and billed by day",
          question: "Do the two agree, for each UTC day that was compared?",
          money: "billed",
          unit: Dollars,
          decimals: 2,
          width: 16,
          height: 9,
          by: "day",
          queries: [
            { expr: `sum by (day) (${METERED})`, legend: "Metered" },
            { expr: `sum by (day) (${BILLED})`, legend: "Billed" },
          ],
        }),
        table({
          title: "Billed minus metered, by cause",
          question: "Why do they differ?",
          money: "billed",
          unit: Dollars,
          decimals: 2,
          width: 8,
          height: 9,
          labels: { cause: { title: "Cause" }, provider: { title: "Provider" } },
          queries: [{ expr: `sum by (cause, provider) (keymeter_variance_usd{${PROVIDER}})`, legend: "Difference" }],
        }),
        table({
          title: "Days",
          question: "Which days differ most? A day leads to its lines and their causes.",
          money: "billed",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 9,
          labels: {
            day: {
              title: "Day",
              link: {
                title: "Lines and causes",
                url: "${pages}/bill?day=${__value.raw}&provider=${__data.fields.Provider:percentencode}",
              },
            },
            provider: { title: "Provider" },
          },
          sortBy: "Day",
          values: { "Signed off": { unit: DatetimeISO } },
          queries: [
            { expr: `sum by (day, provider) (${METERED})`, legend: "Metered" },
            { expr: `sum by (day, provider) (${BILLED})`, legend: "Billed" },
            { expr: `sum by (day, provider) (${BILLED} - on (provider, day) ${METERED})`, legend: "Difference" },
            {
              expr: `max by (day, provider) (keymeter_day_closed_timestamp_seconds{${PROVIDER}}) * 1000`,
              legend: "Signed off",
            },
          ],
        }),
        bars({
          title: "The last day against its line",
          question: "How near is the last compared day to the difference that is worth an alert?",
          money: "billed",
          unit: PercentUnit,
          decimals: 0,
          limits: [0.5, 1],
          meaning: "Orange from half of it, red where the alert fires.",
          width: 12,
          height: 9,
          queries: [
            {
              expr: `sum by (provider) (keymeter_variance_day_usd{${PROVIDER}}) / sum by (provider) (keymeter_variance_day_limit_usd)`,
              legend: "{{provider}}",
            },
          ],
        }),
      ],
    },
    {
      title: "What the meter did not see",
      panels: [
        table({
          title: "Use that did not come through the proxy",
          question: "Which of the providers' keys are used past the meter, and for how much?",
          money: "billed",
          unit: Dollars,
          decimals: 2,
          width: 12,
          height: 8,
          labels: {
            billed_key: { title: "The provider's key" },
            provider: { title: "Provider" },
            kind: { title: "What" },
          },
          queries: [
            { expr: `sum by (billed_key, provider, kind) (keymeter_leak_usd{${PROVIDER}})`, legend: "At list prices" },
          ],
        }),
        table({
          title: "Prices that differ from the bill",
          question: "Which prices does the bill show to be other than ours? 1 is ours.",
          money: "billed",
          unit: Short,
          decimals: 3,
          width: 12,
          height: 8,
          labels: { model: { title: "Model" }, unit: { title: "Unit" }, provider: { title: "Provider" } },
          queries: [
            {
              expr: `sum by (model, unit, provider) (keymeter_observed_price_ratio{${PROVIDER}})`,
              legend: "Billed over ours",
            },
          ],
        }),
      ],
    },
  ],
});
