// What verify finds: events of sealed days, adjustments, audit and register, each changed behind the product's back.
import { answerFrom } from "../../ledger/asking.ts";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { randomUUID } from "node:crypto";
import Database from "better-sqlite3";
import * as fc from "fast-check";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { readAdjustmentDifferences } from "../../ledger/usage/adjustments.ts";
import { issueToken } from "../../ledger/usage/tokens.ts";
import { checkAudit, readAuditHead } from "../../ledger/usage/audit.ts";
import { attemptAtMs } from "../../ledger/ids.ts";
import { SEALED_COLUMNS } from "../../ledger/usage/event-columns.ts";
import { createDigest, fingerprintId, issueVirtualKey } from "../../ledger/usage/keys.ts";
import type { UsageBooks } from "../../ledger/books.ts";
import { openUsage } from "../../ledger/open.ts";
import { openForReading, openForWriting } from "../../ledger/sqlite.ts";
import type { Sqlite } from "../../ledger/sqlite.ts";
import { sqliteOf } from "../../ledger/sqlite-books.ts";
import { applySeal, askDayToSeal, askSealedEnd, readSealDifferences } from "../../ledger/usage/seals.ts";
import { sealOf } from "../seal-of.ts";
import { readFoldDifferences, readRegisterDifferences } from "../../ledger/usage/verify.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import { SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event, SUBJECT } from "../usage-event.ts";

const DAY = 86_400_000;
const open: Writer[] = [];
afterEach(async () => {
  for (const writer of open.splice(0)) await writer.close();
});

async function writerOn(folder: string, now?: () => number): Promise<Writer> {
  const path = join(folder, "usage.db");
  const writer = await openWriter({
    path,
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    ...(now ? { now } : {}),
  });
  open.push(writer);
  return writer;
}

async function close(writer: Writer): Promise<void> {
  open.splice(open.indexOf(writer), 1);
  await writer.close();
}

async function spend(writer: Writer, amount: bigint): Promise<number> {
  const attemptId = writer.nextAttemptId();
  await writer.reserve({ attemptId, subject: SUBJECT, boundNanoUsd: amount, expectedNanoUsd: amount }, "c", undefined);
  await writer.settle(event(attemptId, amount));
  return attemptId;
}

/** Writes as somebody who owns the file can: past triggers. */
function tamper(folder: string, sql: string): void {
  const database = new Database(join(folder, "usage.db"));
  for (const name of database
    .prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    .pluck()
    .all() as string[])
    database.exec(`DROP TRIGGER ${name}`);
  database.pragma("foreign_keys = OFF");
  database.exec(sql);
  database.close();
}

async function findAll(folder: string): Promise<string[]> {
  const books = await openUsage(folder);
  if (!books) throw new Error("no books");
  try {
    const broken = (await checkAudit(books)).broken;
    return [
      ...(broken ? [`audit ${broken.seq} ${broken.why}`] : []),
      ...(await readSealDifferences(books)),
      ...(await readAdjustmentDifferences(books)),
      ...(await readRegisterDifferences(books)),
    ];
  } finally {
    await books.close();
  }
}

