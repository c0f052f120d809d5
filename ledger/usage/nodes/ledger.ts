// What a node's bookings share: memory as the books had it, its parts of windows, and the rows of the batch that is
// gathered. Attempts that are not this node's, of work or of a node that was given up, are booked in the parts of whose
// they were.
import { attemptAtMs } from "../../ids.ts";
import type { AttemptId } from "../../ids.ts";
import { findBudget } from "../../budgets.ts";
import type { Budget, Subject } from "../../budgets.ts";
import type { NanoUsd } from "../../money.ts";
import type { Calendar, Window } from "../../windows.ts";
import { ownNamesOf } from "../budget-spend.ts";
import type { Ledger } from "../bookings/ledger.ts";
import { createReservationBook } from "../reservations.ts";
import type { CapMode, Part } from "../reservations.ts";
import { createRollups } from "../rollups.ts";
import { createNodeEntries } from "./entries.ts";
import type { NodeEntries } from "./entries.ts";
import { createNodeEscrow } from "./escrow.ts";
import type { NodeEscrow } from "./escrow.ts";
import type { NodeMemory, StoredReservation } from "./memory.ts";
import type { Row, Work } from "./work.ts";

export type NodeSettings = { readonly calendar: Calendar; readonly capMode: CapMode; readonly tagsCount: boolean };

export type NodeLedger = Ledger & {
  readonly memory: NodeMemory;
  readonly escrow: NodeEscrow;
  readonly entries: NodeEntries;
  /** Open attempts that are not this node's: they are settled as what they are. */
  readonly foreign: Map<AttemptId, StoredReservation>;
  /** Attempts that end here and are another node's at the moment. */
  held: ReadonlySet<AttemptId>;
  /** Money of what was booked, in parts that are not this node's. */
  readonly correct: (budget: Budget, window: Window, node: number, settled: NanoUsd) => void;
  /** Of what was gathered: parts that are not this node's, and what has to be open still. */
  others(): Pick<Work, "shared" | "requires" | "owners">;
  /** Begins the next batch. */
  clear(): void;
};

/** The part of what is nobody's. */
export const NOBODY = 0;

export function openNodeLedger(memory: NodeMemory, { calendar, capMode, tagsCount }: NodeSettings): NodeLedger {
  const isKept = (budget: Budget, window: Window): boolean =>
    window.endMs > (memory.openedMs.get(budget.ruleId ?? budget.id) ?? 0);
  const escrow: NodeEscrow = createNodeEscrow(memory, capMode, () => book.touched, isKept);
  const book = createReservationBook(
    calendar,
    capMode,
    // Each member of a rule by its own part.
    { of: (budget, window) => escrow.settledIn(budget, window), members: () => new Map() },
    (budget, window) => escrow.shareOf(budget, window),
  );
  const ownNames = ownNamesOf(tagsCount ? undefined : memory.owners);
  book.setBudgets(memory.budgets);
  book.setFreezes(memory.freezes);
  for (const { provider, requestedModel, servedModel } of memory.servedNames)
    book.learnServedName(provider, requestedModel, servedModel);
  for (const { attemptId, holds, ...row } of memory.open) {
    const subject = ownNames({ ...row, model: row.requestedModel });
    const { boundNanoUsd, expectedNanoUsd, mostNanoUsd } = row;
    book.carry(
      { attemptId, subject, boundNanoUsd, expectedNanoUsd, mostNanoUsd },
      holds.map(([budgetId, , amount, most]) => [budgetId, amount, most]),
    );
  }
  escrow.begin(
    partsOf(memory, (budget, atMs) => book.part(budget, atMs), calendar),
    [...book.touched],
  );

  const foreign = new Map<AttemptId, StoredReservation>();
  let shared: Row[] = [];
  let requires: AttemptId[] = [];
  let owners: number[] = [];
  const correct: NodeLedger["correct"] = (budget, window, node, settled) => {
    if (isKept(budget, window)) shared.push(rowOf(budget.id, window.id, node, settled, 0n, 0n, settled));
  };
  /** Its hold goes, and its cost comes, where it was held. */
  const settleForeign = (one: StoredReservation, cost: NanoUsd, subject: Subject): void => {
    const owner = one.node ?? NOBODY;
    for (const [budgetId, windowId, amount, most] of one.holds)
      shared.push(rowOf(budgetId, windowId, owner, 0n, -amount, -most, -amount));
    const atMs = attemptAtMs(one.attemptId);
    for (const budget of book.covering(subject)) {
      correct(budget, calendar.window(budget.window, atMs), owner, cost);
      const held = one.holds.find(([budgetId]) => budgetId === budget.id)?.[2] ?? 0n;
      if (cost > held) escrow.pay(book.part(budget, atMs), cost - held);
    }
    requires.push(one.attemptId);
    owners.push(owner);
    foreign.delete(one.attemptId);
  };
  const entries = createNodeEntries((attemptId) => book.heldBy(attemptId));
  return {
    memory,
    escrow,
    entries,
    calendar,
    capMode,
    tagsCount,
    rollups: createRollups(calendar, (rows) => entries.sums(rows)),
    book: {
      ...book,
      settle(attemptId, cost, subject) {
        const one = foreign.get(attemptId);
        if (one) settleForeign(one, cost, subject);
        else book.settle(attemptId, cost, subject);
      },
    },
    budgets: memory.budgets,
    ownNames,
    moves: memory.moves,
    sealedEnd: memory.sealedEnd,
    keyIds: new Set(memory.keyIds),
    foreign,
    held: new Set(),
    correct,
    others: () => ({
      ...(shared.length > 0 ? { shared } : {}),
      ...(requires.length > 0 ? { requires, owners } : {}),
    }),
    clear() {
      entries.clear();
      [shared, requires, owners] = [[], [], []];
    },
  };
}

/** Parts of which more was granted than is needed: what is left goes back. */
function partsOf(
  { parts, budgets }: NodeMemory,
  partOf: (budget: Budget, atMs: number) => Part,
  calendar: Calendar,
): Part[] {
  return parts
    .filter(({ granted, settled, held }) => granted > settled + held)
    .flatMap(({ budgetId, windowId }) => {
      const budget = findBudget(budgets, budgetId);
      const atMs = budget && instantIn(windowId, calendar, budget.window);
      return atMs === undefined ? [] : [partOf(budget as Budget, atMs)];
    });
}

function instantIn(windowId: string, calendar: Calendar, kind: Budget["window"]): number | undefined {
  if (kind === "total") return 0;
  const text = windowId.slice(windowId.indexOf(":") + 1);
  if (kind === "hour") return Date.parse(text.replace(/Z$/, ":00Z"));
  if (kind === "month") return calendar.dayStart(`${text}-01`);
  if (kind !== "quarter") return calendar.dayStart(text);
  const [year = "", quarter = "1"] = text.split("-Q");
  return calendar.dayStart(`${year}-${String(3 * Number(quarter) - 2).padStart(2, "0")}-01`);
}

/** A part as the books have it, or what is added to it. */
export function rowOf(
  budgetId: string,
  windowId: string,
  node: number,
  settled: NanoUsd,
  held: NanoUsd,
  most: NanoUsd,
  granted: NanoUsd,
): Row {
  return {
    budget_id: budgetId,
    window_id: windowId,
    node,
    settled_nano_usd: settled.toString(),
    held_nano_usd: held.toString(),
    most_nano_usd: most.toString(),
    granted_nano_usd: granted.toString(),
  };
}
