// Whether what tags name counts in budgets, written down for all who read.
import type { Budget } from "../../budgets.ts";
import { answerFrom } from "../../asking.ts";
import { askMembers, askSettled, askTagsCount } from "../budget-spend.ts";
import { askBudgets } from "../changes.ts";
import type { Sqlite } from "../../sqlite.ts";
import type { Calendar } from "../../windows.ts";

/** Returns the budgets that had counted it in their window of now, and do no longer. */
export function rememberTagsCount(database: Sqlite, tagsCount: boolean, calendar: Calendar, nowMs: number): Budget[] {
  const losing =
    tagsCount || !answerFrom(database, askTagsCount())
      ? []
      : answerFrom(database, askBudgets()).filter((budget) => {
          const window = calendar.window(budget.window, nowMs);
          const settled = (counts: boolean): bigint =>
            budget.each === undefined
              ? answerFrom(database, askSettled(budget, window, counts))
              : [...answerFrom(database, askMembers(budget, window, counts)).values()].reduce((a, b) => a + b, 0n);
          return settled(true) !== settled(false);
        });
  database
    .prepare("INSERT OR REPLACE INTO meta (name, value) VALUES ('tags_in_budgets', ?)")
    .run(tagsCount ? "1" : "0");
  return losing;
}
