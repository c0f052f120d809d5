// A proxy as a node of books in Postgres: its number and epoch, and its batches, one after the other. Until it is known
// what became of a batch, that one is sent again and no other: the same number is never booked twice.
import { setTimeout as sleep } from "node:timers/promises";
import { DatabaseError } from "pg";
import { LedgerError } from "../../books.ts";
import type { AttemptId } from "../../ids.ts";
import { runOn } from "../../postgres.ts";
import type { Client, Pool } from "../../postgres.ts";
import type { Booked, Gone, Stale, Work } from "./work.ts";

/** Another holds the node's number, or it was given up: nothing more may be sent. */
export class NodeFenced extends Error {
  override readonly name = "NodeFenced";
}

/** The database has lost what it had acknowledged: an older copy of it answers. */
export class DatabaseWentBack extends LedgerError {
  override readonly name = "DatabaseWentBack";
}

export type NodeSettings = {
  /** Whose it is, for people: host and process. */
  readonly name: string;
  /** What all nodes have to agree on, by the setting's name. */
  readonly agreed: { readonly [setting: string]: string };
  /** A number that it has to have; undefined: a free one. */
  readonly wanted?: number | undefined;
  /** What it was before it was given up. */
  readonly before?: { readonly node: number; readonly epoch: number } | undefined;
};

export type Node = {
  readonly node: number;
  readonly epoch: number;
  /** Its ids begin after this one. */
  readonly lastId: AttemptId;
  /** Of the lease before, where it was taken again: the last batch that was booked, and whose work nobody else stood for.
   *  It says what became of one whose answer got lost. */
  readonly lastBefore: { readonly batch: number; readonly firsts: readonly AttemptId[] } | undefined;
  /** How far the clock here is ahead of the server's, in milliseconds. */
  readonly aheadMs: number;
  /** Books a batch that was decided by a version of the register. Resolves when it is committed; while the server is away
   *  it waits. Rejects with NodeFenced, with DatabaseWentBack, or with Postgres's error for what it cannot hold: then, as
   *  when nothing was booked, its number is free again. */
  book(work: Work, version: number): Promise<Booked | Gone | Stale>;
  /** The same inside a change, on its connection. What it resolves to is called when the change is committed: only then
   *  the batch counts. */
  bookWithin(client: Client, work: Work, version: number): Promise<() => void>;
  /** How many batches are booked. */
  batches(): number;
  /** What was said last of the batch that is under way, while it is asked again. */
  failed(): string | undefined;
  /** Gives another node up, if it is over. */
  fence(other: number): Promise<boolean>;
  /** Ends the lease, after the batch that is on its way. False: something is open, and stays its. */
  release(): Promise<boolean>;
};

const AGAIN_MS = 100;
/** A call that has no answer by then is asked again: a server that is gone sends none. */
const ANSWER_MS = 15_000;
const LARGEST_SKEW_MS = 2_000;
/** What Postgres says of the rows themselves: no cardinality, no value, no constraint, no limit of its own allows them. Of
 *  all else the batch is not to blame, and it is asked again. */
const OF_THE_ROWS = new Set(["21", "22", "23", "54"]);

/** Whether it is the batch's own fault. */
export function isOfTheRows(error: unknown): boolean {
  return OF_THE_ROWS.has(codeOf(error).slice(0, 2));
}

/** Leases a node. Rejects with a LedgerError that names the setting in which it differs, who has its number, or how far
 *  its clock is off. */
export async function leaseNode(pool: Pool, settings: NodeSettings, now: () => number = Date.now): Promise<Node> {
  const { name, agreed, wanted = null, before } = settings;
  const [row] = await runOn(pool, "SELECT lease_node_v1(?, ?, ?, ?, ?)", [
    name,
    JSON.stringify(agreed),
    wanted,
    before?.node ?? null,
    before?.epoch ?? null,
  ]);
  const leased = row?.[0] as Leased;
  if ("wentBack" in leased) throw wentBack(`it does not know epoch ${before?.epoch} of node ${before?.node}`);
  if ("differs" in leased)
    throw new LedgerError(
      `the books in Postgres are kept with another ${leased.differs} (${leased.theirs}) than this proxy has. All proxies of one ledger have to have the same.`,
    );
  if ("taken" in leased)
    throw new LedgerError(`node ${leased.taken} is taken by ${leased.name}. Give this proxy another number, or none.`);
  if ("full" in leased)
    throw new LedgerError("all 255 nodes of these books are in use, or something is open in them. End a proxy first.");
  await runOn(pool, "SELECT order_commits_v1()", []);
  const aheadMs = await readSkew(pool, now);
  const made = nodeOf(pool, leased, aheadMs);
  // Who comes back has attempts of its own to settle; it admits nothing while its clock is off.
  if (before || Math.abs(aheadMs) <= LARGEST_SKEW_MS) return made;
  await made.release();
  throw new LedgerError(
    `this machine's clock is ${Math.abs(aheadMs)} ms ${aheadMs > 0 ? "ahead of" : "behind"} Postgres's; at most ${LARGEST_SKEW_MS} are allowed. Set the clock (NTP), and start again.`,
  );
}

