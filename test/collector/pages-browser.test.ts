// The report pages as readers have them, in a headless Chromium: every page and download, by keyboard, on paper, and
// the four questions of a newcomer.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { parse } from "csv-parse/sync";
import Fastify from "fastify";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findBarriers, HAS_BROWSER, openBrowser } from "../browser.ts";
import { MARKUP_TEAM, RIGHT_TO_LEFT_TEAM } from "../organisation.ts";
import { IS_CI, SEED } from "../seed.ts";
import { isTurnOf } from "../skipped.ts";
import { MANY, NOW_MS, openSites, spentBy } from "./sites.ts";
import type { Site, Sites } from "./sites.ts";

const SCREENSHOTS = process.env["KEYMETER_SCREENSHOTS"];

let sites: Sites;
let full: Site;
let empty: Site;
let one: Site;
let many: Site;

beforeAll(async () => {
  if (!HAS_BROWSER) return;
  sites = await openSites();
  ({ full, empty, one, many } = sites);
}, 300_000);
afterAll(async () => {
  await sites?.close();
});

const PATHS = (site: Site): string[] => [
  "overview",
  "changes",
  "changes?days=1",
  "teams",
  `team?id=${encodeURIComponent(site === full ? MARKUP_TEAM : "team-0")}`,
  "keys",
  `key?id=${site.keyId}`,
  "users",
  "repositories",
  "bills",
  "models",
  "refused",
  "chargeback?month=2026-11",
  ...(site === full
    ? ["bill?provider=openai&day=2026-11-06", `team?id=${encodeURIComponent(RIGHT_TO_LEFT_TEAM)}`]
    : []),
];

