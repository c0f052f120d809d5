// Chargeback: who will pay what this month, and how final that is. The sheet to sign is a report page.
import { CHOSEN, dashboard } from "./dashboard.ts";
import { Count, dayBars, Dollars, ofDays, stat, table } from "./panels.ts";

export const chargeback = dashboard({
  uid: "keymeter-chargeback",
  title: "Chargeback",
  from: "now-30d",
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
          empty: "Nothing was spent this month yet",
          queries: [{ expr: `sum(keymeter_breakdown_usd{window="month", ${CHOSEN}})` }],
        }),
        stat({
          title: "Teams that share it",
          question: "How many teams share it? What belongs to no team is one row below.",
          money: "none",
          unit: Count,
          decimals: 0,
          width: 8,
          height: 4,
          empty: "No data from the collector",
          queries: [
            {
              expr: `count(sum by (team) (keymeter_breakdown_usd{window="month", team!="", ${CHOSEN}}) > 0) or vector(0)`,
            },
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
          empty: "No data from the collector",
          queries: [
            { expr: 'sum(keymeter_variance_usd{provider=~"$provider",cause!="before the meter"}) or vector(0)' },
          ],
        }),
        table({
          title: "Who is charged what?",
          question:
            "What does each owner's use come to? A team leads to its page; the sheet of a whole month, to be printed and signed, is the report page.",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 24,
          height: 10,
          empty: "Nothing was spent this month yet",
          labels: {
            team: {
              title: "Team",
              link: { title: "Report page", url: "${pages}/team?id=${__value.raw:percentencode}" },
            },
            project: { title: "Project" },
            env: { title: "Environment" },
          },
          values: { Requests: { unit: Count, decimals: 0 } },
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
          title: "How did each team's spend develop?",
          question: "What did each team spend, day by day, in the last year?",
          money: "metered",
          unit: Dollars,
          decimals: 2,
          width: 24,
          height: 9,
          days: 366,
          empty: "No whole day of spend yet: the first stands here tomorrow",
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
