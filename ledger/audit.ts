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

/** Appends a record. Call it inside the transaction of the change. */
export function appendAudit(database: Sqlite, entry: AuditEntry): void {
  const books = drizzle(database);
  const last = books.select().from(audit).orderBy(desc(audit.seq)).limit(1).get();
  const seq = (last?.seq ?? 0) + 1;
  const previous = last?.hash ?? GENESIS;
  books
    .insert(audit)
    .values({ seq, ...entry, previous, hash: chain(seq, entry, previous) })
    .run();
}

/** The first record that was changed, taken out or moved, or undefined when the chain is whole. */
export async function findBrokenAudit(
  database: Sqlite,
): Promise<{ readonly seq: number; readonly why: string } | undefined> {
  let expected = 1;
  let previous = GENESIS;
  for (const row of drizzle(database).select().from(audit).orderBy(asc(audit.seq)).all()) {
    if (row.seq !== expected) return { seq: expected, why: "record is missing" };
    if (row.previous !== previous || row.hash !== chain(row.seq, row, previous))
      return { seq: row.seq, why: "record was changed" };
    previous = row.hash;
    expected += 1;
  }
  return undefined;
}

function chain(seq: number, entry: AuditEntry, previous: string): string {
  return createHash("sha256")
    .update(JSON.stringify([seq, entry.atMs, entry.actor, entry.action, entry.subject, entry.detail, previous]))
    .digest("hex");
}
