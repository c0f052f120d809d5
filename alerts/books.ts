// The other programs' books, to read: each is opened when it is there, which may be later than we are.
import { openForReading } from "../ledger/open.ts";
import type { Sqlite } from "../ledger/open.ts";
import type { FigureBooks } from "./figures.ts";

export type OtherBooks = {
  /** Those that are there by now. */
  now(): FigureBooks;
  close(): void;
};

export function openOtherBooks(dataDir: string): OtherBooks {
  const open = new Map<string, Sqlite>();
  const reader = (name: string): Sqlite | undefined => {
    const known = open.get(name) ?? openForReading(`${dataDir}/${name}`);
    if (known) open.set(name, known);
    return known;
  };
  return {
    now: () => ({ usage: reader("usage.db"), billing: reader("billing.db") }),
    close() {
      for (const one of open.values()) one.close();
    },
  };
}
