// Tables for people: columns padded to their widest cell, numbers to the right.

/** Rows of cells under headings; "(none)" where there are none. A column whose cells all look like numbers is aligned
 *  to the right. */
export function formatTable(headings: readonly string[], given: readonly (readonly string[])[]): string {
  // Names of others stand in tables: none of them moves the cursor or turns the line.
  const rows = given.map((row) => row.map(printable));
  if (rows.length === 0) return `${headings.join("  ")}\n(none)`;
  const widths = headings.map((heading, i) => Math.max(heading.length, ...rows.map((row) => (row[i] ?? "").length)));
  const isNumber = headings.map((_heading, i) =>
    rows.every((row) => /^(≥ )?[-–]?[\d.,]*$|^unpriced$/.test(row[i] ?? "")),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => (isNumber[i] ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)))
      .join("  ")
      .trimEnd();
  return [line(headings), line(widths.map((width) => "─".repeat(width))), ...rows.map(line)].join("\n");
}

/** Somebody's words on one line: what moves the cursor or colours the terminal is not theirs to say. */
export function printable(words: string): string {
  return words.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, "?");
}
