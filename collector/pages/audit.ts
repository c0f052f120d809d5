// The audit: who changed what, the newest first.
import { readAudit } from "../../ledger/usage/audit.ts";
import type { PageContext, Query } from "./builder.ts";
import { count, text, time } from "./page.ts";
import type { Page } from "./page.ts";

const MOST = 200;

export async function audit({ books }: PageContext, query: Query): Promise<Page> {
  const before = /^\d{1,12}$/.test(query["before"] ?? "") ? Number(query["before"]) : undefined;
  const records = await readAudit(books.usage, MOST, before);
  const oldest = records.at(-1)?.seq ?? 1;
  return {
    title: "Audit",
    days: "local",
    sections: [
      {
        title: "Changes",
        question: "Who changed what?",
        money: "none",
        ...(oldest > 1
          ? {
              figures: [
                {
                  title: "Older ones",
                  value: text("Records before these", { page: "audit", query: { before: String(oldest) } }),
                  money: "none" as const,
                },
              ],
            }
          : {}),
        table: {
          name: "audit",
          columns: [
            { field: "record", title: "Record", is: "count" },
            { field: "at", title: "When", is: "time" },
            { field: "who", title: "Who", is: "text" },
            { field: "what", title: "What", is: "text" },
            { field: "of", title: "Of", is: "text" },
            { field: "detail", title: "Detail", is: "text" },
          ],
          rows: records.map(({ seq, atMs, actor, action, subject, detail }) => [
            count(seq),
            time(atMs),
            text(actor),
            text(action),
            text(subject),
            text(detail),
          ]),
          empty: "Nothing was changed yet.",
        },
        notes: ["Each record is bound to the one before it; `keymeter verify` looks whether the chain is whole."],
      },
    ],
  };
}
