// Text in CSV, as spreadsheets take it.

/** A spreadsheet takes text that begins like this for a formula, in narrow and in full-width signs, also behind
 *  spaces. */
const FORMULA = /^[\s\p{Cc}\p{Cf}\p{Z}]*[=+\-@＝＋－＠|%]|^[\t\r]/u;
/** Marks that turn the direction of what follows: they make a text look like another one. */
const DIRECTIONS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** A text as a field: what would be run as a formula has an apostrophe in front, and is shown as it is. */
export function csvText(text: string): string {
  const plain = text.replace(DIRECTIONS, "");
  return FORMULA.test(plain) ? `'${plain}` : plain;
}
