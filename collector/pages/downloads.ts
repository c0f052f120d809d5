// A page as JSON, and one of its tables as CSV: the figures that are shown, with all their digits.
import { stringify } from "csv-stringify/sync";
import { csvText } from "../../service/csv.ts";
import { formatUsdExact } from "../../ledger/money.ts";
import type { Cell, Column, Page, Table, Value } from "./page.ts";

/** What a value's field is called, with its unit last. */
const UNITS: { readonly [kind in Value["is"]]: { readonly json: string; readonly csv: string } } = {
  text: { json: "", csv: "" },
  usd: { json: "NanoUsd", csv: "_usd" },
  count: { json: "", csv: "" },
  share: { json: "Ratio", csv: "_ratio" },
  time: { json: "At", csv: "_at" },
  seconds: { json: "Seconds", csv: "_seconds" },
};
/** A table as CSV (RFC 4180, UTF-8, a header): money as exact decimals of USD, nothing where a figure is not known. */
export function toCsv({ columns, rows, total }: Table): string {
  return stringify([
    columns.map(({ field, is }) => named(snake(field), UNITS[is].csv)),
    ...[...rows, ...(total ? [total] : [])].map((row) => row.map(csvCell)),
  ]);
}

function csvCell(cell: Cell): string {
  if (!cell) return "";
  switch (cell.is) {
    case "text":
      return csvText(cell.text);
    case "usd":
      return formatUsdExact(cell.nanoUsd);
    case "count":
      return String(cell.count);
    case "share":
      return String(cell.share);
    case "time":
      return new Date(cell.atMs).toISOString();
    case "seconds":
      return String(cell.seconds);
  }
}

/** A page as JSON: money as decimal strings of nano-USD, null where a figure is not known. */
export function toPageJson(page: Page, asOfMs: number): string {
  return `${JSON.stringify(
    {
      title: page.title,
      ...(page.subject === undefined ? {} : { subject: page.subject }),
      asOf: new Date(asOfMs).toISOString(),
      sections: page.sections.map(({ title, question, money, figures, table, notes }) => ({
        title,
        question,
        money,
        ...(figures
          ? { figures: figures.map((one) => ({ title: one.title, money: one.money, ...jsonFigure(one.value) })) }
          : {}),
        ...(table ? { table: table.name, rows: table.rows.map((row) => jsonRow(table.columns, row)) } : {}),
        ...(table?.total ? { total: jsonRow(table.columns, table.total) } : {}),
        ...(notes ? { notes } : {}),
      })),
    },
    null,
    2,
  )}\n`;
}

function jsonFigure(cell: Cell): object {
  return cell ? { unit: cell.is === "usd" ? "nanoUsd" : cell.is, value: jsonCell(cell) } : { value: null };
}

function jsonRow(columns: readonly Column[], row: readonly Cell[]): object {
  return Object.fromEntries(
    columns.map(({ field, is }, i) => {
      const cell = row[i];
      // A sum has words only under words: elsewhere there is nothing to add up.
      return [named(field, UNITS[is].json), cell && (is === "text" || cell.is !== "text") ? jsonCell(cell) : null];
    }),
  );
}

function jsonCell(cell: Value): string | number {
  switch (cell.is) {
    case "text":
      return cell.text;
    case "usd":
      return cell.nanoUsd.toString();
    case "count":
      return cell.count;
    case "share":
      return cell.share;
    case "time":
      return new Date(cell.atMs).toISOString();
    case "seconds":
      return cell.seconds;
  }
}

/** A field that is called by its unit already does not say it twice. */
function named(field: string, unit: string): string {
  return field === unit.replace(/^_/, "").toLowerCase() ? field : `${field}${unit}`;
}

function snake(field: string): string {
  return field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
