// Reconciliation: do metered and billed agree, why not, and up to when is it signed?
import { PercentUnit, Seconds } from "@grafana/grafana-foundation-sdk/units";
import { dashboard } from "./dashboard.ts";
import { bars, Count, Day, Dollars, inWords, ofLabelledDays, stat, table } from "./panels.ts";

const PROVIDER = 'provider=~"$provider"';
/** Of days that have both: a day without a bill is not wrong, it is early. */
const METERED = `(keymeter_metered_usd{${PROVIDER}} and on (provider, day) keymeter_billed_usd)`;
const BILLED = `(keymeter_billed_usd{${PROVIDER}} and on (provider, day) keymeter_metered_usd)`;
const NO_BILL = "No bill was read yet";

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
          empty: NO_BILL,
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
          empty: NO_BILL,
          queries: [{ expr: `sum(${BILLED}) - sum(${METERED})` }],
        }),
        stat({
          title: "Difference as a share of the bill",
          question: "How wrong are we, as a share of what is billed, either way?",
          money: "billed",
          unit: PercentUnit,
          decimals: 1,
          limits: [0.01, 0.03],
          meaning: "Green up to 1 %, red from 3 %.",
          width: 5,
          height: 4,
          empty: NO_BILL,
          queries: [{ expr: `abs(sum(${BILLED}) - sum(${METERED})) / sum(${BILLED})` }],
        }),
        stat({
          title: "Bills signed off",
          question: "How many days are closed, each provider's by itself?",
          money: "none",
          unit: Count,
          decimals: 0,
          width: 3,
          height: 4,
          empty: "No data from the collector",
          queries: [{ expr: `count(keymeter_day_closed_timestamp_seconds{${PROVIDER}}) or vector(0)` }],
        }),
        stat({
          title: "How long ago were bills read?",
          question: "How old is what we know of the bills? Empty until the collector has a key for them.",
          money: "none",
          unit: Seconds,
          decimals: 0,
          limits: [10_800, 93_600],
          meaning: "Orange from 3 hours, red from 26: there an alert fires.",
          width: 6,
          height: 4,
          empty: "No bills are read",
          queries: [
            {
              expr: `time() - max by (provider) (keymeter_import_last_success_timestamp_seconds{${PROVIDER}} > 0)`,
              legend: "{{provider}}",
            },
          ],
        }),
      ],
    },
    {
      title: "Where and why",
      panels: [
        ofLabelledDays({
          title: "Do metered and billed agree, day by day?",
          question: "What was billed and what was metered, for each UTC day that was compared?",
          money: "billed",
          unit: Dollars,
          decimals: 2,
          width: 14,
          height: 10,
          days: 62,
          empty: NO_BILL,
          queries: [
            { expr: `sum by (day) (${BILLED})`, legend: "Billed" },
            { expr: `sum by (day) (${METERED})`, legend: "Metered" },
          ],
        }),
        table({
          title: "Why do they differ?",
          question: "Which causes does the difference have, and at whom?",
          money: "billed",
          unit: Dollars,
          decimals: 2,
          meaning:
            "Above zero more was billed. Before the meter: the bill of the day on which the meter began is of all of that day. Late: it will be billed yet. Unknown: look at the day's lines.",
          width: 10,
          height: 10,
          empty: "Nothing differs, or no bill was read yet",
          labels: { cause: { title: "Cause" }, provider: { title: "Provider", width: 130 } },
          queries: [{ expr: `sum by (cause, provider) (keymeter_variance_usd{${PROVIDER}})`, legend: "Difference" }],
        }),
        table({
          title: "Which bills are signed off?",
          question:
            "What is the difference of each provider's day, and is it signed off? A day leads to its lines and their causes.",
          money: "billed",
          unit: Dollars,
          decimals: 2,
          width: 14,
          height: 10,
          empty: NO_BILL,
          labels: {
            day: {
              title: "Day",
              link: {
                title: "Lines and causes",
                url: "${pages}/bill?day=${__value.raw}&provider=${__data.fields.Provider:percentencode}",
              },
            },
            provider: { title: "Provider", width: 130 },
          },
          sortBy: "Day",
          values: { "Signed off": { unit: Day, empty: "not yet" } },
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
          title: "Is the last day's difference worth an alert?",
          question: "How near is the last compared day to the difference that is worth an alert?",
          money: "billed",
          unit: PercentUnit,
          decimals: 0,
          limits: [0.5, 1],
          meaning: "Orange from half of it, red where the alert fires.",
          width: 10,
          height: 10,
          empty: NO_BILL,
          queries: [
            {
              expr: `sum by (provider) (keymeter_variance_day_usd{${PROVIDER}}) / sum by (provider) (keymeter_variance_day_line_usd)`,
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
          title: "What went past the meter?",
          question: "Which of the providers' keys are used without the proxy, and for how much?",
          money: "billed",
          unit: Dollars,
          decimals: 2,
          width: 14,
          height: 7,
          empty: "Nothing in the last 30 hours that we know of",
          labels: {
            billed_key: { title: "The provider's key" },
            provider: { title: "Provider", width: 130 },
            kind: {
              title: "What",
              words: { unknown_key: "never metered", beyond_metered: "more than was metered" },
            },
          },
          queries: [
            { expr: `sum by (billed_key, provider, kind) (keymeter_leak_usd{${PROVIDER}})`, legend: "At list prices" },
          ],
        }),
        table({
          title: "Which prices differ from the bill?",
          question: "Which prices does the bill show to be other than ours? 1 is ours.",
          money: "billed",
          unit: Count,
          decimals: 3,
          width: 10,
          height: 7,
          empty: "None: bills of the last 7 days show the prices that we meter by",
          labels: {
            model: { title: "Model" },
            unit: { title: "Unit" },
            provider: { title: "Provider" },
          },
          queries: [
            {
              expr: inWords(`sum by (model, unit, provider) (keymeter_observed_price_ratio{${PROVIDER}})`, "unit"),
              legend: "Billed over ours",
            },
          ],
        }),
      ],
    },
  ],
});
