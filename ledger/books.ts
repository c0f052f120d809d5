// The three books as programs hold them: opaque, and each of its own type, so that a function says which one it needs
// and gets no other. No program sees a driver or SQL; what stands behind a handle (ledger/open.ts) is this folder's own
// matter.

export type BookName = "usage" | "billing" | "notices";

declare const book: unique symbol;

/** A book that is open. Reads see what is committed. */
export type Books<Name extends BookName> = {
  readonly [book]: Name;
  /** Makes a change: all of it or nothing. One after the other, on a connection of its own, which `change` gets as its
   *  books; what it asks of other handles is not part of it. Rejects with what `change` threw; with a LedgerError when
   *  the book is open for reading only. */
  transaction<T>(change: (books: Books<Name>) => Promise<T>): Promise<T>;
  /** Waits for the change that is being made. */
  close(): Promise<void>;
};

/** What was used, what it cost, keys, budgets: written by the proxy. */
export type UsageBooks = Books<"usage">;
/** What was billed, compared, signed and forecast: written by the collector. */
export type BillingBooks = Books<"billing">;
/** What was said to whom: written by alerts. */
export type NoticesBooks = Books<"notices">;

/** A ledger that cannot be used. `message` says what, where and what to do. */
export class LedgerError extends Error {
  override readonly name: string = "LedgerError";
}

/** The book has its writer already: another Keymeter process. */
export class LedgerInUse extends LedgerError {}
