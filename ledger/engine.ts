// What stands behind a handle of books: an engine that runs a text, and drizzle over it. Readers ask here, in one text
// for both engines: what SQLite and Postgres both understand. For this folder only.
import type { BookName, Books } from "./books.ts";
import { drizzleOver, getTableColumns, getTableName } from "./drizzle.ts";
import type { SQLiteTable } from "./drizzle.ts";

/** Runs one statement. Values stand where the text has `?`. Rows are lists of columns; integers are bigint, also sums. */
export type Run = (text: string, values: readonly unknown[]) => Promise<unknown[][]>;

/** A connection, or what gives one to each statement. */
export type Engine = {
  readonly run: Run;
  /** Runs reads that all see the same state of the book. */
  snapshot<T>(read: (run: Run) => Promise<T>): Promise<T>;
  /** Changes whenever something is written into the book. */
  mark(): Promise<string>;
  /** What is wrong with how the book is kept, in the storage's words; undefined: nothing that it can find. */
  damage(): Promise<string | undefined>;
};

export type Tables = ReturnType<typeof overRun>;

const engines = new WeakMap<Books<BookName>, { readonly engine: Engine; readonly tables: Tables }>();

/** Puts an engine behind a handle. */
export function bind<Name extends BookName>(books: Books<Name>, engine: Engine): Books<Name> {
  engines.set(books, { engine, tables: overRun(engine.run) });
  return books;
}

/** Takes it away: the change that the handle was for is over. */
export function unbind(books: Books<BookName>): void {
  engines.delete(books);
}

/** The tables of a book, as drizzle sees them. */
export function tablesOf(books: Books<BookName>): Tables {
  return boundTo(books).tables;
}

/** The rows that a text asks for, each a list of its columns. */
export function rowsOf<Row extends readonly unknown[]>(
  books: Books<BookName>,
  text: string,
  ...values: readonly unknown[]
): Promise<Row[]> {
  return boundTo(books).engine.run(text, values) as unknown as Promise<Row[]>;
}

/** The first column of the first row; undefined where there is none. */
export async function valueOf<Value>(
  books: Books<BookName>,
  text: string,
  ...values: readonly unknown[]
): Promise<Value | undefined> {
  const [row] = await rowsOf<[Value]>(books, text, ...values);
  return row?.[0];
}

/** Rows that are written in one statement, and for a rest half of it, and half again: few texts, which stay prepared. */
const MOST_ROWS = 64;

/** Writes rows into a table, many in one statement. What a row does not have is the column's default, or null. The text
 *  is made here: drizzle's builder takes longer than the insert. */
export async function insertRows<Table extends SQLiteTable>(
  books: Books<BookName>,
  table: Table,
  rows: readonly Table["$inferInsert"][],
): Promise<void> {
  const columns = Object.entries(getTableColumns(table));
  const names = columns.map(([, { name }]) => `"${name}"`).join(", ");
  const row = `(${columns.map(() => "?").join(", ")})`;
  const head = `INSERT INTO "${getTableName(table)}" (${names}) VALUES `;
  const { run } = boundTo(books).engine;
  for (let i = 0, size = MOST_ROWS; i < rows.length; i += size) {
    while (size > rows.length - i) size /= 2;
    const values = rows
      .slice(i, i + size)
      .flatMap((one: { readonly [field: string]: unknown }) =>
        columns.map(([field, column]) => one[field] ?? (isPlain(column.default) ? column.default : null)),
      );
    await run(head + Array(size).fill(row).join(", "), values);
  }
}

function isPlain(value: unknown): boolean {
  return ["string", "number", "bigint"].includes(typeof value);
}

/** What runs single statements on a book. */
export function runOf(books: Books<BookName>): Run {
  return boundTo(books).engine.run;
}

/** Changes whenever something is written into the book: what was read of it before stands no longer. */
export function markOf(books: Books<BookName>): Promise<string> {
  return boundTo(books).engine.mark();
}

/** What is wrong with a book that is open, in the storage's words; undefined: nothing that it can find. */
export function damageOf(books: Books<BookName>): Promise<string | undefined> {
  return boundTo(books).engine.damage();
}

/** Reads that all see the same state of the book, over a handle of their own. */
export function snapshotOf<Name extends BookName, T>(
  books: Books<Name>,
  read: (books: Books<Name>) => Promise<T>,
): Promise<T> {
  const { engine } = boundTo(books);
  return engine.snapshot(async (run) => {
    const own = bind<Name>({ ...books }, { ...engine, run, snapshot: (inner) => inner(run) });
    try {
      return await read(own);
    } finally {
      unbind(own);
    }
  });
}

function boundTo(books: Books<BookName>): { readonly engine: Engine; readonly tables: Tables } {
  const found = engines.get(books);
  if (!found) throw new Error("these books were not opened here, or their change is over");
  return found;
}

function overRun(run: Run) {
  const tables = drizzleOver(async (text, values, method) => {
    const rows = await run(portable(text), values as unknown[]);
    // Of `get` drizzle takes the row itself; none is undefined, though its type has no word for it.
    return { rows: method === "get" ? (rows[0] as unknown[]) : rows };
  });
  // An error stays the engine's own: drizzle would put one around it that names the values, which may be anybody's.
  const { session } = tables as unknown as { readonly session: Session };
  const prepareQuery = session.prepareQuery.bind(session);
  session.prepareQuery = (...asked) => {
    const query = prepareQuery(...asked);
    query.queryWithCache = (_text, _values, ask) => ask();
    return query;
  };
  return tables;
}

/** A text of drizzle's as both engines read it: where rows are in conflict it writes "table"."column", which only SQLite
 *  does. */
export function portable(text: string): string {
  return text.replace(CONFLICT, (target) => target.replace(/"\w+"\.(?=")/g, ""));
}

const CONFLICT = / on conflict \([^)]*\)/;

type Session = {
  prepareQuery: (...asked: unknown[]) => {
    queryWithCache: (text: string, values: unknown[], ask: () => Promise<unknown>) => Promise<unknown>;
  };
};
