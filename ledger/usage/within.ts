// A part of what was metered: of one team, key, model ... Read models are narrowed to it.
import { sql } from "../drizzle.ts";
import type { AnySQLiteColumn, SQL } from "../drizzle.ts";
import { matches } from "../sql.ts";
import { booked } from "./schema.ts";

/** Values by dimension; a value may hold stars (`gpt-5*`). */
export type Within = {
  readonly [dimension in "key" | "team" | "project" | "env" | "user" | "payer" | "provider" | "model"]?: string;
};

type Columns = { readonly [dimension in keyof Within]-?: AnySQLiteColumn };

/** The dimensions of an event. */
export const BOOKED_COLUMNS: Columns = {
  key: booked.keyId,
  team: booked.team,
  project: booked.project,
  env: booked.env,
  user: booked.user,
  payer: booked.payer,
  provider: booked.provider,
  model: booked.model,
};

/** The part as conditions on columns. */
export function lies(within: Within, columns: Columns): SQL[] {
  return Object.entries(within).map(([dimension, value]) => {
    const column = columns[dimension as keyof Within];
    return value.includes("*") ? matches(column, value) : sql`${column} = ${value}`;
  });
}
