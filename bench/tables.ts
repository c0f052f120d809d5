// Small tables in CSV without quotes, packed or not: what the forecast and alert benches read.
import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

/** The rows of a table by column name; an Error where a column is missing. */
export function readTable<C extends string>(path: string, columns: readonly C[]): { readonly [name in C]: string }[] {
  const bytes = readFileSync(path);
  const [head = "", ...rows] = (path.endsWith(".gz") ? gunzipSync(bytes) : bytes)
    .toString("utf8")
    .trim()
    .split(/\r?\n/);
  const names = head.split(",");
  for (const column of columns)
    if (!names.includes(column)) throw new Error(`${path}: no column ${column}; it has ${names.join(", ")}`);
  return rows.map((row) => {
    const values = row.split(",");
    return Object.fromEntries(names.map((name, i) => [name, values[i] ?? ""])) as { readonly [name in C]: string };
  });
}

export function round(value: number): string {
  return value === 0 ? "0" : String(Number(value.toPrecision(7)));
}
