// What a node keeps in memory, read from the books as of one instant: the register by which it decides, what it has open,
// and its parts of the windows of now.
import { ask, askRows } from "../../asking.ts";
import type { Asking } from "../../asking.ts";
import type { Budget, Freeze } from "../../budgets.ts";
import type { AttemptId } from "../../ids.ts";
import type { NanoUsd } from "../../money.ts";
import { WINDOWS } from "../../windows.ts";
import type { Calendar } from "../../windows.ts";
import { askOwners } from "../budget-spend.ts";
import type { KeyOwner } from "../budget-spend.ts";
import { askBudgets, askFreezes } from "../changes.ts";
import { askOpenMoves } from "../reassign.ts";
import type { OpenMove } from "../reassign.ts";
import { servedNames } from "../schema.ts";
import { askSealedEnd } from "../seals.ts";
import { readHolds } from "./entries.ts";
import type { StoredHold } from "./entries.ts";

export type NodeMemory = {
  /** The register's. */
  readonly version: number;
  readonly names: number;
  readonly budgets: readonly Budget[];
  readonly freezes: readonly Freeze[];
  readonly owners: readonly KeyOwner[];
  readonly moves: ReadonlyMap<string, readonly OpenMove[]>;
  readonly servedNames: readonly { provider: string; requestedModel: string; servedModel: string }[];
  readonly sealedEnd: AttemptId;
  readonly keyIds: readonly string[];
  /** From when on windows of a budget are kept; those that were over by then are not. */
  readonly openedMs: ReadonlyMap<string, number>;
  /** What is open here. */
  readonly open: readonly StoredReservation[];
  readonly parts: readonly StoredPart[];
};

/** `node` undefined: nobody's. */
export type StoredReservation = {
  readonly attemptId: AttemptId;
  readonly node: number | undefined;
  readonly keyId: string;
  readonly provider: string;
  readonly endpoint: string;
  readonly requestedModel: string;
  readonly team: string;
  readonly project: string;
  readonly env: string;
  readonly user: string;
  readonly payer: string;
  readonly seatNanoUsd: NanoUsd | undefined;
  readonly tags: string | undefined;
  readonly boundNanoUsd: NanoUsd | undefined;
  readonly expectedNanoUsd: NanoUsd | undefined;
  readonly mostNanoUsd: NanoUsd | undefined;
  readonly workId: string | undefined;
  readonly holds: readonly StoredHold[];
};

/** The node's own part of a window, and what all others have. */
type StoredPart = {
  readonly budgetId: string;
  readonly windowId: string;
  readonly settled: NanoUsd;
  readonly held: NanoUsd;
  readonly most: NanoUsd;
  readonly granted: NanoUsd;
  readonly others: { readonly settled: NanoUsd; readonly held: NanoUsd; readonly most: NanoUsd };
};

/** Ids of other clocks may lie in the window before or after. */
const AROUND_MS = 120_000;

/** Windows that are open about now. */
export function windowsAround(calendar: Calendar, nowMs: number): string[] {
  const instants = [nowMs - AROUND_MS, nowMs + AROUND_MS, nowMs];
  return [...new Set(WINDOWS.flatMap((kind) => instants.map((atMs) => calendar.window(kind, atMs).id)))];
}

export function* askMemory(node: number, calendar: Calendar, nowMs: number): Asking<NodeMemory> {
  const [register] = yield* ask<[version: bigint, names: bigint]>("SELECT version, names FROM register");
  const [version = 0, names = 0] = (register ?? []).map(Number);
  const open = yield* askReservations("node = ?", node);
  const windows = new Set(windowsAround(calendar, nowMs));
  for (const { holds } of open) for (const [, windowId] of holds) windows.add(windowId);
  const opened = yield* ask<[string, bigint]>("SELECT budget_id, since_ms FROM budgets_opened");
  return {
    version,
    names,
    budgets: yield* askBudgets(),
    freezes: yield* askFreezes(),
    owners: yield* askOwners(),
    moves: yield* askOpenMoves(),
    servedNames: yield* askServedNames(),
    sealedEnd: yield* askSealedEnd(),
    keyIds: (yield* ask<[string]>("SELECT id FROM keys")).map(([id]) => id),
    openedMs: new Map(opened.map(([id, sinceMs]) => [id, Number(sinceMs)])),
    open,
    parts: yield* askParts(node, [...windows]),
  };
}