/** Books with four days of events, of which three are sealed, corrections, keys, budgets, raises, limits, a freeze. */
async function makeBooks(folder: string): Promise<void> {
  let now = Date.parse("2026-11-01T00:00:00Z");
  const writer = await writerOn(folder, () => now);
  const ids: number[] = [];
  for (let i = 0; i < 40; i++) {
    ids.push(await spend(writer, BigInt(1_000 + i)));
    now += Math.floor(DAY / 11);
  }
  const { key, secret } = issueVirtualKey({ name: "ci", team: "search", env: "prod" }, now);
  await writer.change({ type: "createKey", key, digest: createDigest("a pepper of the test")(secret) }, "test");
  const rotated = { type: "rotateKey", keyId: key.id, digest: "0".repeat(64), hint: "ab", graceUntilMs: now } as const;
  await writer.change(rotated, "test");
  await writer.change({ type: "setPolicy", keyId: key.id, policy: { models: ["gpt-*"] } }, "test");
  const base = { window: "month", kind: "hard", mode: "expected", createdAtMs: now } as const;
  await writer.change(
    {
      type: "setBudget",
      budget: { ...base, id: "b1", scope: { team: "search" }, amountNanoUsd: 500n, thresholds: [50, 90] },
    },
    "test",
  );
  const raise = {
    id: "r1",
    budgetId: "b1",
    amountNanoUsd: 100n,
    reason: "launch",
    createdAtMs: now,
    untilMs: now + DAY,
  };
  await writer.change({ type: "raiseBudget", raise }, "test");
  await writer.change(
    { type: "setBudget", budget: { ...base, id: "b2", scope: { team: "search" }, amountNanoUsd: 700n } },
    "test",
  );
  await writer.change(
    { type: "setBudget", budget: { ...base, id: "b3", scope: {}, amountNanoUsd: 9n, observe: true } },
    "test",
  );
  await writer.change({ type: "removeBudget", budgetId: "b3" }, "test");
  await writer.change(
    {
      type: "setLimits",
      limits: {
        scope: "team:search",
        requestsPerMinute: 6,
        tokensPerMinute: undefined,
        concurrent: undefined,
        bodyBytes: undefined,
      },
    },
    "test",
  );
  for (const month of ["2026-01", "2026-06"])
    await writer.change({ type: "setSeatPrice", seat: { scope: "key:k", month, priceNanoUsd: 20n } }, "test");
  const { token, digest } = issueToken({ name: "lea", role: "lead", team: "search" }, undefined, 1);
  await writer.change({ type: "createToken", token: { ...token, id: "tok_1" }, digest }, "test");
  await writer.change(
    { type: "freeze", freeze: { id: "f1", scope: { model: "o*" }, reason: "dear", createdAtMs: now } },
    "test",
  );
  const adjustment = (i: number) =>
    ({
      source: "bill",
      sourceId: `line-${i}`,
      attemptId: ids[i] ?? 0,
      amountNanoUsd: 5n,
      unpriced: 0,
      inferred: 0,
      detail: "line",
    }) as const;
  await writer.change({ type: "adjust", adjustments: [adjustment(0), adjustment(1)] }, "test");
  // The second of these is known: it is one.
  await writer.change({ type: "adjust", adjustments: [adjustment(2), adjustment(1)] }, "test");
  await writer
    .change({ type: "describeKey", keyId: SUBJECT.keyId, fields: { user: "user_sam" } }, "test")
    .catch(() => {});
  await close(writer);
  // The thread seals when it starts.
  const again = await writerOn(folder, () => now);
  while (sealedDays(folder) < 3) await sleep(20);
  await close(again);
}

function sealedDays(folder: string): number {
  const books = openForReading(join(folder, "usage.db")) as Sqlite;
  const count = Number(books.prepare("SELECT COUNT(*) FROM sealed_days").pluck().get());
  books.close();
  return count;
}

