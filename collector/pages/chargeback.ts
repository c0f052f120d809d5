// Chargeback: a month's money by owner, to be printed and signed.
import { refreshMetered } from "../../ledger/billing/metered.ts";
import { addDays } from "../../ledger/windows.ts";
import { OWNERS } from "../chargeback.ts";
import type { Owner } from "../chargeback.ts";
import { reportChargeback } from "../reports.ts";
import type { PageContext, Query } from "./builder.ts";
import { count, share, sum, text, usd } from "./page.ts";
import type { Cell, Page } from "./page.ts";

const MONTHS = 13;
const BREAKDOWNS: readonly (readonly Owner[])[] = [
  ["team"],
  ["team", "project"],
  ["team", "feature"],
  ["team", "project", "env"],
  ["team", "user"],
  ["user"],
  ["team", "key"],
  [...OWNERS],
];
const USUAL: readonly Owner[] = ["team", "project"];

export async function chargeback(context: PageContext, query: Query): Promise<Page | undefined> {
  const thisMonth = new Date(context.nowMs).toISOString().slice(0, 7);
  const months = [thisMonth];
  while (months.length < MONTHS) months.push(addDays(`${months.at(-1)}-01`, -1).slice(0, 7));
  const month = query["month"] ?? months[1] ?? thisMonth;
  if (!/^\d{4}-(0[1-9]|1[0-2])$/.test(month) || month > thisMonth) return undefined;
  const by = BREAKDOWNS.find((owners) => owners.join(",") === query["by"]) ?? USUAL;
  const until = `${addDays(`${month}-01`, 31).slice(0, 7)}-01`;
  // Days that have moved are folded once, and kept: the report reads what is kept.
  await refreshMetered(context.books, `${month}-01`, until, context.nowMs);
  const { charges, closedDays, openDays } = await reportChargeback(context.books, month, by, () => undefined);
  // In its first month Keymeter has nothing to charge for the last one.
  if (query["month"] === undefined && charges.length === 0 && month !== thisMonth)
    return chargeback(context, { ...query, month: thisMonth });
  const money = openDays === 0 && closedDays > 0 ? "closed" : "metered";
  const total = sum(charges.map((one) => one.totalNanoUsd));
  return {
    title: "Chargeback",
    subject: month,
    isSigned: true,
    controls: [
      {
        name: "month",
        label: "Month",
        value: month,
        options: [...new Set([...months, month])].map((value) => ({ value, label: value })),
      },
      {
        name: "by",
        label: "By",
        value: by.join(","),
        options: BREAKDOWNS.map((owners) => ({ value: owners.join(","), label: owners.join(", ") })),
      },
    ],
    days: "UTC",
    focus: { since: `${month}-01`, until },
    sections: [
      {
        title: "The month",
        question: "Is it final?",
        money,
        figures: [
          { title: "To be charged", value: usd(total), money },
          {
            title: "Provider-days signed off",
            value: count(closedDays),
            money: "none",
            note: "A day of one provider, as it bills it.",
          },
          {
            title: "Provider-days not signed off",
            value: count(openDays),
            money: "none",
            ...(openDays === 0 ? {} : { note: "Metered only: what their bills have more or less is not in it yet." }),
          },
        ],
      },
      {
        title: "Who pays",
        question: "What does each owner pay, and how much of it was shared out?",
        money,
        table: {
          name: "charges",
          columns: [
            ...by.map((owner) => ({
              field: owner,
              title: owner === "env" ? "Environment" : `${owner.charAt(0).toUpperCase()}${owner.slice(1)}`,
              is: "text" as const,
            })),
            { field: "metered", title: "Metered", is: "usd" },
            { field: "shared", title: "Shared out", is: "usd" },
            { field: "total", title: "To be charged", is: "usd" },
            { field: "part", title: "Share", is: "share" },
          ],
          rows: charges.map((one): Cell[] => [
            ...one.owner.map((name) => text(name === "" ? "(none)" : name)),
            usd(one.meteredNanoUsd),
            usd(one.sharedNanoUsd),
            usd(one.totalNanoUsd),
            share(one.totalNanoUsd, total),
          ]),
          total: [
            text("All"),
            ...by.slice(1).map(() => text("")),
            usd(sum(charges.map((one) => one.meteredNanoUsd))),
            usd(sum(charges.map((one) => one.sharedNanoUsd))),
            usd(total),
            share(total, total),
          ],
          empty: "Nothing was metered in this month, and no day of it is signed.",
        },
        notes: [
          "UTC days, as on bills. Shared out: what a provider's bill has more or less than was metered there (fees, tax, credits, other prices, use round the proxy), in proportion to each owner's metered cost with that provider. In FOCUS files that part stands in rows without a team, so sums by team are smaller there.",
        ],
      },
    ],
  };
}
