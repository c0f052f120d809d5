// The runbook as a page: one heading an alert, each with an anchor that messages link to. Read once.
import { readFileSync } from "node:fs";
import { Marked } from "marked";

/** The page; ids of headings are their words in small letters, joined by dashes. */
export function runbookPage(): string {
  const words = readFileSync(new URL("./runbook.md", import.meta.url), "utf8");
  const marked = new Marked({
    renderer: {
      heading({ tokens, depth, text }) {
        const id = text.toLowerCase().replace(/[^a-z0-9]+/g, "-");
        return `<h${depth} id="${id}">${this.parser.parseInline(tokens)}</h${depth}>\n`;
      },
    },
  });
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Keymeter runbook</title>
<style>
  :root { color-scheme: light dark; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem 1rem 50vh; }
  h2 { margin-top: 2.5rem; overflow-wrap: anywhere; }
  h2:target { background: light-dark(#fff3bf, #4a3f00); }
  code, pre { font-family: ui-monospace, monospace; font-size: 0.9em; }
  code { background: light-dark(#f1f3f5, #2b2f33); padding: 0.1em 0.3em; border-radius: 3px; overflow-wrap: anywhere; }
  pre { background: light-dark(#f1f3f5, #2b2f33); padding: 0.75rem; overflow-x: auto; }
  pre code { padding: 0; }
</style>
<main>
${marked.parse(words, { async: false })}</main>
</html>
`;
}
