// POST /keymeter/ask: the holder of a key asks for more money in a budget. Nothing is raised by that: whoever runs Keymeter
// reads it (command, Slack, pages) and answers.
import { randomBytes } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { describeBudgetScope } from "../ledger/budgets.ts";
import type { BudgetState } from "../ledger/budgets.ts";
import { parseUsd } from "../ledger/money.ts";
import { ChangeRefused } from "../ledger/usage/change-refused.ts";
import { LedgerUnavailable } from "../ledger/usage/writer.ts";
import { statesFor } from "./me.ts";
import { Refused } from "./refusals.ts";
import type { ProxyContext } from "./context.ts";
import type { Key } from "../ledger/usage/keys.ts";

const MOST_BYTES = 4_096;
/** Whoever needs more talks to somebody. */
const MOST_USD = 1_000_000;

const asking = z.strictObject({
  amount: z
    .union([z.string(), z.number().transform(String)])
    .refine((text) => /^\d{1,7}(\.\d{1,2})?$/.test(text) && Number(text) > 0 && Number(text) <= MOST_USD, {
      error: "an amount of USD, such as 20 or 12.50",
    }),
  why: z
    .string()
    .trim()
    .min(3, "a few words")
    .max(300, "300 characters at most")
    .regex(/^\P{Cc}*$/u, "one line"),
  budget: z.string().max(1_000).optional(),
});

/** Answers with what was asked: `id`, `budgetId`, `scope`, `amountUsd`. */
export async function answerAsk(
  context: Pick<ProxyContext, "writer" | "people" | "log">,
  request: FastifyRequest,
  reply: FastifyReply,
  key: Key,
): Promise<void> {
  if (request.method !== "POST") throw new Refused("not_metered", "/keymeter/ask is asked with POST");
  const given = readBody(request.body);
  const parsed = asking.safeParse(given);
  if (!parsed.success)
    throw new Refused(
      "bad_body",
      `{"amount": 20, "why": "...", "budget": "optional"}: ${parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ")}`,
    );
  const { amount, why, budget: budgetId } = parsed.data;
  const state = chosen(await statesFor(context, key), budgetId);
  const id = `ask_${randomBytes(5).toString("hex")}`;
  const asked = {
    id,
    keyId: key.id,
    budgetId: state.budget.id,
    amountNanoUsd: parseUsd(amount),
    why,
    createdAtMs: Date.now(),
  };
  try {
    await context.writer.change({ type: "askRaise", asked }, `key:${key.id}`);
  } catch (error) {
    if (error instanceof ChangeRefused) throw new Refused("rate_limited", error.message, { status: 409 });
    if (error instanceof LedgerUnavailable)
      throw new Refused("ledger_unavailable", "the ledger cannot be written now; ask again shortly");
    throw error;
  }
  const scope = describeBudgetScope(state.budget, (one) => (one === key.id ? key.name : context.people.nameOf(one)));
  const told = { id, budgetId: state.budget.id, scope, window: state.budget.window, amountUsd: amount, why };
  const body = JSON.stringify(told);
  reply.raw
    .writeHead(201, [
      "content-type",
      "application/json",
      "cache-control",
      "no-store",
      "content-length",
      String(Buffer.byteLength(body)),
    ])
    .end(body);
}

function readBody(body: unknown): unknown {
  if (!Buffer.isBuffer(body) || body.length > MOST_BYTES) return undefined;
  try {
    return JSON.parse(body.toString("utf8")) as unknown;
  } catch {
    return undefined;
  }
}

/** The one that is named; else the hard budget that is nearest its end. */
function chosen(states: readonly BudgetState[], budgetId: string | undefined): BudgetState {
  const left = ({ amountNanoUsd, settledNanoUsd, reservedNanoUsd }: BudgetState): bigint =>
    amountNanoUsd - settledNanoUsd - reservedNanoUsd;
  const named = budgetId === undefined ? undefined : states.find(({ budget }) => budget.id === budgetId);
  if (budgetId !== undefined && !named)
    throw new Refused("bad_body", `budget: ${budgetId.slice(0, 100)} does not hold for this key`);
  const [nearest] = states
    .filter(({ budget }) => budget.kind === "hard")
    .toSorted((a, b) => (left(a) < left(b) ? -1 : 1));
  const found = named ?? nearest;
  if (!found) throw new Refused("bad_body", "no hard budget holds for this key: there is nothing to raise");
  return found;
}
