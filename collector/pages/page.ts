// A report page as a value: what stands on it, before anybody draws it. HTML, JSON and CSV are made of the same value,
// so that a download holds exactly what is shown. Money stays in nano-USD until it is written.
import type { NanoUsd } from "../../ledger/money.ts";
import type { Field } from "./field.ts";

/** `metered`: our own reading of answers, at list or negotiated prices. `billed`: the provider's word. `closed`:
 *  billed, and signed. `forecast`: frozen when its window began. `landing`: spent so far and what is to come, as it
 *  looks now. `hypothetical`: never spent. `none`: no money. */
export type MoneyKind = "metered" | "billed" | "closed" | "forecast" | "landing" | "hypothetical" | "none";

/** Where a name leads: a page and what of it. */
export type Link = { readonly page: string; readonly query?: { readonly [name: string]: string } };

/** One figure or word. `undefined` in its place: not known, which is not zero. */
export type Value =
  | { readonly is: "text"; readonly text: string; readonly link?: Link | undefined }
  /** `isFine`: money of single requests, which cents would hide. */
  | { readonly is: "usd"; readonly nanoUsd: NanoUsd; readonly isChange?: boolean; readonly isFine?: boolean }
  | { readonly is: "count"; readonly count: number }
  /** 0.2 is 20 %. */
  | { readonly is: "share"; readonly share: number }
  | { readonly is: "time"; readonly atMs: number }
  | { readonly is: "seconds"; readonly seconds: number };
export type Cell = Value | undefined;

/** `field` names it in downloads; the unit is added to it there. */
export type Column = {
  readonly field: string;
  readonly title: string;
  readonly is: Value["is"];
  /** Only in downloads: the same in nearly every row, and for machines. */
  readonly isFolded?: true;
};
export type Table = {
  /** Names its download. */
  readonly name: string;
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly Cell[])[];
  /** Sums of all rows, also of those on other pages of a long list. */
  readonly total?: readonly Cell[];
  /** Stands beside a chart that shows the same: folded until somebody wants it. */
  readonly isFolded?: boolean;
  /** What to say where there is no row. */
  readonly empty: string;
};

export type Figure = {
  readonly title: string;
  readonly value: Cell;
  readonly money: MoneyKind;
  readonly note?: string;
};

/** A drawing, as wide as a page and for a phone, with its words for those who do not see it. */
export type Chart = { readonly svg: string; readonly narrow: string; readonly label: string };

export type Section = {
  readonly title: string;
  /** What it answers, in a sentence that ends with a question mark. */
  readonly question: string;
  readonly money: MoneyKind;
  readonly figures?: readonly Figure[];
  readonly chart?: Chart | undefined;
  readonly table?: Table;
  /** Sentences below. */
  readonly notes?: readonly string[];
};

/** A choice the reader has: a list, or a field to write in. */
export type Control = {
  readonly name: string;
  readonly label: string;
  readonly value: string;
  readonly options?: readonly { readonly value: string; readonly label: string }[];
  /** A field for a day. */
  readonly kind?: "date";
};

export type Page = {
  readonly title: string;
  /** What it is about, where that is somebody's own name. */
  readonly subject?: string;
  readonly sections: readonly Section[];
  readonly controls?: readonly Control[];
  /** Whose days its figures go by: of the zone that is set, or UTC, as bills do. */
  readonly days: "local" | "UTC";
  /** Its FOCUS file: the UTC days `[since, until)`, of one team or key where it is about one. */
  readonly focus?: {
    readonly since: string;
    readonly until: string;
    readonly team?: string;
    readonly key?: string;
    readonly provider?: string;
  };
  /** Fields that somebody fills in, below the sections. */
  readonly form?: FormView;
  /** Shown once, above the sections. */
  readonly secret?: string;
  /** Has no downloads: it is a step of something. */
  readonly isStep?: boolean;
  /** Has lines to sign when it is printed, and every row on one sheet. */
  readonly isSigned?: boolean;
};

/** A form as it is drawn. */
export type FormView = {
  readonly action: string;
  /** What is wrong with what was filled in. */
  readonly problem?: string | undefined;
  readonly hidden: { readonly [name: string]: string };
  readonly fields: readonly (Field & { readonly value: string; readonly isWrong?: boolean })[];
  /** Each sends the form, and says which it was. */
  readonly buttons: readonly { readonly step: string; readonly label: string; readonly isMain?: boolean }[];
};

export const text = (words: string, link?: Link): Value => ({ is: "text", text: words, link });
export const usd = (nanoUsd: NanoUsd | undefined): Cell => (nanoUsd === undefined ? undefined : { is: "usd", nanoUsd });
export const fine = (nanoUsd: NanoUsd | undefined): Cell =>
  nanoUsd === undefined ? undefined : { is: "usd", nanoUsd, isFine: true };
export const change = (nanoUsd: NanoUsd): Value => ({ is: "usd", nanoUsd, isChange: true });
export const count = (value: number): Value => ({ is: "count", count: value });
export const time = (atMs: number | undefined): Cell => (atMs === undefined ? undefined : { is: "time", atMs });
export const seconds = (ms: number | undefined): Cell =>
  ms === undefined ? undefined : { is: "seconds", seconds: ms / 1000 };

/** A part of a whole; undefined where there is no whole. */
export function share(part: NanoUsd | number, whole: NanoUsd | number): Cell {
  return Number(whole) === 0 ? undefined : { is: "share", share: Number(part) / Number(whole) };
}

/** Largest first, whichever sign. */
export function bySize(a: NanoUsd, b: NanoUsd): number {
  const [x, y] = [a < 0n ? -a : a, b < 0n ? -b : b];
  return y > x ? 1 : y < x ? -1 : 0;
}

export function sum(amounts: readonly NanoUsd[]): NanoUsd {
  return amounts.reduce((total, amount) => total + amount, 0n);
}
