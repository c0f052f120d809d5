// Text in CSV, as spreadsheets take it.

/** A spreadsheet takes text that begins like this for a formula. */
const FORMULA = /^[=+\-@\t\r]/;

/** A text as a field: what would be run as a formula has an apostrophe in front, and is shown as it is. */
export function csvText(text: string): string {
  return FORMULA.test(text) ? `'${text}` : text;
}
