// The page of a key's holder, in a headless Chromium: what is spent and left, and more that is asked for. The key goes nowhere
// else, and names are never markup.
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { findBarriers, HAS_BROWSER, openBrowser } from "../browser.ts";
import { json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

const SCREENSHOTS = process.env["KEYMETER_SCREENSHOTS"];
const MARKUP = `<img src=x onerror="document.title='run'">`;

let provider: FakeProvider;
let running: RunningProxy;
let browser: Browser;
beforeAll(async () => {
  if (!HAS_BROWSER) return;
  browser = await openBrowser();
  provider = await startFakeProvider(
    json({
      id: "c",
      object: "chat.completion",
      model: "gpt-4o-mini",
      choices: [],
      usage: { prompt_tokens: 100_000, completion_tokens: 0, total_tokens: 100_000 },
    }),
  );
  running = await startProxy(provider.url);
}, 60_000);
afterAll(async () => {
  await browser?.close();
  await running?.stop();
  await provider?.close();
});

describe.skipIf(!HAS_BROWSER)("the page of a key's holder", () => {
  it.each([
    ["light", 1440],
    ["dark", 390],
  ] as const)("%s, %i wide: shows what is spent and left, and asks for more", async (colorScheme, width) => {
    const { id, secret } = await running.createKey({ name: `laptop ${width} ${MARKUP}`, userName: `anna ${width}` });
    await running.setBudget({ id: `cap_${width}`, scope: { keyId: id }, amountNanoUsd: 40_000_000n });
    const answer = await fetch(`${running.url}/openai/v1/chat/completions`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        authorization: `Bearer ${secret}`,
        "x-keymeter-session": `s ${MARKUP}`,
      },
      body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "x" }] }),
    });
    await answer.text();
    const page = await (await browser.newContext({ colorScheme, viewport: { width, height: 900 } })).newPage();
    const complaints: string[] = [];
    const asked: string[] = [];
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("request", (request) => asked.push(`${request.url()} ${request.postData() ?? ""}`));
    await page.goto(`${running.url}/keymeter`);
    expect(await findBarriers(page)).toEqual([]);
    // A wrong key first.
    await page.getByLabel("Keymeter key").fill("km_test_wrong_wrong");
    await page.getByRole("button", { name: "Show" }).click();
    await expect.poll(() => page.getByRole("status").textContent()).toMatch(/unknown/);
    complaints.length = 0;
    await page.getByLabel("Keymeter key").fill(secret);
    await page.keyboard.press("Enter");
    await page.getByText(`user anna ${width}`).first().waitFor();
    const text = await page.locator("main").innerText();
    expect(text).toContain("$0.015");
    expect(text).toContain("$0.025");
    expect(text).toContain("refuses");
    expect(await page.title()).toBe("Your key · Keymeter");
    expect(await findBarriers(page)).toEqual([]);
    const tooWide = await page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1");
    expect(tooWide).toBe(false);
    await page.getByLabel("USD more").fill("20");
    await page.getByLabel("Why").fill(`a launch ${MARKUP}`);
    await page.getByRole("button", { name: "Ask" }).click();
    await expect.poll(() => page.getByRole("status").textContent()).toContain("Asked for $20 more");
    await page.getByText("not answered yet").waitFor();
    if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `holder-${colorScheme}.png`), fullPage: true });
    expect(complaints).toEqual([]);
    // Nothing but this Keymeter was asked, and no address or body has the key.
    for (const one of asked) {
      expect(one.startsWith(`${running.url}/keymeter`) || one.startsWith("data:"), one).toBe(true);
      expect(one).not.toContain(secret);
    }
    await page.context().close();
  });

  it("needs no key itself, tells nothing, and may be shown in no frame", async () => {
    for (const path of ["/keymeter", "/keymeter/", "/keymeter/page.js", "/keymeter/page.css"]) {
      const answer = await fetch(`${running.url}${path}`);
      expect([path, answer.status]).toEqual([path, 200]);
      expect(answer.headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
      await answer.text();
    }
    const other = await fetch(`${running.url}/keymeter/other`);
    expect(other.status).toBe(401);
    await other.text();
  });
});
