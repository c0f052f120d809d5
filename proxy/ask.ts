// POST /keymeter/ask: the holder of a key asks for more money in a budget. Nothing is raised by that: whoever runs Keymeter
// reads it (command, Slack, pages) and answers.
import { randomBytes } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { describeBudgetScope } from "../ledger/budgets.ts";
import type { BudgetState } from "../ledger/budgets.ts";
import { parseUsd } from "../ledger/money.ts";
import { ASKED_ENOUGH, MOST_OPEN, readAskedRaises } from "../ledger/usage/asked-raises.ts";
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
    .union([z.string(), z.number().transform(String)], { error: "an amount of USD is missing, such as 20" })
    .refine((text) => /^\d{1,7}(\.\d{1,2})?$/.test(text) && Number(text) > 0 && Number(text) <= MOST_USD, {
      error: "an amount of USD, such as 20 or 12.50",
    }),
  why: z
    .string()
    .trim()
    .min(3, "a few words")
    .max(300, "300 characters at most")
    .regex(/^\P{Cc}*$/u, "one line"),
  budget: z.string().max(3_000).optional(),
});

/** Answers with what was asked: `id`, `budgetId`, `scope`, `window`, `amountUsd`; 400 or 409 with words where it cannot be. */
export async function answerAsk(
  context: Pick<ProxyContext, "writer" | "people" | "books">,
  request: FastifyRequest,
  reply: FastifyReply,
  key: Key,
): Promise<void> {
  if (request.method !== "POST") throw new Refused("not_metered", "/keymeter/ask is asked with POST");
  const { status, body } = await ask(context, key, readBody(request.body));
  const text = JSON.stringify(body);
  reply.raw
    .writeHead(status, [
      "content-type",
      "application/json",
      "cache-control",
      "no-store",
      "content-length",
      String(Buffer.byteLength(text)),
    ])
    .end(text);
}

type Answer = { readonly status: number; readonly body: object };

/** What is wrong with it is no refusal of a request to a provider: it is counted nowhere. */
const declined = (status: number, message: string): Answer => ({ status, body: { error: { message } } });

async function ask(
  { writer, people, books }: Pick<ProxyContext, "writer" | "people" | "books">,
  key: Key,
  given: unknown,
): Promise<Answer> {
  if (given === undefined) return declined(400, `the body is no JSON of at most ${MOST_BYTES} bytes; ${FORM}`);
  const parsed = asking.safeParse(given);
  if (!parsed.success)
    return declined(
      400,
      `${parsed.error.issues.map(({ path, message }) => `${path.join(".") || "the body"}: ${message}`).join("; ")}. ${FORM}`,
    );
  const { amount, why, budget: budgetId } = parsed.data;
  // Looked at before the register is locked for it: whoever asks again and again holds nobody up.
  const nowMs = Date.now();
  const open = (await readAskedRaises(books, nowMs, key.id)).filter(({ answer }) => answer === undefined);
  if (open.length >= MOST_OPEN) return declined(409, ASKED_ENOUGH);
  const state = chosen(await statesFor({ writer }, key), budgetId);
  if (!state)
    return declined(
      400,
      budgetId === undefined
        ? "no hard budget holds for this key: there is nothing to raise"
        : `budget: ${budgetId.slice(0, 100)} does not hold for this key; /keymeter/me shows those that do`,
    );
  const { id: ofBudget, window } = state.budget;
  const id = `ask_${randomBytes(5).toString("hex")}`;
  const asked = {
    id,
    keyId: key.id,
    budgetId: ofBudget,
    amountNanoUsd: parseUsd(amount),
    why,
    createdAtMs: nowMs,
  };
  try {
    await writer.change({ type: "askRaise", asked }, `key:${key.id}`);
  } catch (error) {
    if (error instanceof ChangeRefused) return declined(409, error.message);
    if (error instanceof LedgerUnavailable)
      throw new Refused("ledger_unavailable", "the ledger cannot be written now; ask again shortly");
    throw error;
  }
  const scope = describeBudgetScope(state.budget, (one) => (one === key.id ? key.name : people.nameOf(one)));
  return { status: 201, body: { id, budgetId: ofBudget, scope, window, amountUsd: amount, why } };
}

const FORM = 'Such as {"amount": 20, "why": "the release"}, and "budget" with an id where it is about another one';

function readBody(body: unknown): unknown {
  if (!Buffer.isBuffer(body) || body.length > MOST_BYTES) return undefined;
  try {
    return JSON.parse(body.toString("utf8")) as unknown;
  } catch {
    return undefined;
  }
}

/** The one that is named; else the hard budget that is nearest its end. */
function chosen(states: readonly BudgetState[], budgetId: string | undefined): BudgetState | undefined {
  if (budgetId !== undefined) return states.find(({ budget }) => budget.id === budgetId || budget.ruleId === budgetId);
  const left = ({ amountNanoUsd, settledNanoUsd, reservedNanoUsd }: BudgetState): bigint =>
    amountNanoUsd - settledNanoUsd - reservedNanoUsd;
  return states.filter(({ budget }) => budget.kind === "hard").toSorted((a, b) => (left(a) < left(b) ? -1 : 1))[0];
}