describe("verify", () => {
  const folder = temporaryFolder();
  beforeAll(() => makeBooks(folder));
  /** A copy to do harm to. */
  const copy = (): string => {
    const name = temporaryFolder();
    const database = new Database(join(folder, "usage.db"), { readonly: true });
    database.prepare("VACUUM INTO ?").run(join(name, "usage.db"));
    database.close();
    return name;
  };

  it("finds nothing in books that nobody touched", async () => {
    expect(await findAll(folder)).toEqual([]);
    const books = (await openUsage(folder)) as UsageBooks;
    expect(await readFoldDifferences(books)).toEqual([]);
    await books.close();
  });

  it.each([
    ["UPDATE audit SET detail = replace(detail, '500', '900') WHERE action = 'setBudget'", "record was changed"],
    ["DELETE FROM audit WHERE seq = 3", "audit 3 record is missing"],
    ["UPDATE audit SET seq = seq + 1000 WHERE seq = (SELECT MAX(seq) FROM audit)", "is missing"],
    [
      "UPDATE budgets SET amount_nano_usd = 9000 WHERE id = 'b2'",
      "budgets: b2 has amount_nano_usd 9000, by the audit it is 700",
    ],
    ["UPDATE budgets SET removed_at_ms = NULL WHERE id = 'b3'", "budgets: b3 has removed_at_ms null"],
    ["UPDATE budgets SET removed_at_ms = 5 WHERE id = 'b2'", "budgets: b2 has removed_at_ms 5"],
    ["DELETE FROM budgets WHERE id = 'b2'", "budgets: b2 is gone"],
    [
      "INSERT INTO budgets SELECT 'b4', team, project, env, key_id, provider, model, 'day', 5, kind, mode, 0, NULL, 0, NULL, NULL, NULL, NULL FROM budgets WHERE id = 'b2'",
      "budgets: no audit record made b4",
    ],
    ["UPDATE raises SET until_ms = until_ms + 1", "raises: r1 has until_ms"],
    ["UPDATE limits SET requests_per_minute = 60", "limits: team:search has requests_per_minute 60"],
    [
      "UPDATE seat_prices SET price_nano_usd = 9 WHERE month = '2026-06'",
      "seat_prices: key:k 2026-06 has price_nano_usd 9, by the audit it is 20",
    ],
    ["DELETE FROM seat_prices WHERE month = '2026-01'", "seat_prices: key:k 2026-01 is gone"],
    ["UPDATE tokens SET role = 'admin', team = ''", "tokens: tok_1 has role admin, by the audit it is lead"],
    ["UPDATE tokens SET digest = printf('%064d', 1)", "tokens: tok_1 has digest"],
    [
      "INSERT INTO tokens SELECT 'tok_2', name, 'admin', '', printf('%064d', 1), 0, NULL, NULL FROM tokens",
      "tokens: no audit record made tok_2",
    ],
    ["UPDATE freezes SET lifted_at_ms = 1", "freezes: f1 has lifted_at_ms 1"],
    ["UPDATE keys SET policy = NULL WHERE kind = 'virtual'", "has policy null"],
    ["UPDATE keys SET state = 'revoked' WHERE kind = 'virtual'", "has state revoked, by the audit it is active"],
    ["INSERT INTO key_secrets SELECT 'mine', id, 0, NULL FROM keys WHERE kind = 'virtual'", "one of its secrets"],
    ["DELETE FROM key_secrets WHERE digest LIKE '000%'", "is gone"],
    ["UPDATE key_secrets SET valid_until_ms = NULL", "is good until null, by the audit until"],
    [
      "INSERT INTO meta (name, value) VALUES ('events_kept_from', '9e15'); UPDATE events SET tags = 'x'",
      "not as they were sealed",
    ],
    [
      "INSERT INTO events (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, usage_state, outcome) SELECT MIN(attempt_id) - 353894400000 * 3, 'k', 'p', 'c', 'm', '', '', '', 'reported', 'complete' FROM events",
      "it was sealed without events, and has some",
    ],
    ["UPDATE adjustments SET amount_nano_usd = -5 WHERE source_id = 'line-1'", "adjustments of audit record"],
    [
      "INSERT INTO adjustments (source, source_id, attempt_id, amount_nano_usd, unpriced, inferred, detail, made_at_ms) SELECT 'bill', 'mine', attempt_id, -cost_nano_usd, 0, 0, '', 0 FROM events LIMIT 1",
      "1 adjustments name no audit record",
    ],
    ["DELETE FROM adjustments WHERE source_id = 'line-0'", "2 were booked; the 1 there"],
    [
      "INSERT INTO adjustments SELECT source, 'other', attempt_id, 1, 0, 0, '', 0, audit_seq FROM adjustments WHERE source_id = 'line-2'",
      "adjustments of audit record",
    ],
    [
      "DELETE FROM sealed_days WHERE first_attempt_id = (SELECT MAX(first_attempt_id) FROM sealed_days)",
      "sealed_days does not",
    ],
    [
      "DELETE FROM events WHERE attempt_id = (SELECT MIN(attempt_id) FROM events)",
      "2026-11-01: 12 events were sealed, 11 are there",
    ],
  ])("names the place of: %s", async (sql, place) => {
    const harmed = copy();
    tamper(harmed, sql);
    expect((await findAll(harmed)).join("\n")).toContain(place);
  });

  it("names day and hour of any event of a sealed day that was changed in any column", async () => {
    const books = openForReading(join(folder, "usage.db")) as Sqlite;
    const rows = books
      .prepare("SELECT * FROM events WHERE attempt_id < (SELECT MAX(first_attempt_id) + 353894400000 FROM sealed_days)")
      .all() as { [column: string]: unknown }[];
    books.close();
    const columns = Object.keys(rows[0] ?? {}).filter(
      (column) => !["at_ms", "raw_usage", "attempt_id"].includes(column),
    );
    expect(columns.length).toBeGreaterThan(25);
    expect(rows.length).toBeGreaterThan(30);
    const harmed = copy();
    tamper(harmed, "UPDATE meta SET value = value");
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...rows), fc.constantFrom(...columns), async (row, column) => {
        const database = new Database(join(harmed, "usage.db"));
        const put = database.prepare(`UPDATE events SET ${column} = ? WHERE attempt_id = ?`);
        const old = row[column];
        const isNumber = typeof old === "bigint" || /tokens|input|output|reasoning|cache|nano|status|_ms$/.test(column);
        const value =
          isNumber && !column.includes("other") && column !== "cost_lines"
            ? ((old as bigint | null) ?? 0n) + 1n
            : column === "usage_state"
              ? "unknown"
              : column === "price_confidence"
                ? "inferred"
                : randomUUID();
        put.run(value, row["attempt_id"]);
        const at = new Date(attemptAtMs(Number(row["attempt_id"]))).toISOString();
        const found = await findAll(harmed);
        put.run(old, row["attempt_id"]);
        database.close();
        expect(found, `${column} of ${String(row["attempt_id"])}`).toEqual([
          `${at.slice(0, 10)}, ${at.slice(11, 13)}:00 UTC: events are not as they were sealed`,
        ]);
      }),
      { numRuns: 60, seed: SEED },
    );
    expect(await findAll(harmed)).toEqual([]);
  });

  it.each([
    [
      "UPDATE rollup_day SET team = 'other' WHERE day = '2026-11-01'",
      "day 2026-11-01, key key_1, model m: requests of events 12, stored null",
    ],
    ["UPDATE rollup_day SET cost_nano_usd = cost_nano_usd - 1 WHERE day = '2026-11-02'", "cost_nano_usd of events"],
    [
      "UPDATE rollup_hour SET input = input + 1 WHERE hour_ms = (SELECT MIN(hour_ms) FROM rollup_hour)",
      "input of events 1, stored 2",
    ],
    ["UPDATE rollup_hour SET unpriced = 1", "unpriced of events 0, stored 1"],
    [
      "INSERT INTO rollup_day SELECT '2025-01-01', key_id, provider, model, requested_model, team, project, env, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, '', '', 0 FROM rollup_day LIMIT 1",
      "day 2025-01-01, key key_1",
    ],
  ])("names each sum that is not its events: %s", async (sql, place) => {
    const harmed = copy();
    tamper(harmed, sql);
    const books = (await openUsage(harmed)) as UsageBooks;
    expect((await readFoldDifferences(books)).join("\n")).toContain(place);
    await books.close();
  });

  it("finds a chain that was written anew, by the head that was noted", async () => {
    const books = (await openUsage(folder)) as UsageBooks;
    const head = answerFrom(sqliteOf(books), readAuditHead());
    expect((await checkAudit(books, head)).broken).toBeUndefined();
    expect((await checkAudit(books, { ...head, hash: "0".repeat(64) })).broken).toMatchObject({ seq: head.seq });
    expect((await checkAudit(books, { ...head, seq: head.seq + 3 })).broken).toMatchObject({
      why: expect.stringContaining("are gone") as string,
    });
    await books.close();
  });

  it("refuses an event for a sealed day, and a second seal", async () => {
    const harmed = copy();
    const database = new Database(join(harmed, "usage.db"));
    expect(() =>
      database.exec(
        "INSERT INTO events SELECT * FROM (SELECT attempt_id + 1, key_id, provider, endpoint, requested_model, served_model, tier, team, project, env, tags, input, cache_read, cache_write_5m, cache_write_1h, output, other_usage, reasoning, usage_state, cost_nano_usd, cost_lines, price_version, price_confidence, outcome, http_status, duration_ms, first_byte_ms, provider_request_id, response_id, raw_usage, stated_cost_nano_usd, usage_reason, price_list, person, payer, seat_nano_usd, trace FROM events LIMIT 1)",
      ),
    ).toThrow("is sealed");
    expect(() => database.exec("DELETE FROM sealed_days")).toThrow("for ever");
    database.close();
  });
});