export function* askServedNames(): Asking<NodeMemory["servedNames"]> {
  return yield* askRows(servedNames, undefined);
}

/** Open attempts, oldest first. */
export function* askReservations(where: string, ...values: readonly unknown[]): Asking<StoredReservation[]> {
  const rows = yield* ask<
    [
      attemptId: bigint,
      node: bigint | null,
      keyId: string,
      provider: string,
      endpoint: string,
      requestedModel: string,
      team: string,
      project: string,
      env: string,
      user: string,
      payer: string,
      seat: bigint | null,
      tags: string | null,
      bound: bigint | null,
      expected: bigint | null,
      most: bigint | null,
      workId: string | null,
      holds: string,
    ]
  >(
    `SELECT attempt_id, node, key_id, provider, endpoint, requested_model, team, project, env, person, payer, seat_nano_usd, tags, bound_nano_usd,
      expected_nano_usd, most_nano_usd, work_id, holds FROM reservations WHERE ${where} ORDER BY attempt_id`,
    ...values,
  );
  return rows.map(
    ([
      attemptId,
      node,
      keyId,
      provider,
      endpoint,
      model,
      team,
      project,
      env,
      user,
      payer,
      seat,
      tags,
      bound,
      expected,
      most,
      work,
      holds,
    ]) => ({
      attemptId: Number(attemptId),
      node: node === null ? undefined : Number(node),
      keyId,
      provider,
      endpoint,
      requestedModel: model,
      team,
      project,
      env,
      user,
      payer,
      seatNanoUsd: seat ?? undefined,
      tags: tags ?? undefined,
      boundNanoUsd: bound ?? undefined,
      expectedNanoUsd: expected ?? undefined,
      mostNanoUsd: most ?? undefined,
      workId: work ?? undefined,
      holds: readHolds(holds),
    }),
  );
}

function* askParts(node: number, windowIds: readonly string[]): Asking<StoredPart[]> {
  const own = (column: string): string => `SUM(CASE WHEN node = ? THEN ${column} ELSE 0 END)`;
  const all = (column: string): string => `SUM(${column})`;
  const columns = ["settled_nano_usd", "held_nano_usd", "most_nano_usd"];
  const rows = yield* ask<[string, string, bigint, bigint, bigint, bigint, bigint, bigint, bigint]>(
    `SELECT budget_id, window_id, ${[...columns, "granted_nano_usd"].map(own).join(", ")}, ${columns.map(all).join(", ")}
    FROM escrow WHERE window_id IN (${windowIds.map(() => "?").join(", ")}) GROUP BY budget_id, window_id`,
    node,
    node,
    node,
    node,
    ...windowIds,
  );
  return rows.map(([budgetId, windowId, settled, held, most, granted, allSettled, allHeld, allMost]) => ({
    budgetId,
    windowId,
    settled,
    held,
    most,
    granted,
    others: { settled: allSettled - settled, held: allHeld - held, most: allMost - most },
  }));
}

/** Attempts that are not open here: those that this node may settle, for they are nobody's or of a node that was given up,
 *  those that are another's, and those that are over. */
export type Elsewhere = {
  readonly open: readonly StoredReservation[];
  readonly others: ReadonlySet<AttemptId>;
  readonly over: ReadonlySet<AttemptId>;
};

export function* askElsewhere(node: number, attemptIds: readonly AttemptId[]): Asking<Elsewhere> {
  const list = attemptIds.map(() => "?").join(", ");
  const over = yield* ask<[bigint]>(`SELECT attempt_id FROM events WHERE attempt_id IN (${list})`, ...attemptIds);
  const others = yield* ask<[bigint]>(
    `SELECT attempt_id FROM reservations WHERE attempt_id IN (${list}) AND NOT may_settle(node, ?)`,
    ...attemptIds,
    node,
  );
  return {
    open: yield* askReservations(`attempt_id IN (${list}) AND may_settle(node, ?)`, ...attemptIds, node),
    others: new Set(others.map(([id]) => Number(id))),
    over: new Set(over.map(([id]) => Number(id))),
  };
}
