// The schema in Postgres: the same columns as SQLite's, and the same things that nobody may do to it; and what somebody
// hears whose database is not what it has to be.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { LedgerError } from "../../ledger/books.ts";
import type { BookName } from "../../ledger/books.ts";
import { copyToPostgres, NOT_MOVED, TABLES } from "../../ledger/move.ts";
import { loadProxyConfig } from "../../proxy/config.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { migratePostgres, numbered, shownUrl } from "../../ledger/postgres.ts";
import { openScratch } from "../../ledger/sqlite.ts";
import { ask, hasPostgres, rowsOf, startPostgres } from "../postgres.ts";
import type { PostgresServer } from "../postgres.ts";
import { temporaryFolder } from "../start-proxy.ts";

const BOOKS = Object.keys(TABLES) as BookName[];

describe("values in a text", () => {
  it.each([
    ["SELECT ? + ?", "SELECT $1 + $2"],
    ["SELECT '?', \"a?\", 'it''s ?' WHERE x = ?", "SELECT '?', \"a?\", 'it''s ?' WHERE x = $1"],
    ["SELECT 1", "SELECT 1"],
  ])("%s", (text, expected) => {
    expect(numbered(text)).toBe(expected);
  });
});

it("no setting leads there yet: a data folder that is a URL is refused, with what it has to be", () => {
  for (const place of ["postgres://me:secret@db.example.test/books", "https://example.test/data"])
    expect(() => loadProxyConfig({ KEYMETER_DATA_DIR: place })).toThrow(
      /^(?![^]*secret)[^]*KEYMETER_DATA_DIR.*has to be a folder such as \.\/data/,
    );
});

it("a URL is shown without its password", () => {
  expect(shownUrl("postgres://me:secret@db.example.test:5432/books?sslmode=verify-full")).toBe(
    "postgres://me:***@db.example.test:5432/books?sslmode=verify-full",
  );
});