it("what people write into tags and names is no false alarm, and what is no text is refused", async () => {
  const folder = temporaryFolder();
  const writer = await writerOn(folder);
  const { key, secret } = issueVirtualKey({ name: "digest", team: "__proto__", env: "\u{1F511}" }, Date.now());
  await writer.change({ type: "createKey", key, digest: createDigest("a pepper of the test")(secret) }, "test");
  const policy = { tags: { digest: "weekly", amountNanoUsd: "12", type: "x" } };
  await writer.change({ type: "setPolicy", keyId: key.id, policy }, "test");
  const broken = { type: "describeKey", keyId: key.id, fields: { team: "a\ud800" } } as const;
  await expect(writer.change(broken, "test")).rejects.toThrow("half a character");
  expect(writer.trouble()).toBeUndefined();
  await close(writer);
  expect(await findAll(folder)).toEqual([]);
});

it("what was done to a provider key that was seen in passing is no false alarm", async () => {
  const digest = "1".repeat(64);
  const keyId = fingerprintId(digest);
  const folder = temporaryFolder();
  const writer = await writerOn(folder);
  const attemptId = writer.nextAttemptId();
  const subject = { ...SUBJECT, keyId };
  await writer.reserve({ attemptId, subject, boundNanoUsd: 1n, expectedNanoUsd: 1n }, "c", undefined);
  const proven = { digest, name: "sk-...seen", hint: "seen" };
  await writer.settle(event(attemptId, 1n, { keyId }), proven);
  const described = { name: "old script", team: "data", user: "user_ann" };
  await writer.change({ type: "describeKey", keyId, fields: described }, "test");
  await writer.change({ type: "setPolicy", keyId, policy: { models: ["o3"] } }, "test");
  await writer.change({ type: "setKeyState", keyId, state: "paused" }, "test");
  await writer.change({ type: "setKeyState", keyId, state: "revoked" }, "test");
  const active = { type: "setKeyState", keyId, state: "active" } as const;
  await expect(writer.change(active, "test")).rejects.toThrow("for ever");
  await close(writer);
  expect(await findAll(folder)).toEqual([]);
  tamper(folder, `UPDATE keys SET team = 'mine' WHERE id = '${keyId}'`);
  expect(await findAll(folder)).toEqual([`keys: ${keyId} has team mine, by the audit it is data`]);
});

