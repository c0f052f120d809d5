// What approves a raise that was asked for: the answer and the raise, in one change.
import { randomBytes } from "node:crypto";
import type { NanoUsd } from "../money.ts";
import type { AskedRaise } from "./asked-raises.ts";
import type { Change } from "./changes.ts";

/** The change that approves it: the answer and its raise, or neither. */
export function approvalOf(
  asked: Pick<AskedRaise, "id" | "budgetId" | "why">,
  { amountNanoUsd, untilMs }: { readonly amountNanoUsd: NanoUsd; readonly untilMs: number },
  nowMs: number,
): { readonly change: Change; readonly raiseId: string } {
  const raiseId = `rai_${randomBytes(5).toString("hex")}`;
  const raise = {
    id: raiseId,
    budgetId: asked.budgetId,
    amountNanoUsd,
    reason: `${asked.id}: ${asked.why}`.slice(0, LONGEST_REASON),
    createdAtMs: nowMs,
    untilMs,
  };
  return {
    raiseId,
    change: {
      type: "together",
      changes: [
        { type: "answerAsk", askId: asked.id, answer: "approved" },
        { type: "raiseBudget", raise },
      ],
    },
  };
}

const LONGEST_REASON = 200;
