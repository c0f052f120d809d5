// Rows as CSV for a file or a pipe: a header, all digits, nothing that a spreadsheet would run.
import { stringify } from "csv-stringify/sync";
import { csvText } from "../service/csv.ts";

/** Rows of values under headings; bigints are whole numbers, null and undefined are empty. */
export function toCsv(
  headings: readonly string[],
  rows: readonly (readonly (string | number | bigint | null | undefined)[])[],
): string {
  return stringify([
    [...headings],
    ...rows.map((row) =>
      row.map((cell) => (typeof cell === "string" && !NUMBER.test(cell) ? csvText(cell) : String(cell ?? ""))),
    ),
  ]);
}

const NUMBER = /^-?\d+(\.\d+)?$/;