it("work that goes on holds up no seal; what it brings to a sealed day has an audit record of its own", async () => {
  const folder = temporaryFolder();
  let now = Date.parse("2026-11-01T12:00:00Z");
  const first = await writerOn(folder, () => now);
  for (const workId of ["batch_1", "batch_2"]) {
    const attemptId = first.nextAttemptId();
    await first.reserve({ attemptId, subject: SUBJECT, boundNanoUsd: 5n, expectedNanoUsd: 5n }, "batches", undefined);
    await first.suspend(attemptId, workId, []);
  }
  await spend(first, 1n);
  now += 2 * DAY;
  await spend(first, 1n);
  await close(first);
  const second = await writerOn(folder, () => now);
  await expect.poll(() => sealedDays(folder), { timeout: 5_000 }).toBe(1);
  await second.change({ type: "closeWork", workId: "batch_1" }, "test");
  expect(await second.verify()).toMatchObject({ differences: [] });
  await close(second);
  expect(await findAll(folder)).toEqual([]);

  // Nothing else comes to that day; and what came is as it was booked.
  const database = new Database(join(folder, "usage.db"));
  const [seq] = database.prepare("SELECT attempt_id FROM events WHERE endpoint = 'batches'").pluck().all() as number[];
  const insert = database.prepare(
    "INSERT INTO events (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, usage_state, outcome) VALUES (?, 'k', 'p', 'c', 'm', '', '', '', 'reported', 'complete')",
  );
  expect(() => insert.run((seq ?? 0) + 7)).toThrow("is sealed");
  database.close();
  tamper(folder, "UPDATE events SET cost_nano_usd = 4 WHERE endpoint = 'batches'");
  expect(await findAll(folder)).toEqual([
    expect.stringContaining("it came late to its day, and is not as it was booked"),
  ]);
  tamper(folder, "DELETE FROM events WHERE endpoint = 'batches'");
  expect(await findAll(folder)).toEqual([expect.stringContaining("it came late to its day")]);
});

