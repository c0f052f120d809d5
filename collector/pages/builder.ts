// What builds a page: the books as of one instant, and what was asked.
import type { PriceBook } from "../../ledger/prices/price-book.ts";
import type { Holder } from "../../ledger/usage/tokens.ts";
import type { Calendar } from "../../ledger/windows.ts";
import type { CollectorBooks } from "../compare.ts";
import type { Stated } from "../match.ts";
import type { Page } from "./page.ts";

/** What all pages are built with, whoever looks. */
export type PageSource = Omit<PageContext, "holder" | "mayAsk">;

export type PageContext = {
  readonly books: CollectorBooks;
  readonly calendar: Calendar;
  readonly prices: PriceBook;
  readonly stated: Stated;
  /** Where the books of other programs are. */
  readonly place: string;
  readonly capMode: "enforce" | "observe";
  /** Providers whose bills are read here. */
  readonly sources: readonly string[];
  readonly nowMs: number;
  /** Who looks at it. */
  readonly holder: Holder;
  /** Whether he may have the command do such words. */
  readonly mayAsk: (verb: string, word: string) => boolean;
};

/** What was asked of a page, as it stands in the address. */
export type Query = { readonly [name: string]: string };

/** Builds a page; undefined: there is no such team, key or day. */
export type BuildPage = (context: PageContext, query: Query) => Promise<Page | undefined>;
