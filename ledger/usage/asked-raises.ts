// More money that the holder of a key asks for: a row until somebody answers, and then with the answer. What is approved is a
// raise like any other.
import { answerIn, ask, askValue } from "../asking.ts";
import type { Asking } from "../asking.ts";
import type { UsageBooks } from "../books.ts";
import type { NanoUsd } from "../money.ts";
import { ChangeRefused } from "./change-refused.ts";

export type AskedRaise = {
  readonly id: string;
  readonly keyId: string;
  /** A budget, or the cap of a rule's member. */
  readonly budgetId: string;
  readonly amountNanoUsd: NanoUsd;
  readonly why: string;
  readonly createdAtMs: number;
};

export type AnsweredRaise = AskedRaise & {
  readonly answer: "approved" | "refused" | undefined;
  readonly answeredAtMs: number | undefined;
  readonly answeredBy: string | undefined;
};

/** Of one key, that nobody has answered. */
export const MOST_OPEN = 3;

export const ASKED_ENOUGH = `${MOST_OPEN} times this key has asked already, and nobody has answered yet`;

export function* insertAsked({ id, keyId, budgetId, amountNanoUsd, why, createdAtMs }: AskedRaise): Asking<void> {
  const open = yield* askValue<bigint>("SELECT COUNT(*) FROM asked_raises WHERE key_id = ? AND answer IS NULL", keyId);
  if (Number(open ?? 0) >= MOST_OPEN) throw new ChangeRefused(ASKED_ENOUGH);
  yield* ask(
    `INSERT INTO asked_raises (id, key_id, budget_id, amount_nano_usd, why, created_at_ms) VALUES (?, ?, ?, ?, ?, ?)`,
    id,
    keyId,
    budgetId,
    amountNanoUsd,
    why,
    createdAtMs,
  );
}

/** Throws ChangeRefused where nobody asked that, or somebody has answered. */
export function* answerAsked(id: string, answer: "approved" | "refused", by: string, atMs: number): Asking<void> {
  const [row] = yield* ask<[answer: string | null, by: string | null]>(
    "SELECT answer, answered_by FROM asked_raises WHERE id = ?",
    id,
  );
  if (!row) throw new ChangeRefused(`nobody asked ${id}; \`keymeter asks list\` shows what was asked`);
  if (row[0] !== null) throw new ChangeRefused(`${id} was ${row[0]} already, by ${row[1]}`);
  yield* ask(
    "UPDATE asked_raises SET answer = ?, answered_by = ?, answered_at_ms = ? WHERE id = ?",
    answer,
    by,
    atMs,
    id,
  );
}

/** What was asked of a budget is asked of the one that takes its place. */
export function* moveAsked(from: string, to: string): Asking<void> {
  yield* ask(
    `UPDATE asked_raises SET budget_id = ? || substr(budget_id, ${from.length + 1}) WHERE budget_id = ? OR substr(budget_id, 1, ${from.length + 1}) = ?`,
    to,
    from,
    `${from}/`,
  );
}

/** What was asked since an instant, and what nobody has answered, whenever it was; the newest first. `keyId`: by that key. */
export async function readAskedRaises(books: UsageBooks, sinceMs: number, keyId?: string): Promise<AnsweredRaise[]> {
  const rows = await answerIn(
    books,
    ask<[string, string, string, bigint, string, bigint, "approved" | "refused" | null, bigint | null, string | null]>(
      `SELECT id, key_id, budget_id, amount_nano_usd, why, created_at_ms, answer, answered_at_ms, answered_by FROM asked_raises
      WHERE (answer IS NULL OR created_at_ms >= ?)${keyId === undefined ? "" : " AND key_id = ?"} ORDER BY created_at_ms DESC, id`,
      sinceMs,
      ...(keyId === undefined ? [] : [keyId]),
    ),
  );
  return rows.map(([id, keyId, budgetId, amountNanoUsd, why, createdAtMs, answer, answeredAtMs, answeredBy]) => ({
    id,
    keyId,
    budgetId,
    amountNanoUsd,
    why,
    createdAtMs: Number(createdAtMs),
    answer: answer ?? undefined,
    answeredAtMs: answeredAtMs === null ? undefined : Number(answeredAtMs),
    answeredBy: answeredBy ?? undefined,
  }));
}
