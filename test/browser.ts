// A headless Chromium from Debian, for pages as readers have them. Where it is not installed, tests that need it say
// so, loudly.
import { existsSync, readFileSync } from "node:fs";
import { chromium } from "playwright-core";
import type { Browser, Page } from "playwright-core";
import { noteSkipped } from "./skipped.ts";

const PATHS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const PATH = PATHS.find((path) => existsSync(path));
/** No connection but to the page: the machine may have no network, and tests must not need one. */
const QUIET = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export const HAS_BROWSER = PATH !== undefined;
if (!HAS_BROWSER) noteSkipped("tests in a browser: chromium is not installed");

export async function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: PATH ?? "", args: QUIET });
}

type AxeResult = {
  readonly violations: readonly {
    readonly id: string;
    readonly impact: string | null;
    readonly nodes: readonly { readonly html: string }[];
  }[];
};

/** What axe finds wrong with a page: a line each. */
export async function findBarriers(page: Page): Promise<string[]> {
  await page.evaluate(readFileSync(new URL(import.meta.resolve("axe-core/axe.min.js")), "utf8"));
  const { violations } = await page.evaluate<AxeResult>("axe.run()");
  return violations.map(({ id, impact, nodes }) => `${id} (${impact}): ${nodes[0]?.html.slice(0, 200)}`);
}
