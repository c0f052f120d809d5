// Whether what tags name counts in budgets, written down for all who read.
import type { Budget } from "../../budgets.ts";
import { doTagsCount, settledIn } from "../budget-spend.ts";
import { budgetsIn } from "../changes.ts";
import type { Sqlite } from "../../sqlite.ts";
import type { Calendar } from "../../windows.ts";

/** Returns the budgets that had counted it in their window of now, and do no longer. */
export function rememberTagsCount(database: Sqlite, tagsCount: boolean, calendar: Calendar, nowMs: number): Budget[] {
  const losing =
    tagsCount || !doTagsCount(database)
      ? []
      : budgetsIn(database).filter((budget) => {
          const window = calendar.window(budget.window, nowMs);
          return settledIn(database, budget, window, true) !== settledIn(database, budget, window, false);
        });
  database
    .prepare("INSERT OR REPLACE INTO meta (name, value) VALUES ('tags_in_budgets', ?)")
    .run(tagsCount ? "1" : "0");
  return losing;
}
