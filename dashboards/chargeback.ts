// Chargeback: who will pay what this month, and how final that is. The sheet to sign is a report page.
import { Short } from "@grafana/grafana-foundation-sdk/units";
import { CHOSEN, dashboard } from "./dashboard.ts";
import { dayBars, Dollars, ofDays, stat, table } from "./panels.ts";

export const chargeback = dashboard({
  uid: "keymeter-chargeback",
  title: "Chargeback",
  from: "now/M",
  variables: ["team", "project", "env", "provider", "model", "key"],
  page: "chargeback",
  sections: [
    {
      title: "This month so far",
      panels: [
        stat({
          title: "To be charged so far",
          question: "What was metered this month for what is chosen above?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 8,
          height: 4,
          queries: [{ expr: `sum(keymeter_breakdown_usd{window="month", ${CHOSEN}})` }],
        }),
        stat({
          title: "Owners",
          question: "How many teams share it?",
          money: "none",
          unit: Short,
          decimals: 0,
          width: 8,
          height: 4,
          queries: [
            { expr: `count(sum by (team) (keymeter_breakdown_usd{window="month", ${CHOSEN}}) > 0) or vector(0)` },
          ],
        }),
        stat({
          title: "To be shared out, last 62 days",
          question: "How much do bills have more than was metered, which owners will carry in proportion?",
          money: "billed",
          unit: Dollars,
          decimals: 2,
          width: 8,
          height: 4,
          queries: [{ expr: 'sum(keymeter_variance_usd{provider=~"$provider"}) or vector(0)' }],
        }),
        table({
          title: "By owner",
          question:
            "What does each owner's use come to? A team leads to its page; the sheet of a whole month, to be printed and signed, is the report page.",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 24,
          height: 10,
          labels: {
            team: {
              title: "Team",
              link: { title: "Report page", url: "${pages}/team?id=${__value.raw:percentencode}" },
            },
            project: { title: "Project" },
            env: { title: "Environment" },
          },
          values: { Requests: { unit: Short, decimals: 0 } },
          queries: [
            {
              expr: `sum by (team, project, env) (keymeter_breakdown_usd{window="month", ${CHOSEN}})`,
              legend: "This month",
            },
            {
              expr: `sum by (team, project, env) (keymeter_breakdown_requests{window="month", ${CHOSEN}})`,
              legend: "Requests",
            },
          ],
        }),
      ],
    },
    {
      title: "The year",
      panels: [
        dayBars({
          title: "Spend by day and team",
          question: "How did each team's spend develop?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 24,
          height: 9,
          days: 366,
          queries: [
            { expr: ofDays('scope="team", id=~"$team"'), legend: "{{id}}" },
            {
              expr: `sum(${ofDays('scope="org"')}) - sum(${ofDays('scope="team"')})`,
              legend: "(no team)",
            },
          ],
        }),
      ],
    },
  ],
});
