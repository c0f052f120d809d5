// README.md and docs/ against the product: verbs and options, links and pictures, settings. What operating.md says of
// procedures is run in test/operating.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { VERBS } from "../command/verbs.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");
const manuals = readdirSync(join(ROOT, "docs"))
  .filter((name) => name.endsWith(".md"))
  .map((name) => `docs/${name}`);
const PAGES = ["README.md", ...manuals];

const verbs = Object.keys(VERBS);

/** What the verb itself says of its words and options. */
async function usageOf(verb: string): Promise<string> {
  const file = verb === "demo" ? "demo/demo" : verb;
  const module = (await import(pathToFileURL(join(ROOT, `command/${file}.ts`)).href)) as { [name: string]: unknown };
  return Object.entries(module)
    .flatMap(([name, value]) => (name.endsWith("USAGE") ? [String(value)] : []))
    .join("\n");
}

/** Each `keymeter ...` of a page, in whichever way it is started: its words up to the end of the command, or the blanks
 *  before a remark. */
function commandsOf(page: string): string[] {
  const started = /(?:npx keymeter|node keymeter\.ts|node start\.mjs|`keymeter) ([a-z](?:(?! {2}|→)[^\n`|;#])*)/g;
  return [...read(page).matchAll(started)].map(([, words = ""]) => words.trim());
}

/** Headings as GitHub makes anchors of them. */
function anchorsOf(markdown: string): Set<string> {
  const plain = markdown.replace(/^```[\s\S]*?^```$/gm, "");
  return new Set(
    [...plain.matchAll(/^#{1,6} (.+)$/gm)].map(([, title = ""]) =>
      title
        .toLowerCase()
        .replace(/[^\p{L}\p{N}\s_-]/gu, "")
        .trim()
        .replaceAll(" ", "-"),
    ),
  );
}

type Link = { readonly target: string; readonly isPicture: boolean };

function linksOf(markdown: string): Link[] {
  const plain = markdown.replace(/^```[\s\S]*?^```$/gm, "").replace(/`[^`\n]*`/g, "``");
  return [...plain.matchAll(/(!?)\[[^\]]*\]\(([^)\s]+)\)/g)].map(([, mark, target = ""]) => ({
    target,
    isPicture: mark === "!",
  }));
}

describe("README.md", () => {
  it("is read in two minutes: it has no more than 150 lines", () => {
    expect(read("README.md").trimEnd().split("\n").length).toBeLessThanOrEqual(150);
  });

  it("names how it is started and tested, as CI does", () => {
    expect(read("README.md")).toMatch(/^ {4}npm start$/m);
    expect(read("README.md")).toMatch(/^ {4}npm test$/m);
  });

  it("leads to each page of docs", () => {
    const targets = linksOf(read("README.md")).map(({ target }) => target.split("#")[0]);
    expect(manuals.filter((page) => !targets.includes(page))).toEqual([]);
  });
});

describe("docs/command.md", () => {
  it.each(verbs)("has an example of `%s`", (verb) => {
    expect(commandsOf("docs/command.md").map((line) => line.split(/\s+/)[0])).toContain(verb);
  });
});

describe.each(PAGES)("%s", (page) => {
  it("names only verbs, words and options that there are", async () => {
    const wrong: string[] = [];
    for (const line of commandsOf(page)) {
      const [verb = "", ...rest] = line.split(/\s+/);
      if (!verbs.includes(verb)) {
        wrong.push(`${line}: no verb`);
        continue;
      }
      const usage = await usageOf(verb);
      for (const [option] of rest.join(" ").matchAll(/(?<=^|\s)--?[a-z][\w-]*/g))
        if (!new RegExp(`(?<![\\w-])${option}(?![\\w-])`).test(usage) && option !== "--help")
          wrong.push(`${line}: ${option}`);
      const [word = ""] = rest;
      if (/^[a-z]+$/.test(word) && !new RegExp(`\\b${word}\\b`).test(usage)) wrong.push(`${line}: ${word}`);
    }
    expect(wrong).toEqual([]);
  });

  it("names only settings that there are", () => {
    const known = [
      "keymeter.example.yaml",
      "compose.yaml",
      ...["service", "proxy", "collector", "alerts", "command"].map((folder) => `${folder}/config.ts`),
      "service/settings.ts",
      "command/holder.ts",
      "command/remote/where.ts",
      "command/remote/elsewhere.ts",
    ].map(read);
    const names = new Set(known.join("\n").match(/\bKEYMETER_[A-Z_]+\b/g));
    const named = new Set(read(page).match(/\bKEYMETER_[A-Z_]+\b/g));
    expect([...named].filter((name) => !names.has(name))).toEqual([]);
  });

  it("names no file of these folders that is not there", () => {
    const named = [
      ...read(page).matchAll(/`((?:test|service|docs|alerts|ledger|proxy|collector|command|bench)\/[\w./-]+)`/g),
    ].map(([, path = ""]) => path);
    expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
  });
});

describe.each([...PAGES, "ARCHITECTURE.md", "CONTRIBUTING.md"])("%s", (page) => {
  const links = linksOf(read(page)).filter(({ target }) => !/^[a-z]+:/.test(target));

  it("has links and pictures that lead to a file and a heading that are there", () => {
    const broken = links.filter(({ target, isPicture }) => {
      const [file = "", anchor] = target.split("#");
      const path = file === "" ? page : relative(ROOT, join(ROOT, dirname(page), file));
      if (!existsSync(join(ROOT, path))) return true;
      if (isPicture) return !path.endsWith(".png");
      return anchor !== undefined && !anchorsOf(read(path)).has(anchor);
    });
    expect(broken).toEqual([]);
  });
});

describe("pictures", () => {
  const pictures = existsSync(join(ROOT, "docs/pictures")) ? readdirSync(join(ROOT, "docs/pictures")) : [];

  it.each(pictures)("%s is shown on a page, and is small enough to be loaded by everybody", (name) => {
    const shown = PAGES.some((page) => linksOf(read(page)).some(({ target }) => target.endsWith(`pictures/${name}`)));
    expect(shown).toBe(true);
    expect(readFileSync(join(ROOT, "docs/pictures", name)).length).toBeLessThan(300_000);
  });
});