/** How far the clock here is ahead of the server's, as far as the way there and back can tell. */
async function readSkew(pool: Pool, now: () => number): Promise<number> {
  const sentAtMs = now();
  const [row] = await runOn(pool, "SELECT now_ms()", []);
  const heardAtMs = now();
  const atMs = Number(row?.[0]);
  // Its instant lies between those two.
  return atMs < sentAtMs ? sentAtMs - atMs : Math.min(0, heardAtMs - atMs);
}

type Leased =
  | {
      readonly node: number;
      readonly epoch: number;
      readonly lastId: number;
      readonly doubt: { readonly batch: number; readonly firsts: readonly AttemptId[] } | null;
    }
  | { readonly wentBack: true }
  | { readonly differs: string; readonly theirs: string }
  | { readonly taken: number; readonly name: string }
  | { readonly full: true };

function nodeOf(pool: Pool, { node, epoch, lastId, doubt }: Extract<Leased, { node: number }>, aheadMs: number): Node {
  let number = 0;
  let failed: string | undefined;
  let isGivenUp = false;
  let last: Promise<unknown> = Promise.resolve();

  const call = async (on: Pool | Client, work: string, version: number): Promise<Booked> => {
    const [row] = await runOn(on, "SELECT book_v1(?, ?, ?, ?, ?)", [node, epoch, number + 1, version, work], ANSWER_MS);
    return row?.[0] as Booked;
  };

  const send = async (work: string, version: number): Promise<Booked | Gone | Stale> => {
    for (;;) {
      try {
        const booked = await call(pool, work, version);
        number += 1;
        failed = undefined;
        return booked;
      } catch (error) {
        const code = codeOf(error);
        if (code === "KM001") throw fenced(node, error);
        if (code === "KM002") throw wentBack(messageOf(error));
        if (code === "KM003") return { gone: JSON.parse((error as { detail?: string }).detail ?? "[]") as number[] };
        if (code === "KM004" || code === "KM005") return { stale: true };
        failed = messageOf(error);
        if (isGivenUp) throw error;
        // What Postgres says of the rows has written nothing; any other error leaves open what became of them.
        if (isOfTheRows(error)) throw error;
        await sleep(AGAIN_MS);
      }
    }
  };

  return {
    node,
    epoch,
    lastId,
    lastBefore: doubt ?? undefined,
    aheadMs,
    book(work, version) {
      const text = textOf(work);
      const booked = last.then(() => send(text, version));
      last = booked.catch(() => undefined);
      return booked;
    },
    async bookWithin(client, work, version) {
      await last;
      try {
        await call(client, textOf(work), version);
      } catch (error) {
        throw codeOf(error) === "KM001" ? fenced(node, error) : error;
      }
      return () => void (number += 1);
    },
    batches: () => number,
    failed: () => failed,
    async fence(other) {
      const [row] = await runOn(pool, "SELECT fence_node_v1(?, ?, ?)", [node, epoch, other]);
      return row?.[0] === true;
    },
    async release() {
      // What is not booked by now is asked once more at most: the process ends.
      isGivenUp = true;
      await last;
      if (failed !== undefined) return false;
      const [row] = await runOn(pool, "SELECT release_node_v1(?, ?)", [node, epoch]);
      return row?.[0] === true;
    },
  };
}

/** What no text of Postgres holds, U+0000 and half characters, stands in it as U+FFFD. */
function textOf(work: Work): string {
  const text = JSON.stringify(work);
  if (!/\\u(?:0000|d[89a-f])/.test(text)) return text;
  return JSON.stringify(work, (_name, value: unknown) =>
    typeof value === "string" ? value.toWellFormed().replaceAll("\0", "\uFFFD") : value,
  );
}

/** What Postgres said, as its code of five characters; "": something else failed. */
function codeOf(error: unknown): string {
  return error instanceof DatabaseError ? (error.code ?? "") : "";
}

function fenced(node: number, cause: unknown): NodeFenced {
  return new NodeFenced(`node ${node} was given up, or leased anew`, { cause });
}

function wentBack(why: string): DatabaseWentBack {
  return new DatabaseWentBack(
    `the database has lost what it had acknowledged (${why}): an older copy of it answers. Bring the newer one back, or start this proxy anew to go on from here.`,
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
