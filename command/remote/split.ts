// The options that stand before the verb: where it runs.

export const WHERE_OPTIONS = ["--server", "--token", "--token-file", "--profile"] as const;
type Option = (typeof WHERE_OPTIONS)[number];
/** What was said before the verb. */
export type Given = { readonly [option in Option]?: string } & { readonly isLocal: boolean };

/** The options before the verb, and the words from the verb on. One without a value is empty. */
export function splitWhere(words: readonly string[]): { readonly given: Given; readonly rest: readonly string[] } {
  const given: { [option in Option]?: string } = {};
  let isLocal = false;
  let at = 0;
  for (; at < words.length; at++) {
    const word = words[at] ?? "";
    const [name = "", ...value] = word.split("=");
    const option = WHERE_OPTIONS.find((one) => one === name);
    if (word === "--local") isLocal = true;
    else if (!option) break;
    else if (value.length > 0) given[option] = value.join("=");
    else {
      at += 1;
      given[option] = words[at] ?? "";
    }
  }
  return { given: { ...given, isLocal }, rest: words.slice(at) };
}
