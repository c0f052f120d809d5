// The books in Postgres: a handle over a pool. Each read takes any connection; a change has one of its own from its BEGIN
// to its COMMIT.
import { setTimeout as sleep } from "node:timers/promises";
import { LedgerError } from "./books.ts";
import type { BookName, Books } from "./books.ts";
import { bind, unbind } from "./engine.ts";
import type { Engine } from "./engine.ts";
import type { Leader } from "./leader.ts";
import { runOn } from "./postgres.ts";
import type { Client, Pool } from "./postgres.ts";

const ROLLBACK_MS = 2_000;

/** Makes a handle. `isReadOnly`: changes are refused. `leader`: who may make them. `closed` is called when it is. */
export function postgresBooks<Name extends BookName>(
  pool: Pool,
  name: Name,
  {
    isReadOnly,
    leader,
    closed,
  }: { readonly isReadOnly: boolean; readonly leader?: Leader; readonly closed: () => Promise<void> },
): Books<Name> {
  let last: Promise<unknown> = Promise.resolve();
  const books = {
    transaction(change) {
      if (isReadOnly) return Promise.reject(new LedgerError(`the ${name} book is open for reading only`));
      const make = async (client: Client): Promise<Awaited<ReturnType<typeof change>>> => {
        await leader?.check(client, false);
        const made = await makeChange(client, name, change);
        await leader?.check(client, true);
        return made;
      };
      const made = last.then(() => within(pool, "BEGIN", make));
      last = made.catch(() => undefined);
      return made;
    },
    async close() {
      await last;
      await leader?.release();
      await closed();
    },
  } as Books<Name>;
  return bind(books, {
    run: (text, values) => runOn(pool, text, values),
    snapshot: (read) =>
      within(pool, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", (client) =>
        read((text, values) => runOn(client, text, values)),
      ),
    mark: () => markOf(pool, name),
    damage,
  });
}

async function makeChange<Name extends BookName, T>(
  client: Client,
  name: Name,
  change: (books: Books<Name>) => Promise<T>,
): Promise<T> {
  const run: Engine["run"] = (text, values) => runOn(client, text, values);
  const own: Books<Name> = bind<Name>(
    {
      // A change inside a change is part of it.
      transaction: (inner: (books: Books<Name>) => Promise<unknown>) => inner(own),
      close: () => Promise.reject(new Error("a change does not close its books")),
    } as Books<Name>,
    { run, snapshot: (read) => read(run), mark: () => markOf(client, name), damage },
  );
  try {
    const made = await change(own);
    await run("UPDATE marks SET mark = mark + 1 WHERE book = ?", [name]);
    return made;
  } finally {
    unbind(own);
  }
}

/** Postgres looks at its pages itself, where it was made with checksums: what is damaged cannot be read. */
async function damage(): Promise<undefined> {
  return undefined;
}

async function markOf(client: Pool | Client, name: BookName): Promise<string> {
  const [row] = await runOn(client, "SELECT mark FROM marks WHERE book = ?", [name]);
  return String(row?.[0]);
}

/** Runs something in a transaction on a connection of its own. One that is in doubt is not used again. */
export async function within<T>(pool: Pool, begin: string, act: (client: Client) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let isDoubtful = true;
  try {
    await client.query(begin);
    const made = await act(client);
    const { command } = await client.query("COMMIT");
    isDoubtful = false;
    // After a statement that failed Postgres makes a rollback of it, without an error.
    if (command !== "COMMIT") throw new Error("a statement of this change failed: nothing of it was made");
    return made;
  } catch (error) {
    // Behind a statement that is not answered nothing is.
    const rolledBack = client.query("ROLLBACK").then(
      () => (isDoubtful = false),
      () => undefined,
    );
    await Promise.race([rolledBack, sleep(ROLLBACK_MS)]);
    throw error;
  } finally {
    client.release(isDoubtful);
  }
}
