// The words that go by in an answer: counted where they stand in the text of an event, which is not parsed for it.

/** Names as they stand in the text of an event. */
type Marks = readonly `"${string}"`[];

export function marksOf(...names: readonly string[]): Marks {
  return names.map((name) => `"${name}"` as const);
}

/** Counts the bytes of texts that stand under the first of the names that has any: an event carries words of one
 *  kind. */
export function countWords(data: string, marks: Marks): number {
  let bytes = 0;
  for (const mark of marks) {
    if (bytes > 0) break;
    for (let at = data.indexOf(mark); at >= 0; at = data.indexOf(mark, at + mark.length)) {
      // The value: a text behind a colon.
      let start = at + mark.length;
      while (data.charCodeAt(start) <= 0x20) start++;
      if (data[start] !== ":") continue;
      start++;
      while (data.charCodeAt(start) <= 0x20) start++;
      if (data[start] !== '"') continue;
      let end = data.indexOf('"', start + 1);
      while (end > 0 && isEscaped(data, end)) end = data.indexOf('"', end + 1);
      bytes += (end < 0 ? data.length : end) - start - 1;
    }
  }
  return bytes;
}

function isEscaped(data: string, at: number): boolean {
  let slashes = 0;
  while (data[at - 1 - slashes] === "\\") slashes++;
  return slashes % 2 === 1;
}
