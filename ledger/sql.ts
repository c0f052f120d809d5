// What readers say in SQL that takes a word of explanation, in one text that both engines run.
import { sql } from "./drizzle.ts";
import type { AnySQLiteColumn, SQL } from "./drizzle.ts";

/** Whether a column fits a pattern with stars, as `createGlob` says it of a name. SQLite has `glob`; our Postgres schema
 *  brings one. */
export function matches(column: AnySQLiteColumn, pattern: string): SQL {
  // These mean something to SQLite, and nothing here.
  return sql`glob(${pattern.replace(/[[?]/g, "[$&]")}, ${column})`;
}
