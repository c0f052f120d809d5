// Retention on books in Postgres: the same change, by the same proof; what deletes is a function of the database, for the programs
// may delete no event.
import { join } from "node:path";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkArchive, expireDays } from "../../collector/archive.ts";
import { copyToPostgres } from "../../ledger/move.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { migratePostgres, openPool } from "../../ledger/postgres.ts";
import type { Change } from "../../ledger/usage/changes.ts";
import { issueVirtualKey } from "../../ledger/usage/keys.ts";
import { sweep } from "../../ledger/usage/nodes/seal.ts";
import { LEAST_DAYS } from "../../ledger/usage/kept-days.ts";
import { readExpiries, readExpiryDifferences } from "../../ledger/usage/retention.ts";
import { readSealDifferences, readSealedUntil } from "../../ledger/usage/seals.ts";
import { readFoldDifferences } from "../../ledger/usage/verify.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { DAY_MS, HOUR_MS, utcDay } from "../../ledger/windows.ts";
import { createLog } from "../../service/log.ts";
import { hasPostgres, startPostgres } from "../postgres.ts";
import type { PostgresServer } from "../postgres.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";

const DAYS = 5;
const A_DAY = 8;
const START_MS = Math.floor(Date.now() / DAY_MS) * DAY_MS - (LEAST_DAYS + DAYS + 3) * DAY_MS;

describe.skipIf(!hasPostgres)("retention in Postgres", () => {
  let server: PostgresServer;
  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  afterAll(() => server?.stop());

  it("takes sealed days out, as a role that may delete no event; verify finds nothing", async () => {
    // Written in a folder, where a test's clock is the only one, and moved.
    const folder = temporaryFolder();
    let clock = START_MS;
    const first = await openWriter({
      path: join(folder, "usage.db"),
      durability: "process",
      zone: "UTC",
      capMode: "enforce",
      now: () => clock,
    });
    const { key } = issueVirtualKey({ name: "anna", team: "search" }, clock);
    await first.change({ type: "createKey", key, digest: key.id }, "test");
    for (let day = 0; day < DAYS; day++)
      for (let i = 0; i < A_DAY; i++) {
        clock = START_MS + day * DAY_MS + i * 2 * HOUR_MS;
        await first.settle(
          event(first.nextAttemptId(), BigInt(day * 100 + i), { keyId: key.id, rawUsage: '{"prompt_tokens":1}' }),
        );
      }
    await first.close();
    const owner = await server.database("books");
    const role = new Client({ connectionString: owner });
    await role.connect();
    await role.query("CREATE ROLE programs LOGIN PASSWORD 'programs'");
    await migratePostgres(owner, "programs");
    await copyToPostgres(folder, owner);
    const at = new URL(owner);
    [at.username, at.password] = ["programs", "programs"];
    const url = at.href;
    const usage = await openUsage(url);
    if (!usage) throw new Error("no books");
    const billing = await openToWrite(url, "billing");
    const writer = await openWriter({
      url,
      name: "test",
      zone: "UTC",
      capMode: "enforce",
      tagsInBudgets: true,
      agreed: {},
      orphanSeconds: 60,
      now: Date.now,
    });
    // So that days before are over.
    await writer.settle(event(writer.nextAttemptId(), 1n, { keyId: key.id }));
    const { pool, release } = await openPool(url);
    // The node seals at its start, and every minute.
    await expect.poll(() => readSealedUntil(usage), { timeout: 90_000 }).toBe(utcDay(START_MS + (DAYS - 1) * DAY_MS));
    const change = (one: Change): Promise<void> => writer.change(one, "keymeter");
    const archive = join(folder, "archive");
    const settings = { eventsDays: LEAST_DAYS, folder: archive, timezone: "UTC" };
    expect(await expireDays({ usage, billing }, settings, change, createLog("test", "silent"), Date.now())).toEqual([]);
    await expect(pool.query("DELETE FROM usage.events")).rejects.toThrow("permission denied");
    while (await sweep(pool, { rawUsageDays: 1, refusalsDays: 2, addressesDays: 1 }, Date.now()));
    const counted = await pool.query(
      `SELECT (SELECT COUNT(*) FROM usage.events)::int AS events, (SELECT COUNT(*) FROM usage.commits)::int AS commits,
        (SELECT COUNT(*) FROM usage.events WHERE raw_usage IS NOT NULL)::int AS raw`,
    );
    const expiries = await readExpiries(usage);
    // The last sealed day stays: one of another zone may lie across it and the next.
    expect(expiries.length).toBe(DAYS - 1);
    const { events, commits, raw } = counted.rows[0] as { [name: string]: bigint };
    expect([events, raw]).toEqual([BigInt(A_DAY + 1), 0n]);
    expect(commits).toBeLessThanOrEqual(BigInt(A_DAY + 2));
    expect([
      ...(await readFoldDifferences(usage)),
      ...(await readSealDifferences(usage)),
      ...(await readExpiryDifferences(usage)),
    ]).toEqual([]);
    expect(await checkArchive(usage, archive, expiries)).toEqual({ checked: DAYS - 1, missing: 0, differences: [] });
    await release();
    await writer.close();
    await billing.close();
    await usage.close();
    await role.end();
  }, 120_000);
});
