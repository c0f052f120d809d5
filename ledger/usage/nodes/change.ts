// A change of the register, for all nodes: made on any of them, in one transaction that waits for all batches and lets none
// begin. Whatever a node decided by the register before is refused from then on, and decided anew.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { answerWith, ask } from "../../asking.ts";
import type { Asking } from "../../asking.ts";
import {
  covers,
  holdFor,
  isOverridden,
  memberBudget,
  MOST_MEMBERS,
  OTHER_MEMBERS,
  placesOf,
  ruleOf,
} from "../../budgets.ts";
import type { Budget } from "../../budgets.ts";
import { LedgerError } from "../../books.ts";
import { attemptAtMs } from "../../ids.ts";
import type { NanoUsd } from "../../money.ts";
import { runOn } from "../../postgres.ts";
import type { Client, Pool } from "../../postgres.ts";
import { within } from "../../postgres-books.ts";
import type { Window } from "../../windows.ts";
import { mayName, touches } from "../bookings/register.ts";
import { flat } from "../flat.ts";
import { applyAs, requireMayChange } from "../may-change.ts";
import { settleAsHeld } from "../bookings/settle-as-held.ts";
import { askMembers, askOwners, askSettled, ownNamesOf } from "../budget-spend.ts";
import { ChangeRefused } from "../change-refused.ts";
import { askBudgets } from "../changes.ts";
import type { Author, Change } from "../changes.ts";
import { amountFor, isPlaceMoved, mostOf } from "../reservations.ts";
import { SEAT } from "../usage-event.ts";
import type { Rollups } from "../rollups.ts";
import { asRow } from "./booking.ts";
import { NOBODY, openNodeLedger, rowOf } from "./ledger.ts";
import type { NodeLedger, NodeSettings } from "./ledger.ts";
import { askMemory, askReservations } from "./memory.ts";
import type { StoredReservation } from "./memory.ts";
import type { Node } from "./node.ts";

/** A change waits for batches under way; a server that does not answer is given up after so long. */
const ANSWER_MS = 30_000;
/** As long it is asked what became of a change whose answer got lost. */
const DOUBT_MS = 300_000;
const ASK_AGAIN_MS = 500;
/** Ids of other clocks may lie in the window before or after. */
const AROUND_MS = 120_000;

/** Makes a change with its audit record, or, without one, opens the windows of budgets that no node has kept yet. Rejects
 *  with ChangeRefused, or with a LedgerError when it is not known whether it was made. */
export async function changeRegister(
  pool: Pool,
  node: Node,
  settings: NodeSettings,
  nowMs: number,
  made?: { readonly change: Change; readonly author: Author },
): Promise<void> {
  const nonce = randomUUID();
  let committed = (): void => {};
  try {
    await within(pool, "BEGIN", async (client) => {
      const run = (text: string, values: readonly unknown[]) => runOn(client, text, values, ANSWER_MS);
      await run("SELECT pg_advisory_xact_lock(hashtext('keymeter register'))", []);
      const memory = await answerWith(run, askMemory(node.node, settings.calendar, nowMs));
      const ledger = openNodeLedger(memory, settings);
      if (made) committed = await makeChange(client, node, ledger, made);
      await answerWith(run, changeWindows(ledger, made?.change, nowMs));
      await run("UPDATE register SET version = version + 1", []);
      await run("INSERT INTO changes_made (nonce) VALUES (?)", [nonce]);
    });
  } catch (error) {
    if (error instanceof ChangeRefused || !(await wasMade(pool, nonce, error))) throw error;
  }
  committed();
}

