// Names with stars, such as "gpt-5*". A star is any number of any characters. Matched in one walk from star to star, so
// that no name and no pattern, however many stars it has, takes more than their lengths.

/** Whether a name fits the pattern. */
export function createGlob(pattern: string): (name: string) => boolean {
  const [first = "", ...parts] = pattern.split("*");
  const last = parts.pop();
  if (last === undefined) return (name) => name === first;
  return (name) => {
    if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) return false;
    const end = name.length - last.length;
    let at = first.length;
    for (const part of parts) {
      const found = name.indexOf(part, at);
      if (found < 0 || found + part.length > end) return false;
      at = found + part.length;
    }
    return true;
  };
}
