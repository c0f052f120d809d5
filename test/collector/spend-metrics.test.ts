// Gauges of spend: a restart changes no total, and every sum is the sum of its parts.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createCollectorMetrics } from "../../collector/gauges/index.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import { openOrganisation, writeOrganisation } from "../organisation.ts";
import { SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { METRICS_SETTINGS } from "./metrics-settings.ts";

const NOW_MS = Date.parse("2026-11-24T10:20:00Z");
const MONEY = /^keymeter_(spend|breakdown|billed|metered|variance|budget|forecast)\w*\{?/;

describe(`gauges (seed ${SEED})`, () => {
  const folder = temporaryFolder();
  let books: Awaited<ReturnType<typeof openOrganisation>>;
  beforeAll(async () => {
    await writeOrganisation({ folder, days: 9, keys: 12, seed: SEED, nowMs: NOW_MS });
    books = await openOrganisation(folder);
  }, 120_000);
  afterAll(() => books.close());

  /** Lines of money, as a collector shows them that has just been started. */
  async function linesOf(of: Awaited<ReturnType<typeof openOrganisation>>): Promise<string[]> {
    const metrics = createCollectorMetrics(of, { ...METRICS_SETTINGS, dataDir: folder, prices: createPriceBook() }, [
      "openai",
      "anthropic",
      "gcp.gemini",
    ]);
    await metrics.refresh(NOW_MS);
    return (await metrics.registry.metrics()).split("\n").filter((line) => MONEY.test(line));
  }

  it("are the same after a restart, to the last digit", async () => {
    const before = await linesOf(books);
    await books.close();
    books = await openOrganisation(folder);
    expect(await linesOf(books)).toEqual(before);
    expect(before.length).toBeGreaterThan(200);
  });

  it("of all parts add up to that of the whole, for each window", async () => {
    const lines = await linesOf(books);
    const sum = (start: string): number =>
      lines
        .filter((line) => line.startsWith(start))
        .reduce((all, line) => all + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
    for (const window of ["day", "month"]) {
      const whole = sum(`keymeter_spend_usd{scope="org",id="all",window="${window}"}`);
      expect(whole, window).toBeGreaterThan(0);
      expect(sum(`keymeter_breakdown_usd{window="${window}"`), window).toBeCloseTo(whole, 6);
    }
  });
});