/** The answer to a COMMIT may get lost: the books know. */
async function wasMade(pool: Pool, nonce: string, error: unknown): Promise<boolean> {
  for (const until = Date.now() + DOUBT_MS; ;) {
    try {
      return await within(pool, "BEGIN", async (client) => {
        // It waits for the transaction that is in doubt, and looks in the next statement.
        await runOn(client, "SELECT pg_advisory_xact_lock_shared(hashtext('keymeter register'))", [], ANSWER_MS);
        return (await runOn(client, "SELECT 1 FROM changes_made WHERE nonce = ?", [nonce], ANSWER_MS)).length > 0;
      });
    } catch {
      const why = error instanceof Error ? error.message : String(error);
      if (Date.now() > until)
        throw new LedgerError(
          `Postgres went away while a change was made (${why}); look whether it was, and say it again`,
        );
      await sleep(ASK_AGAIN_MS);
    }
  }
}

/** The change itself, and what it moves in the sums, as a batch of the node. */
async function makeChange(
  client: Client,
  node: Node,
  ledger: NodeLedger,
  { change, author }: { readonly change: Change; readonly author: Author },
): Promise<() => void> {
  const run = (text: string, values: readonly unknown[]) => runOn(client, text, values, ANSWER_MS);
  for (const one of flat(change)) {
    if (one.type !== "closeWork") continue;
    await answerWith(run, requireMayChange(author.holder, one, author.actor));
    const [row] = await answerWith(run, askReservations("work_id = ?", one.workId));
    if (!row) throw new ChangeRefused(`no work ${one.workId} is pending; \`keymeter work list\` shows what is`);
    ledger.foreign.set(row.attemptId, row);
    settleAsHeld(ledger, asRow(row), "upstream_failed");
  }
  await answerWith(run, applyAs(correcting(ledger), change, author));
  ledger.rollups.flush();
  const work = { ...ledger.entries.gathered(), ...ledger.others() };
  if (Object.keys(work).length === 0) return () => {};
  return node.bookWithin(client, work, ledger.memory.version);
}

/** The rollups, by which corrections reach what is settled in windows too: as nobody's. */
function correcting(ledger: NodeLedger): Rollups {
  const { rollups, book, calendar } = ledger;
  const correct = (event: Parameters<Rollups["adjust"]>[0], amount: NanoUsd): void => {
    for (const budget of book.covering(ledger.ownNames(event)))
      ledger.correct(budget, calendar.window(budget.window, attemptAtMs(event.attemptId)), NOBODY, amount);
  };
  return {
    ...rollups,
    adjust(event, correction) {
      rollups.adjust(event, correction);
      correct(event, correction.amountNanoUsd);
    },
    move(before, after, corrections) {
      rollups.move(before, after, corrections);
      const amount = before.costNanoUsd + corrections.amountNanoUsd;
      correct(before, -amount);
      correct(after, amount);
    },
  };
}

/** What a change that was made does to the parts of windows. */
export function* changeWindows(ledger: NodeLedger, change: Change | undefined, nowMs: number): Asking<void> {
  yield* openWindows(ledger, nowMs, yield* touchedBudgets(ledger, change));
}

/** Budgets whose windows have to be made anew: those that are not kept yet, those in which more counts since a name
 *  became a key's own, and rules of whose members one has, or had, a budget in the place of its cap. What was granted of
 *  others goes back where amounts may be other ones. */
function* touchedBudgets(ledger: NodeLedger, change: Change | undefined): Asking<Budget[]> {
  const parts = new Set(change ? flat(change).flatMap(touches) : []);
  const budgets = yield* askBudgets();
  if (parts.has("budgets"))
    yield* ask(
      `UPDATE escrow SET granted_nano_usd = settled_nano_usd + held_nano_usd
      WHERE granted_nano_usd > settled_nano_usd + held_nano_usd`,
    );
  const before = new Set(ledger.memory.owners.map((owner) => owner.join("\n")));
  const gained =
    parts.has("owners") && !ledger.tagsCount
      ? (yield* askOwners()).filter(
          // A key that was just made has spent nothing.
          (owner) => !before.has(owner.join("\n")) && ledger.memory.keyIds.includes(owner[0]),
        )
      : [];
  return budgets.filter(
    (budget) =>
      !ledger.memory.openedMs.has(budget.id) ||
      gained.some((owner) => mayName(budget, owner)) ||
      (budget.each !== undefined && isPlaceMoved(budget, ledger.memory.budgets, budgets)),
  );
}

