// The books on SQLite: which connections stand behind a handle. Reads have one of their own, so that a change that
// waits for something is never seen half made, and never takes a read of somebody else into it.
import { answerOf } from "./asking.ts";
import { LedgerError } from "./books.ts";
import type { BookName, Books } from "./books.ts";
import { bind, unbind } from "./engine.ts";
import type { Engine, Run } from "./engine.ts";
import type { Sqlite } from "./sqlite.ts";

const connections = new WeakMap<Books<BookName>, Sqlite>();

/** The connection behind a handle: for what only SQLite has. */
export function sqliteOf(books: Books<BookName>): Sqlite {
  const found = connections.get(books);
  if (!found) throw new Error("these books were not opened here, or their change is over");
  return found;
}

/** Makes a handle. `writing` undefined: for reading only. `closed` is called when its connections are. */
export function sqliteBooks<Name extends BookName>(
  reading: Sqlite,
  writing?: Sqlite,
  closed: () => void = () => undefined,
): Books<Name> {
  let last: Promise<unknown> = Promise.resolve();
  return handle<Name>(reading, {
    transaction(change) {
      if (!writing) return Promise.reject(new LedgerError(`${reading.name} is open for reading only`));
      const made = last.then(() => makeChange(writing, change));
      last = made.catch(() => undefined);
      return made;
    },
    async close() {
      await last;
      reading.close();
      writing?.close();
      closed();
    },
  });
}

async function makeChange<Name extends BookName, T>(
  writing: Sqlite,
  change: (books: Books<Name>) => Promise<T>,
): Promise<T> {
  const own: Books<Name> = handle<Name>(writing, {
    // A change inside a change is part of it.
    transaction: (inner) => inner(own),
    close: () => Promise.reject(new Error("a change does not close its books")),
  });
  writing.exec("BEGIN IMMEDIATE");
  try {
    const made = await change(own);
    writing.exec("COMMIT");
    return made;
  } catch (error) {
    if (writing.inTransaction) writing.exec("ROLLBACK");
    throw error;
  } finally {
    connections.delete(own);
    unbind(own);
  }
}

function handle<Name extends BookName>(
  sqlite: Sqlite,
  methods: Pick<Books<Name>, "transaction" | "close">,
): Books<Name> {
  const made = methods as Books<Name>;
  connections.set(made, sqlite);
  return bind(made, engineOf(sqlite));
}

function engineOf(sqlite: Sqlite): Engine {
  const run: Run = async (text, values) => answerOf(sqlite, { text, values });
  let last: Promise<unknown> = Promise.resolve();
  return {
    run,
    // One after the other: the connection has one transaction. What others read meanwhile sees the same state.
    snapshot(read) {
      const made = last.then(async () => {
        if (sqlite.inTransaction) return read(run);
        sqlite.exec("BEGIN");
        try {
          return await read(run);
        } finally {
          sqlite.exec("COMMIT");
        }
      });
      last = made.catch(() => undefined);
      return made;
    },
    async mark() {
      const own = String(sqlite.prepare("SELECT total_changes()").pluck().get());
      return `${String(sqlite.pragma("data_version", { simple: true }))} ${own}`;
    },
    async damage() {
      const said = String(sqlite.pragma("quick_check(1)", { simple: true }));
      return said === "ok" ? undefined : said;
    },
  };
}
