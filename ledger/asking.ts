// Questions whose rows are given to whoever asked them, without a word of who answers: inside a transaction of SQLite at
// once, in one of Postgres when its rows have come. What decides by rows, and writes some, is written once for both.
import type { BookName, Books } from "./books.ts";
import { drizzleOver, getTableColumns, sql, SQLiteAsyncDialect } from "./drizzle.ts";
import type { AnySQLiteColumn, SQL, SQLiteTable } from "./drizzle.ts";
import { portable, runOf } from "./engine.ts";
import type { Run } from "./engine.ts";
import type { Sqlite, Statement } from "./sqlite.ts";

/** One statement. Values stand where the text has `?`; rows are lists of columns, integers are bigint. */
export type Asked = { readonly text: string; readonly values: readonly unknown[] };

/** What comes to a result by questions: each is yielded, and given its rows. */
export type Asking<T> = Generator<Asked, T, readonly unknown[][]>;

/** Asks a text. */
export function* ask<Row extends readonly unknown[]>(
  text: string,
  ...values: readonly unknown[]
): Asking<readonly Row[]> {
  return (yield { text, values }) as unknown as readonly Row[];
}

/** The first column of the first row; undefined where there is none. */
export function* askValue<Value>(text: string, ...values: readonly unknown[]): Asking<Value | undefined> {
  const [row] = yield* ask<[Value]>(text, ...values);
  return row?.[0];
}

const dialect = new SQLiteAsyncDialect();

/** Asks what drizzle's `sql` says. */
export function* askSql<Row extends readonly unknown[]>(query: SQL): Asking<readonly Row[]> {
  const { sql: text, params } = dialect.sqlToQuery(query);
  return yield* ask<Row>(text, ...params);
}

/** drizzle as a maker of texts. */
export const write = drizzleOver(() => Promise.reject(new Error("this one only makes texts")));

type Query = { toSQL(): { readonly sql: string; readonly params: unknown[] } };

/** Rows of a table, in an order. */
export function* askRows<Table extends SQLiteTable>(
  table: Table,
  where: SQL | undefined,
  ...order: readonly (SQL | AnySQLiteColumn)[]
): Asking<Table["$inferSelect"][]> {
  const columns = Object.entries(getTableColumns(table));
  const by = order.length === 0 ? undefined : sql.join([...order], sql`, `);
  const query = write.select().from(table).where(where);
  const { sql: text, params } = (by === undefined ? query : query.orderBy(by)).toSQL();
  const rows = yield { text: portable(text), values: params };
  return rows.map((row) =>
    Object.fromEntries(
      columns.map(([field, column], i) => [field, row[i] === null ? null : column.mapFromDriverValue(row[i])]),
    ),
  );
}

/** Makes a change that drizzle has written. Returns how many rows it returns: with `.returning(ONE)`, how many there
 *  were. */
export function* tell(query: Query): Asking<number> {
  const { sql: text, params } = query.toSQL();
  return (yield { text: portable(text), values: params }).length;
}

export const ONE = { one: sql`1` };

const prepared = new WeakMap<Sqlite, Map<string, Statement>>();
/** The same texts come again and again. */
const MOST_PREPARED = 200;

/** Answers from SQLite, at once. */
export function answerFrom<T>(database: Sqlite, asking: Asking<T>): T {
  let step = asking.next([]);
  while (!step.done) step = asking.next(answerOf(database, step.value));
  return step.value;
}

/** The rows of one question. */
export function answerOf(database: Sqlite, { text, values }: Asked): unknown[][] {
  let known = prepared.get(database);
  if (!known) prepared.set(database, (known = new Map()));
  let statement = known.get(text);
  if (!statement) {
    statement = database.prepare(text);
    if (statement.reader) statement.raw();
    if (known.size >= MOST_PREPARED) known.clear();
    known.set(text, statement);
  }
  if (statement.reader) return statement.all(...values) as unknown[][];
  statement.run(...values);
  return [];
}

/** Answers with what a connection says. What goes wrong is thrown where it was asked. */
export async function answerWith<T>(run: Run, asking: Asking<T>): Promise<T> {
  let step = asking.next([]);
  while (!step.done) step = asking.next(await run(step.value.text, step.value.values));
  return step.value;
}

/** Answers from books that are open for reading. */
export function answerIn<T>(books: Books<BookName>, asking: Asking<T>): Promise<T> {
  return answerWith(runOf(books), asking);
}
