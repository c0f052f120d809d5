// How far telemetry has got: a place in the order of commits (or of the audit) and what a destination keeps with it, changed
// together. billing.db; the collector is its only writer.
import { eq } from "../drizzle.ts";
import { tablesOf } from "../engine.ts";
import type { BillingBooks } from "../books.ts";
import { telemetry } from "./schema.ts";

export type TelemetryMark = {
  readonly number: number;
  readonly position: number;
  /** From when on it exports. */
  readonly sinceMs: number;
  readonly state: string | null;
};

export async function findMark(books: BillingBooks, name: string): Promise<TelemetryMark | undefined> {
  const [row] = await tablesOf(books).select().from(telemetry).where(eq(telemetry.name, name)).all();
  return row;
}

/** Sets it, whole. */
export async function noteMark(books: BillingBooks, name: string, mark: TelemetryMark): Promise<void> {
  await books.transaction(async (own) => {
    const { number, position, sinceMs, state } = mark;
    const values = { number, position, sinceMs, state };
    await tablesOf(own)
      .insert(telemetry)
      .values({ name, ...values })
      .onConflictDoUpdate({ target: telemetry.name, set: values })
      .run();
  });
}