describe.skipIf(!hasPostgres)("books in Postgres", () => {
  let server: PostgresServer;
  let url: string;
  beforeAll(async () => {
    server = await startPostgres();
    url = await server.database("books");
    await migratePostgres(url);
  }, 60_000);
  afterAll(() => server?.stop());

  it.each(BOOKS)("%s has the columns of SQLite, in their order", async (book) => {
    const sqlite = openScratch(book);
    const there = sqlite
      .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'migrations' ORDER BY name")
      .pluck()
      .all() as string[];
    expect(there.filter((table) => !NOT_MOVED.includes(table))).toEqual(TABLES[book].toSorted());
    for (const table of there) {
      const columns = sqlite
        .prepare('SELECT name, type, "notnull" OR pk > 0 FROM pragma_table_xinfo(?)')
        .raw()
        .all(table) as [string, string, bigint][];
      const wanted = columns.map(([name, type, isNeeded]) => [
        name,
        { TEXT: "text", INTEGER: "bigint", REAL: "double precision" }[type],
        // What is made of the id is there wherever the id is.
        isNeeded === 1n && name !== "at_ms" ? "NO" : name === "at_ms" ? "any" : "YES",
      ]);
      const rollup = table.startsWith("rollup_") ? `${table}_of_node` : table;
      const found = await rowsOf(
        url,
        `SELECT column_name, data_type, is_nullable FROM information_schema.columns
         WHERE table_schema = $1 AND table_name = $2 AND column_name NOT IN ('node', 'holds') ORDER BY ordinal_position`,
        [book, rollup],
      );
      expect(
        found.map(([name, type, isNullable]) => [
          name,
          type,
          name === "at_ms" && table === "events" ? "any" : isNullable,
        ]),
        table,
      ).toEqual(
        wanted.map(([name, type, needed]) => [
          name,
          type,
          table === "events" ? needed : needed === "any" ? "NO" : needed,
        ]),
      );
    }
    sqlite.close();
  });

  /** A row of each, and what may not be done to it. */
  const ROWS: { readonly [book in BookName]: string } = {
    usage: `INSERT INTO audit VALUES (1, 1, 'a', 'b', 'c', '{}', '0', '1');
      INSERT INTO events (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, usage_state, outcome)
        VALUES (4096, 'k', 'p', 'e', 'm', '', '', '', 'reported', 'complete');
      INSERT INTO adjustments VALUES ('bill', '1', 4096, 5, 0, 0, '', 1, 1);
      INSERT INTO events (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, usage_state, outcome)
        VALUES (8192, 'k', 'p', 'e', 'm', '', '', '', 'reported', 'complete');
      INSERT INTO reassigned VALUES (8192, '', '', '', 1, 1);
      INSERT INTO sealed_days VALUES (353894400000, 1);`,
    billing: `INSERT INTO closed_days VALUES ('p', '2026-11-01', 1, 1, 'd', 1, 'me');
      INSERT INTO corrections VALUES ('p', '2026-11-01', 0, 1, 1, 1, 'd');
      INSERT INTO variances VALUES ('p', '2026-11-01', 0, 'price', 1, NULL, '');
      INSERT INTO metered_lines VALUES ('p', '2026-11-01', 0, 'k', '', '', '', '', '', 'm', '', '', 'reported', '', 1, NULL, NULL, 1, 1, 1, '');
      INSERT INTO forecasts VALUES ('org', 'all', 'day:1', 'day', 1, 2, 1, 'm', 1, 1, 1, 1, 1, '[]');`,
    notices: `INSERT INTO notices (group_key, channel, ts, state, text, posted_at_ms, updated_at_ms) VALUES ('g', 'c', '1', 'firing', '', 1, 1);
      INSERT INTO outbox (kind, group_key, nonce, payload, received_at_ms) VALUES ('group', 'g', 'n', '{}', 1);`,
  };
  const FORBIDDEN: { readonly [book in BookName]: readonly string[] } = {
    usage: [
      "DELETE FROM audit",
      "UPDATE audit SET actor = 'x'",
      "DELETE FROM adjustments",
      "UPDATE adjustments SET detail = 'x'",
      "DELETE FROM events",
      "UPDATE events SET cost_nano_usd = 1",
      "UPDATE events SET price_list = 'x'",
      "UPDATE events SET stated_cost_nano_usd = 1",
      "UPDATE events SET usage_reason = 'x'",
      "UPDATE events SET raw_usage = 'x', tags = '{}'",
      "UPDATE events SET team = 'x' WHERE attempt_id = 4096",
      "DELETE FROM reassigned",
      "UPDATE reassigned SET team = 'x'",
      "DELETE FROM sealed_days",
      "UPDATE sealed_days SET audit_seq = 1",
      "INSERT INTO sealed_days VALUES (5, 1)",
      `INSERT INTO events (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, usage_state, outcome)
        VALUES (4097, 'k', 'p', 'e', 'm', '', '', '', 'reported', 'complete')`,
      "INSERT INTO limits VALUES ('org', 0, NULL, NULL, NULL, NULL, NULL)",
      "INSERT INTO limits VALUES ('org', NULL, NULL, NULL, NULL, 0, NULL)",
      "INSERT INTO limits VALUES ('org', NULL, NULL, NULL, NULL, NULL, 0)",
      "INSERT INTO seat_prices VALUES ('user:user_1', '2026', 5)",
      "INSERT INTO seat_prices VALUES ('user:user_1', '2026-11', -1)",
      `INSERT INTO tokens VALUES ('tok_1', 'ann', 'owner', '', '${"0".repeat(64)}', 1, NULL, NULL)`,
      `INSERT INTO tokens VALUES ('tok_1', 'ann', 'lead', '', '${"0".repeat(64)}', 1, NULL, NULL)`,
      `INSERT INTO tokens VALUES ('tok_1', 'ann', 'read', '', 'kmt_', 1, NULL, NULL)`,
      "INSERT INTO key_owners VALUES ('k', 'team', '')",
    ],
    billing: [
      "DELETE FROM closed_days",
      "UPDATE closed_days SET closed_by = 'x'",
      "DELETE FROM corrections",
      "UPDATE corrections SET made_at_ms = 2",
      "DELETE FROM variances",
      "DELETE FROM metered_lines",
      "UPDATE forecasts SET method = 'x'",
    ],
    notices: [
      `INSERT INTO notices (group_key, channel, ts, state, text, posted_at_ms, updated_at_ms)
        VALUES ('g', 'c', '2', 'firing', '', 1, 1)`,
      "INSERT INTO outbox (kind, group_key, nonce, payload, received_at_ms) VALUES ('group', 'g', 'other', '{}', 1)",
    ],
  };
  const REFUSED = /append-only|for ever|stays|frozen|is closed|is sealed|constraint/i;
  it("refuses what SQLite refuses, and takes what it takes", async () => {
    for (const book of BOOKS) {
      const sqlite = openScratch(book);
      sqlite.exec(ROWS[book]);
      await ask(url, ROWS[book]);
      for (const sql of FORBIDDEN[book]) {
        expect(() => sqlite.exec(sql), `SQLite: ${sql}`).toThrow(REFUSED);
        await expect(ask(url, sql), `Postgres: ${sql}`).rejects.toThrow(REFUSED);
      }
      sqlite.close();
    }
    // What was moved once names its first owner, and may name another one again.
    await ask(url, "UPDATE events SET team = 'moved' WHERE attempt_id = 8192");
    // Old events may go once somebody said so.
    await ask(url, "INSERT INTO meta VALUES ('events_kept_from', '8192')");
    await expect(ask(url, "DELETE FROM events WHERE attempt_id = 8192")).rejects.toThrow("append-only");
    await ask(url, "DELETE FROM events WHERE attempt_id = 4096");
  });

  it.each([
    ["a_b", "a_b", true],
    ["a_b", "axb", false],
    ["g*t", "gpt", true],
    ["100%*", "100% of it", true],
    ["100%", "100 of it", false],
    ["a\\*", "a\\b", true],
    ["[[]x[?]*", "[x?y", true],
    ["*", "", true],
  ])("the pattern %s and the name %s: %s, as SQLite says", async (pattern, name, expected) => {
    const sqlite = openScratch("usage");
    expect(sqlite.prepare("SELECT glob(?, ?)").pluck().get(pattern, name)).toBe(expected ? 1n : 0n);
    sqlite.close();
    expect(await rowsOf(url, "SELECT glob($1, $2)", [pattern, name])).toEqual([[expected]]);
  });

  it("a change is made as a whole or not at all, one after the other, and moves the mark", async () => {
    const billing = await openToWrite(url, "billing");
    const { readBillingMark, noteImport, readImports } = await import("../../ledger/billing/bills.ts");
    const before = await readBillingMark(billing);
    await expect(
      billing.transaction(async (own) => {
        await noteImport(own, "lost", 1, {});
        throw new Error("no");
      }),
    ).rejects.toThrow("no");
    expect(await readImports(billing)).toEqual([]);
    expect(await readBillingMark(billing)).toBe(before);
    await Promise.all([
      noteImport(billing, "a", 1, {}),
      noteImport(billing, "a", 2, {}),
      noteImport(billing, "b", 3, {}),
    ]);
    expect((await readImports(billing)).map(({ provider, lastAttemptMs }) => [provider, lastAttemptMs])).toEqual([
      ["a", 2],
      ["b", 3],
    ]);
    expect(await readBillingMark(billing)).not.toBe(before);
    await billing.close();
  });

  it("a change whose connection breaks is not made, and the next one is", async () => {
    const billing = await openToWrite(url, "billing");
    const { noteImport, readImports } = await import("../../ledger/billing/bills.ts");
    const before = await readImports(billing);
    await expect(
      billing.transaction(async (own) => {
        await noteImport(own, "broken", 1, {});
        await server.kill();
        await server.start();
        await noteImport(own, "broken", 2, {});
      }),
    ).rejects.toThrow(/terminat|connection|closed/i);
    expect(await readImports(billing)).toEqual(before);
    await noteImport(billing, "whole", 3, {});
    expect((await readImports(billing)).length).toBe(before.length + 1);
    await billing.close();
  });

  it("an error is Postgres's own, and names no values", async () => {
    const billing = await openToWrite(url, "billing");
    const { addPlan } = await import("../../ledger/billing/plans.ts");
    const plan = {
      id: "p",
      scope: "team",
      scopeId: "secret name",
      fromMs: 2,
      toMs: 1,
      factor: 1,
      why: "",
      madeBy: "",
      madeAtMs: 1,
    } as const;
    await expect(addPlan(billing, plan)).rejects.toThrow(
      /^new row for relation "planned_events" violates check constraint/,
    );
    await billing.close();
  });

  const refused = async (place: string): Promise<string> => {
    const error: unknown = await openUsage(place).then(
      (books) => books?.close(),
      (reason: unknown) => reason,
    );
    if (!(error instanceof LedgerError)) throw error ?? new Error("it was opened");
    return error.message;
  };

  it("one sentence for each database that is not what it has to be", async () => {
    expect(await refused(await server.database("empty"))).toContain("Run `keymeter ledger migrate` first");
    expect(await refused(url.replace(/\/books$/, "/nowhere"))).toContain("there is no such database");
    expect(await refused(url.replace("keymeter@", "nobody:secret@"))).toMatch(
      /nobody:\*\*\*@.*role "nobody" does not exist/,
    );
    expect(await refused("postgres://127.0.0.1:1/books")).toContain("cannot be reached");
    expect(await refused("postgres://[/books")).toContain("the ledger's URL is none");

    const foreign = await server.database("other_program");
    await ask(foreign, "CREATE SCHEMA billing");
    expect(await refused(foreign)).toContain('a schema "billing" that is not Keymeter\'s');
    await expect(migratePostgres(foreign)).rejects.toThrow("Give Keymeter a database of its own");

    const older = await server.database("newer_books");
    await migratePostgres(older);
    await ask(older, "INSERT INTO usage.migrations VALUES ('0999-later.sql', '1')");
    expect(await refused(older)).toContain("written by a newer Keymeter (it has 0999-later.sql)");
    await ask(
      older,
      "DELETE FROM usage.migrations WHERE name = '0999-later.sql'; UPDATE usage.migrations SET digest = '1'",
    );
    expect(await refused(older)).toContain("is not what was applied to it");

    const strict = await server.database("strict_books");
    await migratePostgres(strict);
    await ask(strict, "ALTER DATABASE strict_books SET default_transaction_isolation = 'serializable'");
    expect(await refused(strict)).toContain('sums of several proxies need "read committed"');

    const lost = await server.database("lost_path");
    await migratePostgres(lost);
    await ask(lost, "ALTER ROLE keymeter IN DATABASE lost_path SET search_path = public");
    expect(await refused(lost)).toContain("search_path = usage, billing, notices, public");

    await expect(copyToPostgres(temporaryFolder(), url)).resolves.toEqual(new Map());
  });

  it("two that migrate at once make one schema", async () => {
    const both = await server.database("two_at_once");
    const made = await Promise.all([migratePostgres(both), migratePostgres(both)]);
    expect(made.toSorted((a, b) => a.length - b.length)).toEqual([
      [],
      [
        "0001-ledger.sql",
        "0002-nodes.sql",
        "0003-escrow.sql",
        "0004-limits.sql",
        "0005-batches.sql",
        "0006-price-list.sql",
        "0007-people.sql",
        "0008-each.sql",
        "0009-asked.sql",
        "0010-texts.sql",
        "0011-charged-users.sql",
        "0012-seats.sql",
        "0013-forecasts.sql",
        "0014-rotations.sql",
        "0015-keys-before.sql",
        "0016-tokens.sql",
        "0017-telemetry.sql",
        "0018-retention.sql",
      ],
    ]);
  });
});
