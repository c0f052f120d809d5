// What a batch of a node asks of the database, and what it answers (migrations/postgres/: book_v1).
import type { AttemptId } from "../../ids.ts";

/** A row by column name, as Postgres takes it: money and ids as digits or numbers. */
export type Row = { readonly [column: string]: string | number | null };
type Rows = readonly Row[];

/** What a batch writes. Nothing of it is decided there: decisions were made in memory, by the register's `version`. */
export type Work = {
  /** Open attempts of this node. */
  readonly reservations?: Rows;
  /** More that they hold: `attempt_id`, `expected_nano_usd` and `holds`. */
  readonly extended?: Rows;
  /** Work that goes on at a provider: `attempt_id`, `provider`, `work_id`, `tiers`, `key_id`. */
  readonly suspended?: Rows;
  readonly events?: Rows;
  /** Attempts that others may have settled: of work, or of a node that was given up. */
  readonly requires?: readonly AttemptId[];
  /** Whose each of these was when it was decided; 0: nobody's. */
  readonly owners?: readonly number[];
  readonly hours?: Rows;
  readonly days?: Rows;
  readonly keys?: Rows;
  readonly secrets?: Rows;
  readonly things?: Rows;
  readonly refused?: Rows;
  readonly servedNames?: Rows;
  readonly addresses?: Rows;
  readonly credentials?: Rows;
  readonly meterHours?: readonly number[];
  /** What is added to the node's own parts of windows. */
  readonly escrow?: Rows;
  /** The same for parts that are nobody's, or of a node that was given up. */
  readonly shared?: Rows;
  readonly asks?: readonly Ask[];
  /** What those that wait need, each of which of the asks: all of it is given, or nothing. */
  readonly waiters?: readonly (readonly (readonly [ask: number, need: string])[])[];
  /** Windows of which it wants to hear what others have in them. */
  readonly look?: readonly string[];
  /** No attempt below this one will be reserved any more. */
  readonly lastId?: AttemptId;
};

/** More money for the node's part of a window. */
export type Ask = {
  readonly budget_id: string;
  readonly window_id: string;
  readonly at_ms: number;
  /** What it needs in a second, in nano-USD as digits: so much is given ahead, if there is. */
  readonly rate: string;
};

/** What an ask came to. Amounts are digits. */
type Grant = {
  readonly budgetId: string;
  readonly windowId: string;
  readonly given: string;
  /** The end of more money that it rests on. */
  readonly untilMs: number | null;
  /** What all others have. */
  readonly settled: string;
  readonly held: string;
  readonly most: string;
};

type Saw = {
  /** [budget, window] that others wait for. */
  readonly wanted: readonly (readonly [budgetId: string, windowId: string])[];
  /** Nodes that have not committed for 15 s. */
  readonly silent: readonly number[];
  /** What all others have. */
  readonly others: readonly (readonly [
    budgetId: string,
    windowId: string,
    settled: string,
    held: string,
    most: string,
  ])[];
};

export type Booked = {
  /** Attempts whose work nobody else stands for. */
  readonly firsts: readonly AttemptId[];
  /** In the order of the asks; null: there is no such budget any more. */
  readonly grants: readonly (Grant | null)[];
  /** Of each that waits: the ask in which it does not fit, whatever others gave back; null: it does. */
  readonly vain: readonly (number | null)[];
  readonly saw: Saw | null;
  /** The time of the server. */
  readonly atMs: number;
  /** How often names under which models answer have changed. */
  readonly names: number;
};

/** Nothing was booked: others have settled these. */
export type Gone = { readonly gone: readonly AttemptId[] };
/** Nothing was booked: the register is another, or a new attempt's day is sealed. */
export type Stale = { readonly stale: true };
