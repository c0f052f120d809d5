// Did you mean: the known word that is nearest to a mistyped one.

/** The nearest of the known words, or undefined where none is near: as many slips are forgiven as a third of its
 *  letters. */
function closest(typed: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((word) => ({ word, slips: slipsBetween(typed.toLowerCase(), word.toLowerCase()) }))
    .toSorted((a, b) => a.slips - b.slips);
  const [first] = ranked;
  return first && first.slips <= Math.max(1, Math.ceil(typed.length / 3)) ? first.word : undefined;
}

/** ", did you mean X?" behind a complaint, or nothing. */
export function didYouMean(typed: string, known: readonly string[]): string {
  const word = closest(typed, known);
  return word === undefined || word === typed ? "" : `, did you mean ${word}?`;
}

/** Letters that are wrong, missing, too many, or change places with their neighbour. */
function slipsBetween(one: string, other: string): number {
  const rows: number[][] = [Array.from({ length: other.length + 1 }, (_, i) => i)];
  for (let i = 1; i <= one.length; i++) {
    const row = [i];
    for (let k = 1; k <= other.length; k++) {
      const isSame = one[i - 1] === other[k - 1];
      const isSwap = i > 1 && k > 1 && one[i - 1] === other[k - 2] && one[i - 2] === other[k - 1];
      row[k] = Math.min(
        (rows[i - 1]?.[k] ?? 0) + 1,
        (row[k - 1] ?? 0) + 1,
        (rows[i - 1]?.[k - 1] ?? 0) + (isSame ? 0 : 1),
        isSwap ? (rows[i - 2]?.[k - 2] ?? 0) + 1 : Infinity,
      );
    }
    rows.push(row);
  }
  return rows[one.length]?.[other.length] ?? 0;
}
