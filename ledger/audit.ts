// The audit: who changed what, each record bound to the one before it by a hash, written in the transaction of the
// change. A change that cannot be recorded does not happen.
import { createHash } from "node:crypto";
import { asc, desc, drizzle } from "./drizzle.ts";
import type { Sqlite } from "./open.ts";
import { audit } from "./schema.ts";

export type AuditEntry = {
  readonly atMs: number;
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
  readonly detail: string;
};

const GENESIS = "0".repeat(64);

/** The newest record's number and hash. Whoever notes it elsewhere can tell later that nothing before it was written anew. */
export type AuditHead = { readonly seq: number; readonly hash: string };

export function readAuditHead(database: Sqlite): AuditHead {
  const last = drizzle(database).select().from(audit).orderBy(desc(audit.seq)).limit(1).get();
  return { seq: last?.seq ?? 0, hash: last?.hash ?? GENESIS };
}

/** Appends a record and returns its number. Call it inside the transaction of the change. */
export function appendAudit(database: Sqlite, entry: AuditEntry): number {
  const head = readAuditHead(database);
  const seq = head.seq + 1;
  drizzle(database)
    .insert(audit)
    .values({ seq, ...entry, previous: head.hash, hash: chain(seq, entry, head.hash) })
    .run();
  return seq;
}

/** The first record that was changed, taken out or moved, or undefined when the chain is whole and, where one is given, still leads
 *  through the head that was noted. */
export async function findBrokenAudit(
  database: Sqlite,
  noted?: AuditHead,
): Promise<{ readonly seq: number; readonly why: string } | undefined> {
  let expected = 1;
  let previous = GENESIS;
  for (const row of drizzle(database).select().from(audit).orderBy(asc(audit.seq)).all()) {
    if (row.seq !== expected) return { seq: expected, why: "record is missing" };
    if (row.previous !== previous || row.hash !== chain(row.seq, row, previous))
      return { seq: row.seq, why: "record was changed" };
    if (row.seq === noted?.seq && row.hash !== noted.hash)
      return { seq: row.seq, why: "the chain up to here was written anew: the noted hash is another" };
    previous = row.hash;
    expected += 1;
  }
  if (noted && noted.seq >= expected)
    return { seq: expected, why: `records up to ${noted.seq} were noted, and are gone` };
  return undefined;
}

function chain(seq: number, entry: AuditEntry, previous: string): string {
  return createHash("sha256")
    .update(JSON.stringify([seq, entry.atMs, entry.actor, entry.action, entry.subject, entry.detail, previous]))
    .digest("hex");
}
