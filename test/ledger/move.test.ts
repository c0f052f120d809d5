// Books that move into Postgres and back by the command: every row is what it was, and whatever is in the way is said.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TABLES } from "../../ledger/move.ts";
import { openUsage } from "../../ledger/open.ts";
import { migratePostgres } from "../../ledger/postgres.ts";
import { openForReading } from "../../ledger/sqlite.ts";
import { readFoldDifferences, readRegisterDifferences } from "../../ledger/usage/verify.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { writeOddities } from "../oddities.ts";
import { writeOrganisation } from "../organisation.ts";
import { hasPostgres, startPostgres } from "../postgres.ts";
import type { PostgresServer } from "../postgres.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { IS_CI, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";

const NOW_MS = Date.now();
const DAYS = IS_CI ? 40 : 10;

/** Every row of every table, in an order. */
function dump(folder: string): { readonly [table: string]: readonly unknown[][] } {
  return Object.fromEntries(
    Object.entries(TABLES).flatMap(([book, tables]) => {
      const books = openForReading(join(folder, `${book}.db`));
      if (!books) throw new Error(`no ${book}`);
      const rows = tables.map((table) => [
        table,
        (books.prepare(`SELECT * FROM ${table}`).raw().all() as unknown[][])
          .map((row) => row.map(String))
          .toSorted((one, other) => (one.join("\n") < other.join("\n") ? -1 : 1)),
      ]);
      books.close();
      return rows as [string, unknown[][]][];
    }),
  );
}

describe.skipIf(!hasPostgres)("books that move", () => {
  let server: PostgresServer;
  let folder: string;
  let url: string;
  beforeAll(async () => {
    console.log(`seed ${SEED}`);
    folder = temporaryFolder();
    const [, started] = await Promise.all([
      writeOrganisation({ folder, days: DAYS, keys: 4, seed: SEED, nowMs: NOW_MS }),
      startPostgres(),
    ]);
    await writeOddities(folder, NOW_MS - (DAYS + 1) * 86_400_000, NOW_MS);
    server = started;
    url = await server.database("moved");
  }, 120_000);
  afterAll(() => server?.stop());

  const ledger = (place: string, ...args: string[]) =>
    runKeymeter({ dataDir: folder, place, opsUrl: "http://127.0.0.1:1" }, "ledger", ...args);

  it("say what is in the way", async () => {
    expect(await ledger(folder, "move", "--to", url)).toMatchObject({ code: 1 });
    expect((await ledger(folder, "move", "--to", url)).text).toContain("Run `keymeter ledger migrate` first");
    expect(await ledger(url, "migrate")).toMatchObject({ code: 0 });
    expect((await ledger(url, "migrate")).text).toContain("is up to date");
    const writer = await openWriter({
      path: join(folder, "usage.db"),
      durability: "process",
      zone: "UTC",
      capMode: "enforce",
      tagsInBudgets: false,
    });
    expect((await ledger(folder, "move", "--to", url)).text).toContain("is in use by another Keymeter process");
    await writer.close();
  });

  it(
    "are there row by row, go on where they were interrupted, and come back as they were",
    { timeout: 240_000 },
    async () => {
      const there = await ledger(folder, "move", "--to", url);
      expect(there).toMatchObject({ code: 0 });
      expect(there.text).toMatch(/^\d+ events were copied in \d+ s; sums by day and key are the same/);
      // What is there already is left as it is.
      expect((await ledger(folder, "move", "--to", url)).text).toMatch(/^0 events were copied/);
      const before = dump(folder);
      const back = join(temporaryFolder(), "back");
      mkdirSync(back);
      expect((await ledger(url, "move", "--to", back)).text).toContain("events were copied");
      const after = dump(back);
      for (const [table, rows] of Object.entries(before)) expect(after[table], table).toEqual(rows);
      expect((await ledger(url, "move", "--to", back)).text).toContain("exists already");
      const books = await openUsage(back);
      if (!books) throw new Error("no books");
      expect([await readFoldDifferences(books), await readRegisterDifferences(books)]).toEqual([
        await differences(folder, readFoldDifferences),
        await differences(folder, readRegisterDifferences),
      ]);
      await books.close();
    },
  );

  it("a proxy goes on where they were moved, and while it runs they do not move back", async () => {
    const node = await openWriter({
      url,
      name: "a proxy",
      zone: "UTC",
      capMode: "enforce",
      tagsInBudgets: false,
      agreed: {},
      orphanSeconds: Infinity,
    });
    expect((await node.verify()).differences).toEqual([]);
    expect((await ledger(url, "move", "--to", join(temporaryFolder(), "x"))).text).toContain("is in use: a proxy");
    await node.close();
  });

  it("do not go where others are", async () => {
    const other = await server.database("other");
    await migratePostgres(other);
    const node = await openWriter({
      url: other,
      name: "another",
      zone: "UTC",
      capMode: "enforce",
      tagsInBudgets: false,
      agreed: {},
      orphanSeconds: Infinity,
    });
    await node.close();
    expect((await ledger(folder, "move", "--to", other)).text).toContain("the database has books already");
  });
});

async function differences(folder: string, read: typeof readFoldDifferences): Promise<string[]> {
  const books = await openUsage(folder);
  if (!books) throw new Error("no books");
  try {
    return await read(books);
  } finally {
    await books.close();
  }
}
