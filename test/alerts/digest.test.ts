// The week in one message: sums of two weeks side by side, from real books.
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { buildDigest } from "../../alerts/digest.ts";
import { keepDigest, readOutbox } from "../../ledger/notices/notices.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";

const DAY_MS = 86_400_000;
const MONDAY = Date.parse("2026-11-23T09:00:00Z");
const LINKS = { pagesUrl: undefined, grafanaUrl: "http://grafana:3000", runbookUrl: "http://alerts:4003/runbook" };

describe("the digest", () => {
  it("says what the week cost, against the one before, and who made the difference, the largest first", async () => {
    const folder = temporaryFolder();
    const path = join(folder, "usage.db");
    let now = MONDAY - 13 * DAY_MS;
    const writer = await openWriter({ path, durability: "process", zone: "UTC", capMode: "enforce", now: () => now });
    const spend = async (team: string, usd: number): Promise<void> =>
      writer.settle(event(writer.nextAttemptId(), BigInt(usd) * 1_000_000_000n, { team, keyId: `key_${team}` }));
    await spend("search", 10);
    await spend("a<ds", 20);
    now = MONDAY - 3 * DAY_MS;
    await spend("search", 50);
    await spend("a<ds", 15);
    await writer.close();
    const usage = await openUsage(folder);
    const { headline, text, blocks } = await buildDigest({ usage, billing: undefined }, "UTC", LINKS, MONDAY);
    await usage?.close();
    expect(headline).toBe("The week of 2026-11-16 to 2026-11-22");
    expect(text).toContain("Spent $65.00, +$35.00 against the week before");
    const said = JSON.stringify(blocks);
    expect(said).toContain("• search: $50.00 (+$40.00)\\n• a&lt;ds: $15.00 (-$5.00)");
  });

  it("of a week is sent once, however often it is asked for", async () => {
    const database = await openToWrite(temporaryFolder(), "notices", "power");
    for (let i = 0; i < 3; i++) await keepDigest(database, "digest:2026-11-23", MONDAY + i);
    expect((await readOutbox(database)).map(({ kind, nonce }) => `${kind} ${nonce}`)).toEqual([
      "digest digest:2026-11-23",
    ]);
    await database.close();
  });
});