/** What attempts hold of a window, by node. */
type Holding = { held: NanoUsd; most: NanoUsd };

/** Writes what is settled and held in the windows of budgets, as the books have it. Nothing of them is granted beyond
 *  that. */
function* openWindows(ledger: NodeLedger, nowMs: number, opened: readonly Budget[]): Asking<void> {
  if (opened.length === 0) return;
  const { calendar, tagsCount } = ledger;
  const ownNames = ownNamesOf(tagsCount ? undefined : yield* askOwners());
  const budgets = yield* askBudgets();
  const places = placesOf(budgets);
  const open = yield* askReservations("TRUE");
  const holds = new Map<number, [string, string, string, string][]>();
  const windows = new Map<string, Map<string, Window>>();
  const parts = new Map<string, Holding>();
  const isKept = (ruleId: string, { endMs }: Window): boolean => endMs > (ledger.memory.openedMs.get(ruleId) ?? nowMs);
  for (const { id, window: kind } of opened) {
    yield* ask("INSERT INTO budgets_opened (budget_id, since_ms) VALUES (?, ?) ON CONFLICT DO NOTHING", id, nowMs);
    const instants = [nowMs - AROUND_MS, nowMs, nowMs + AROUND_MS].map((atMs) => calendar.window(kind, atMs));
    windows.set(id, new Map(instants.filter((window) => isKept(id, window)).map((window) => [window.id, window])));
  }
  for (const row of open) {
    if (row.payer === SEAT) continue;
    const servedModel = ledger.book.servedName(row.provider, row.requestedModel);
    const subject = ownNames({ ...row, model: row.requestedModel, servedModel });
    for (const budget of holdFor(opened, subject, places, covers)) {
      const ruleId = budget.ruleId ?? budget.id;
      const window = calendar.window(budget.window, attemptAtMs(row.attemptId));
      if (!isKept(ruleId, window)) continue;
      windows.get(ruleId)?.set(window.id, window);
      const request = { ...row, subject: { ...row, model: row.requestedModel } };
      const [amount, most] = [amountFor(budget, request) ?? 0n, mostOf(request)];
      const name = `${budget.id}\n${window.id}\n${row.node ?? NOBODY}`;
      const part = parts.get(name) ?? { held: 0n, most: 0n };
      parts.set(name, { held: part.held + amount, most: part.most + most });
      holds.set(row.attemptId, [...(holds.get(row.attemptId) ?? []), [budget.id, window.id, `${amount}`, `${most}`]]);
    }
  }
  for (const budget of opened)
    for (const window of windows.get(budget.id)?.values() ?? [])
      yield* writeWindow(ledger, budget, window, places, parts);
  yield* rewriteHolds(open, new Set(opened.map(({ id }) => id)), holds);
}

/** What the books have settled in a window: of a budget, or of each member of a rule. `kept`: members' caps that nodes have
 *  parts of; of the others those who have spent the most have caps of their own, as long as there are not too many. */
function* settledOf(
  budget: Budget,
  window: Window,
  places: ReadonlySet<string>,
  tagsCount: boolean,
  kept: ReadonlySet<string>,
): Asking<ReadonlyMap<string, NanoUsd>> {
  if (budget.each === undefined) return new Map([[budget.id, yield* askSettled(budget, window, tagsCount)]]);
  const others = memberBudget(budget, OTHER_MEMBERS);
  const settled = new Map<string, NanoUsd>();
  let free = MOST_MEMBERS - kept.size;
  for (const [member, amount] of yield* askMembers(budget, window, tagsCount, Infinity)) {
    const own = memberBudget(budget, member);
    if (isOverridden(own, places)) continue;
    const { id } = kept.has(own.id) || free-- > 0 ? own : others;
    settled.set(id, (settled.get(id) ?? 0n) + amount);
  }
  return settled;
}