describe.skipIf(!HAS_BROWSER || !isTurnOf(1, 4, "report pages in a browser"))("in a browser", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await openBrowser();
  });
  afterAll(async () => {
    await browser?.close();
  });

  /** A signed-in reader; whatever the browser complains of is a failure. */
  async function reader(
    site: Site,
    colorScheme: "light" | "dark" = "light",
  ): Promise<{ page: Page; complaints: string[] }> {
    const page = await (await browser.newContext({ colorScheme, acceptDownloads: true })).newPage();
    const complaints: string[] = [];
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("dialog", (dialog) => {
      complaints.push(`a dialog: ${dialog.message()}`);
      void dialog.dismiss();
    });
    await page.goto(`${site.url}${site.makeLink()}`);
    await page.waitForURL(`${site.url}/overview`);
    return { page, complaints };
  }

  // With small counts one of the two, by the seed. In the dark, and with small counts, of the other ledgers only the pages that are
  // unlike: what a page says is the same in both.
  const schemes = (["light", "dark"] as const).filter((_, i) => IS_CI || SEED % 2 === i);
  const pathsOf = (site: Site, scheme: string): string[] =>
    PATHS(site).filter(
      (path) => (IS_CI && scheme === "light") || site === full || path === (site === many ? "keys" : "overview"),
    );
  it.each(schemes.map((scheme) => [scheme] as const))(
    "every page, %s, with an empty ledger, one key, many keys, names with scripts and right-to-left text: nothing serious by axe, no complaint",
    async (scheme) => {
      for (const site of [full, empty, one, many]) {
        const { page, complaints } = await reader(site, scheme);
        for (const path of pathsOf(site, scheme)) {
          const answer = await page.goto(`${site.url}/${path}`);
          if (answer?.status() === 404) {
            expect(site, `${path} is there`).toBe(empty);
            complaints.length = 0;
            continue;
          }
          expect(answer?.status(), path).toBe(200);
          expect(await findBarriers(page), path).toEqual([]);
          expect(complaints, path).toEqual([]);
          if (SCREENSHOTS && site === full)
            await page.screenshot({ path: join(SCREENSHOTS, `${path.split("?")[0]}-${scheme}.png`), fullPage: true });
        }
        await page.context().close();
      }
    },
  );

  it("every download comes, and holds the rows that are shown", async () => {
    const { page } = await reader(full);
    let downloads = 0;
    for (const path of PATHS(full).filter((one) => IS_CI || /^(overview|chargeback)/.test(one))) {
      await page.goto(`${full.url}/${path}`);
      const links = await page.locator('a[href*=".csv"], a[href*=".json"]').all();
      for (const link of links) {
        const address = (await link.getAttribute("href")) ?? "";
        const waiting = page.waitForEvent("download");
        await link.dispatchEvent("click");
        const download = await waiting;
        expect(await download.failure(), address).toBeNull();
        expect(download.suggestedFilename()).toMatch(/^keymeter-[a-z0-9-]+\.(csv|json)$/);
        downloads += 1;
        const table = new URL(address, page.url()).searchParams.get("table");
        if (table === null) continue;
        const shown = await page.locator(`table.${table} tr`).count();
        expect(parse(readFileSync(await download.path(), "utf8")).length, address).toBe(shown);
      }
    }
    expect(downloads).toBeGreaterThan(IS_CI ? 40 : 9);
  });

  it("a long list is paged; its sum is of all, and a search finds one of them", async () => {
    const { page } = await reader(many);
    await page.goto(`${many.url}/keys`);
    expect(await page.locator("table.keys tbody tr").count()).toBe(200);
    expect(await page.locator("p.tools").first().textContent()).toContain(`of ${MANY}`);
    const cents = Math.round(((MANY * (MANY - 1)) / 2) * 0.1) / 100;
    expect(await page.locator("table.keys tfoot").textContent()).toContain(
      cents.toLocaleString("en-US", { minimumFractionDigits: 2 }),
    );
    await page.getByRole("link", { name: "Rows after" }).click();
    await expect
      .poll(() => page.locator("p.tools").first().textContent(), { timeout: 20_000 })
      .toContain("Rows 201 to 400");
    await page.getByRole("textbox").fill("key 0042");
    await page.getByRole("button", { name: "Show" }).click();
    await expect.poll(() => page.locator("table.keys tbody tr").count(), { timeout: 20_000 }).toBe(1);
  });

  it("can be read by keyboard alone: the first stop leads past the menu, every stop is seen", async () => {
    const { page } = await reader(full);
    await page.keyboard.press("Tab");
    expect(await page.evaluate("document.activeElement.textContent")).toBe("To the figures");
    await page.keyboard.press("Enter");
    expect(await page.evaluate("document.activeElement.id")).toBe("main");
    await page.keyboard.press("Tab");
    expect(await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")).toBe("solid");
  });

  it("a link on another site leads to the page it names, with the session of the reader", async () => {
    const { page } = await reader(full);
    const other = Fastify();
    other.get("/", async (_request, reply) => reply.type("text/html").send(`<a href="${full.url}/keys">keys</a>`));
    const { port } = new URL(await other.listen({ host: "127.0.0.1", port: 0 }));
    // Another name is another site; another port is not.
    await page.goto(`http://localhost:${port}/`).catch(async () => page.goto(`http://127.0.0.1:${port}/`));
    await page.getByRole("link", { name: "keys" }).click();
    await page.waitForURL(`${full.url}/keys`);
    await expect
      .poll(() => page.getByRole("heading", { level: 1 }).textContent(), { timeout: 20_000 })
      .toContain("Keys");
    await other.close();
  });

  it("on paper has lines to sign, and no menu", async () => {
    const { page } = await reader(full);
    await page.goto(`${full.url}/chargeback?month=2026-10`);
    expect(await page.locator(".signatures").isVisible()).toBe(false);
    await page.emulateMedia({ media: "print" });
    expect(await page.locator(".signatures").isVisible()).toBe(true);
    expect(await page.locator("header").isVisible()).toBe(false);
    expect((await page.pdf()).length).toBeGreaterThan(10_000);
  });

  describe("a newcomer answers with two clicks at most", () => {
    let page: Page;
    let clicks: number;
    const click = async (name: string): Promise<void> => {
      clicks += 1;
      await page.getByRole("link", { name, exact: true }).first().click();
    };
    const beginning = async (): Promise<void> => {
      ({ page } = await reader(full));
      clicks = 0;
    };

    it("what will this month cost, and how sure is it?", async () => {
      await beginning();
      const section = page.locator("section", { hasText: "What will this month cost" }).first();
      const words = (await section.textContent()) ?? "";
      const frozen = new Database(join(full.folder, "billing.db"), { readonly: true })
        .prepare(
          "SELECT p50_nano_usd AS p50 FROM forecasts WHERE scope = 'org' AND window = 'month' AND start_ms <= ? AND end_ms > ?",
        )
        .get(NOW_MS, NOW_MS) as { p50: number };
      const figure = (title: string): number =>
        Number(new RegExp(`${title} \\w+\\s+\\$([\\d,.]+)`).exec(words)?.[1]?.replaceAll(",", ""));
      const cents = (nanoUsd: number): string =>
        (nanoUsd / 1e9).toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
      expect(words).toContain(cents(frozen.p50));
      // What is said of the end never lies below what is spent, and its band opens around its middle.
      const [spent, least, middle, most] = [
        "This month so far",
        "At least, with 90 % probability",
        "Lands at",
        "At most, with 90 % probability",
      ].map(figure);
      expect(least).toBeGreaterThan(spent ?? Number.NaN);
      expect(middle).toBeGreaterThan(least ?? Number.NaN);
      expect(most).toBeGreaterThan(middle ?? Number.NaN);
      expect(words).toMatch(/How sure: of the last \d+ days that were forecast, \d+ % lay in their band/);
      expect(clicks).toBe(0);
    });

    it("which team and which key made the difference since last week?", async () => {
      await beginning();
      await click("What changed");
      const [team, key] = [page.locator("table.teams tbody tr").first(), page.locator("table.keys tbody tr").first()];
      const now = spentBy(full.folder, "team", "2026-11-17", "2026-11-24");
      const before = spentBy(full.folder, "team", "2026-11-10", "2026-11-17");
      const size = (name: string): number => Math.abs(Number((now.get(name) ?? 0n) - (before.get(name) ?? 0n)));
      const [largest] = [...now.keys()].toSorted((a, b) => size(b) - size(a));
      expect(await team.locator("th").textContent()).toBe(largest);
      expect(await key.locator("td").count()).toBe(6);
      expect(clicks).toBeLessThanOrEqual(2);
    });

    it("does it agree with the bill, and if not, why?", async () => {
      await beginning();
      expect(await page.locator("table.agreement tbody tr").count()).toBe(3);
      await click("Bills");
      expect(await page.locator("table.causes tbody tr").count()).toBeGreaterThan(1);
      const dearer = page.locator("table.days tbody tr", { hasText: "fee" }).first();
      clicks += 1;
      await dearer.getByRole("link").click();
      await expect.poll(() => page.locator("table.causes").textContent(), { timeout: 20_000 }).toContain("fee");
      expect(clicks).toBe(2);
    });

    it("whom did the cap refuse, and what would it take to let them through?", async () => {
      await beginning();
      await click("Refused");
      const raise = (await page.locator("table.raises tbody tr").first().textContent()) ?? "";
      expect(raise).toMatch(/keymeter budgets raise bud_small --by \d+\.\d\d --until 2026-11-25T00:00Z/);
      expect(await page.locator("table.refused tbody tr").first().textContent()).toContain("budget exceeded");
      expect(clicks).toBe(1);
    });
  });
});
