// One of several programs of a kind leads, the others stand by: a row of the database, held for as long as it is renewed.
// Whoever was followed by another writes nothing more: each change looks at its epoch.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { LedgerError, LedgerInUse } from "./books.ts";
import { runOn } from "./postgres.ts";
import type { Client, Pool } from "./postgres.ts";

export type Leader = {
  /** Inside the transaction of a change, when it begins and before it is committed: rejects with a LedgerError when another
   *  one leads by now. `isEnd`: until the commit none can follow. */
  check(client: Client, isEnd: boolean): Promise<void>;
  /** Lets another one lead at once. */
  release(): Promise<void>;
};

const RENEW_MS = 3_000;
const ASK_AGAIN_MS = 1_000;

/** Leads, as soon as nobody else does: `onWait` hears once who does. Without it rejects with LedgerInUse. */
export async function lead(pool: Pool, role: string, name: string, onWait?: (who: string) => void): Promise<Leader> {
  const holder = randomUUID();
  const take = async (): Promise<bigint | undefined> => {
    const [row] = await runOn(pool, "SELECT lead_v1(?, ?, ?)", [role, holder, name]);
    return (row?.[0] as bigint | null) ?? undefined;
  };
  let epoch = await take();
  for (let isTold = false; epoch === undefined; epoch = await take()) {
    if (!onWait) throw new LedgerInUse(`${await whoLeads(pool, role)} leads. Ask that program, or stop it first.`);
    if (!isTold) onWait(await whoLeads(pool, role));
    isTold = true;
    await sleep(ASK_AGAIN_MS);
  }
  // What fails now is asked again; a change finds out what became of it.
  const renew = async (): Promise<void> => {
    // Who was followed does not lead again by chance: a change finds that out.
    if ((await take()) !== epoch) clearInterval(renewing);
  };
  const renewing = setInterval(() => void renew().catch(() => undefined), RENEW_MS).unref();
  return {
    async check(client, isEnd) {
      const lock = isEnd ? " FOR SHARE" : "";
      const rows = await runOn(client, `SELECT 1 FROM leaders WHERE role = ? AND holder = ? AND epoch = ?${lock}`, [
        role,
        holder,
        epoch,
      ]);
      if (rows.length > 0) return;
      throw new LedgerError(
        `${await whoLeads(pool, role)} leads by now: this one was not heard of for 15 s. Start it again, and it stands by.`,
      );
    },
    async release() {
      clearInterval(renewing);
      await runOn(pool, "DELETE FROM leaders WHERE role = ? AND holder = ?", [role, holder]).catch(() => undefined);
    },
  };
}

async function whoLeads(pool: Pool, role: string): Promise<string> {
  const [row] = await runOn(pool, "SELECT name FROM leaders WHERE role = ?", [role]);
  return row === undefined ? "another one" : String(row[0]);
}