/** What seals covered before they said it. */
const FIRST_LIST =
  `attempt_id key_id provider endpoint requested_model served_model tier team project env tags input cache_read
  cache_write_5m cache_write_1h output other_usage reasoning usage_state cost_nano_usd cost_lines price_version price_confidence
  outcome http_status duration_ms first_byte_ms provider_request_id response_id stated_cost_nano_usd usage_reason`.split(
    /\s+/,
  );

it("each seal is held against the columns that it names, and one that names none against those of its time", async () => {
  const folder = temporaryFolder();
  let now = Date.parse("2026-11-01T12:00:00Z");
  const writer = await writerOn(folder, () => now);
  for (let day = 0; day < 5; day++) {
    await spend(writer, 1n);
    now += DAY;
  }
  await close(writer);
  const database = openForWriting(join(folder, "usage.db"), "usage", "process");
  /** Seals the next day as a program did that knew these columns. */
  const seal = (columns: readonly string[], isNamed: boolean): void => {
    const first = answerFrom(database, askDayToSeal(now)) ?? 0;
    const { columns: named, ...nameless } = sealOf(database, first, columns);
    database.transaction(() =>
      answerFrom(database, applySeal(isNamed ? { ...nameless, columns: named } : nameless, now)),
    )();
  };
  seal(FIRST_LIST, false);
  seal(
    FIRST_LIST.filter((column) => column !== "tags"),
    true,
  );
  seal([...FIRST_LIST.toReversed(), "price_list"], true);
  seal(SEALED_COLUMNS, true);
  database.close();
  expect(await findAll(folder)).toEqual([]);

  const changed = async (column: string): Promise<string[]> => {
    tamper(folder, `UPDATE events SET ${column} = 'x'`);
    const found = await findAll(folder);
    tamper(folder, `UPDATE events SET ${column} = NULL`);
    return found.map((one) => one.slice(0, "2026-11-01".length));
  };
  expect(await changed("response_id")).toEqual(["2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04"]);
  expect(await changed("tags")).toEqual(["2026-11-01", "2026-11-03", "2026-11-04"]);
  expect(await changed("price_list")).toEqual(["2026-11-03", "2026-11-04"]);
  expect(await findAll(folder)).toEqual([]);
});

it("a day in which something is in flight is sealed when that has ended, not before", async () => {
  const folder = temporaryFolder();
  let now = Date.parse("2026-11-01T23:59:00Z");
  const writer = await writerOn(folder, () => now);
  await spend(writer, 1n);
  const attemptId = writer.nextAttemptId();
  await writer.reserve({ attemptId, subject: SUBJECT, boundNanoUsd: 5n, expectedNanoUsd: 5n }, "c", undefined);
  now += DAY;
  await spend(writer, 1n);
  // The writer seals what can be, by itself: it may have been faster.
  const canBeOrIs = (): boolean => {
    const books = openForReading(join(folder, "usage.db")) as Sqlite;
    const next = answerFrom(books, askDayToSeal(now));
    const sealedEnd = answerFrom(books, askSealedEnd());
    books.close();
    return next !== undefined || sealedEnd > 0;
  };
  expect(canBeOrIs()).toBe(false);
  await writer.settle(event(attemptId, 5n));
  expect(canBeOrIs()).toBe(true);
  await close(writer);
});

it("a change whose audit record cannot be written does not happen", async () => {
  const folder = temporaryFolder();
  const writer = await writerOn(folder);
  const database = new Database(join(folder, "usage.db"));
  database.exec(
    "CREATE TRIGGER no_audit BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'the disk of the audit is full'); END",
  );
  const budget = {
    id: "b",
    scope: {},
    window: "day",
    kind: "hard",
    mode: "strict",
    amountNanoUsd: 5n,
    createdAtMs: 0,
  } as const;
  await expect(writer.change({ type: "setBudget", budget }, "test")).rejects.toThrow("the audit is full");
  expect(await writer.states()).toEqual([]);
  database.exec("DROP TRIGGER no_audit");
  database.close();
  await writer.change({ type: "setBudget", budget }, "test");
  expect((await writer.states()).length).toBe(1);
  expect(await findAll(folder)).toEqual([]);
});
