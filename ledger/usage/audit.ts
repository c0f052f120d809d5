// The audit: who changed what, each record bound to the one before it by a hash, written in the transaction of the
// change. A change that cannot be recorded does not happen.
import { createHash } from "node:crypto";
import { ask, tell, write } from "../asking.ts";
import type { Asking } from "../asking.ts";
import { asc, desc, lt } from "../drizzle.ts";
import { tablesOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import { audit } from "./schema.ts";

export type AuditEntry = {
  readonly atMs: number;
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
  readonly detail: string;
};

const GENESIS = "0".repeat(64);

/** The newest record's number and hash. Whoever notes it elsewhere can tell later that nothing before it was written
 *  anew. */
export type AuditHead = { readonly seq: number; readonly hash: string };

export function* readAuditHead(): Asking<AuditHead> {
  const [last] = yield* ask<[seq: bigint, hash: string]>("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1");
  return last ? { seq: Number(last[0]), hash: last[1] } : { seq: 0, hash: GENESIS };
}

/** Appends a record and returns its number. Belongs in the transaction of the change. */
export function* appendAudit(entry: AuditEntry): Asking<number> {
  const head = yield* readAuditHead();
  const seq = head.seq + 1;
  yield* tell(write.insert(audit).values({ seq, ...entry, previous: head.hash, hash: chain(seq, entry, head.hash) }));
  return seq;
}

/** Records before one, or all, the newest first. */
export async function readAudit(
  books: UsageBooks,
  most: number,
  before = Number.MAX_SAFE_INTEGER,
): Promise<(AuditEntry & { readonly seq: number })[]> {
  const rows = await tablesOf(books)
    .select()
    .from(audit)
    .where(lt(audit.seq, before))
    .orderBy(desc(audit.seq))
    .limit(most)
    .all();
  return rows.map(({ seq, atMs, actor, action, subject, detail }) => ({ seq, atMs, actor, action, subject, detail }));
}

/** The first record that was changed, taken out or moved, or undefined when the chain is whole and, where one is given,
 *  still leads through the head that was noted; and the head of what was looked at. */
export async function checkAudit(
  books: UsageBooks,
  noted?: AuditHead,
): Promise<{ readonly broken: { readonly seq: number; readonly why: string } | undefined; readonly head: AuditHead }> {
  let head: AuditHead = { seq: 0, hash: GENESIS };
  for (const row of await tablesOf(books).select().from(audit).orderBy(asc(audit.seq)).all()) {
    const broken = (seq: number, why: string) => ({ broken: { seq, why }, head });
    if (row.seq !== head.seq + 1) return broken(head.seq + 1, "record is missing");
    if (row.previous !== head.hash || row.hash !== chain(row.seq, row, head.hash))
      return broken(row.seq, "record was changed");
    if (row.seq === noted?.seq && row.hash !== noted.hash)
      return broken(row.seq, "the chain up to here was written anew: the noted hash is another");
    head = { seq: row.seq, hash: row.hash };
  }
  const isGone = noted !== undefined && noted.seq > head.seq;
  return {
    broken: isGone ? { seq: head.seq + 1, why: `records up to ${noted.seq} were noted, and are gone` } : undefined,
    head,
  };
}

function chain(seq: number, entry: AuditEntry, previous: string): string {
  return createHash("sha256")
    .update(JSON.stringify([seq, entry.atMs, entry.actor, entry.action, entry.subject, entry.detail, previous]))
    .digest("hex");
}