/** Each node's part of it is what that node has settled and what it holds; the rest is nobody's. */
function* writeWindow(
  { tagsCount }: NodeLedger,
  budget: Budget,
  window: Window,
  places: ReadonlySet<string>,
  parts: ReadonlyMap<string, Holding>,
): Asking<void> {
  const [ruleId, windowId] = [budget.id, window.id];
  const rows = yield* ask<[budgetId: string, node: bigint, settled: bigint]>(
    "SELECT budget_id, node, settled_nano_usd FROM escrow WHERE split_part(budget_id, '/', 1) = ? AND window_id = ?",
    ruleId,
    windowId,
  );
  const kept = new Set(rows.map(([budgetId]) => budgetId));
  const settled = yield* settledOf(budget, window, places, tagsCount, kept);
  const own = new Map<string, Map<number, NanoUsd>>([...settled.keys()].map((id) => [id, new Map()]));
  const nodesOf = (budgetId: string): Map<number, NanoUsd> => {
    const nodes = own.get(budgetId) ?? new Map<number, NanoUsd>();
    own.set(budgetId, nodes);
    return nodes;
  };
  for (const [budgetId, node, sum] of rows) nodesOf(budgetId).set(Number(node), sum);
  for (const name of parts.keys()) {
    const [budgetId = "", id, node] = name.split("\n");
    if (id !== windowId || ruleOf(budgetId).id !== ruleId) continue;
    const nodes = nodesOf(budgetId);
    if (!nodes.has(Number(node))) nodes.set(Number(node), 0n);
  }
  const written = [...own].flatMap(([budgetId, nodes]) => {
    const ofNodes = [...nodes].reduce((sum, [node, amount]) => (node === NOBODY ? sum : sum + amount), 0n);
    nodes.set(NOBODY, (settled.get(budgetId) ?? 0n) - ofNodes);
    return [...nodes].map(([node, amount]) => {
      const { held, most } = parts.get(`${budgetId}\n${windowId}\n${node}`) ?? { held: 0n, most: 0n };
      return rowOf(budgetId, windowId, node, amount, held, most, amount + held);
    });
  });
  yield* ask(
    `INSERT INTO escrow (budget_id, window_id, node, settled_nano_usd, held_nano_usd, most_nano_usd, granted_nano_usd)
    SELECT budget_id, window_id, node, settled_nano_usd, held_nano_usd, most_nano_usd, granted_nano_usd
    FROM jsonb_populate_recordset(NULL::usage.escrow, ?::jsonb)
    ON CONFLICT (budget_id, window_id, node) DO UPDATE SET settled_nano_usd = excluded.settled_nano_usd,
    held_nano_usd = excluded.held_nano_usd, most_nano_usd = excluded.most_nano_usd, granted_nano_usd = excluded.granted_nano_usd,
    wanted_until = NULL`,
    JSON.stringify(written),
  );
}

/** What open attempts hold of these budgets. */
function* rewriteHolds(
  open: readonly StoredReservation[],
  budgetIds: ReadonlySet<string>,
  held: ReadonlyMap<number, readonly (readonly [string, string, string, string])[]>,
): Asking<void> {
  for (const { attemptId, holds } of open) {
    const others = holds
      .filter(([budgetId]) => !budgetIds.has(ruleOf(budgetId).id))
      .map(([budgetId, windowId, amount, most]) => [budgetId, windowId, `${amount}`, `${most}`]);
    const text = JSON.stringify([...others, ...(held.get(attemptId) ?? [])]);
    const before = holds.map(([budgetId, windowId, amount, most]) => [budgetId, windowId, `${amount}`, `${most}`]);
    if (text === JSON.stringify(before)) continue;
    yield* ask("UPDATE reservations SET holds = ? WHERE attempt_id = ?", text, attemptId);
  }
}
