// Ledger files of the release before, and of every schema before it: they open, with the schema of new ones and the
// same money; what cannot be opened is refused with a sentence, and untouched.
import { globSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import { parseDelivery } from "../../alerts/webhook.ts";
import { readBillDays, readBilledLines, readImports, readUsageReads } from "../../ledger/billing/bills.ts";
import { findClosed, readComparisons, readVarianceSums } from "../../ledger/billing/closed-days.ts";
import { readForecasts } from "../../ledger/billing/forecasts.ts";
import { readLeaks } from "../../ledger/billing/leaks.ts";
import { findOpenNotice, readDeliveries, readOutbox } from "../../ledger/notices/notices.ts";
import { LedgerError } from "../../ledger/books.ts";
import type { BillingBooks, BookName, NoticesBooks } from "../../ledger/books.ts";
import { openForReading, openForWriting } from "../../ledger/sqlite.ts";
import type { Sqlite } from "../../ledger/sqlite.ts";
import { temporaryFolder } from "../start-proxy.ts";
import {
  ask,
  contentOf,
  digestOf,
  dumpsOf,
  moneyOf,
  openWorkIn,
  restore,
  schemaOf,
  tamper,
  withBooks,
  withoutDays,
} from "./old-books.ts";

const SETS: readonly BookName[] = ["usage", "billing", "notices"];
const USAGE = dumpsOf("usage");
const ALL = SETS.flatMap((set) => dumpsOf(set).map((dump) => [dump, set] as const));

/** Opens as the program that writes the file does, and closes. */
function open<T>(path: string, set: BookName, what: (database: Sqlite) => T): T {
  const database = openForWriting(path, set, "process");
  try {
    return what(database);
  } finally {
    database.close();
  }
}

/** What a new file has. */
const fresh = new Map<BookName, { readonly schema: ReturnType<typeof schemaOf>; readonly version: number }>();
beforeAll(() => {
  for (const set of SETS)
    fresh.set(
      set,
      open(join(temporaryFolder(), `${set}.db`), set, (database) => ({
        schema: schemaOf(database),
        version: versionOf(database),
      })),
    );
});

describe("the dumps", () => {
  it("are of every schema there was, and hold money, keys, budgets, an open request, and work from when there was any", () => {
    expect(SETS.map((set) => dumpsOf(set).length)).toEqual([20, 4, 2]);
    for (const dump of USAGE) {
      const { path } = restore(dump);
      const [sums, names] = ask(path, (database) => [moneyOf(database), Object.keys(schemaOf(database))] as const);
      expect(sums["events.cost_nano_usd"], dump).toBeGreaterThan(11_000_000n);
      // The hours and the days of that time agree with its events: so it is not our doing if they do.
      for (const table of ["rollup_hour", "rollup_day"]) {
        expect(sums[`${table}.cost_nano_usd`], dump).toBe(sums["events.cost_nano_usd"]);
        expect(sums[`${table}.requests`], dump).toBe(sums["rows of events"]);
        expect(sums[`${table}.unpriced`], dump).toBe(1n);
      }
      expect(sums["rows of key_secrets"], dump).toBe(3n);
      expect(sums["budgets.amount_nano_usd"], dump).toBe(300_000_000_000n);
      const open = ask(path, openWorkIn);
      expect(sums["rows of reservations"], dump).toBe(BigInt(open.length) + 1n);
      if (names.includes("trigger events_sealed on events") && !dump.includes("-", 6))
        expect(open, dump).toEqual(["batch_open"]);
    }
  });
});

describe.each(ALL)("%s", (dump, set) => {
  it("opens with the schema of a new file and all of its money; a second time changes nothing", () => {
    const { path } = restore(dump);
    expect(ask(path, schemaOf), "a dump of what is new already tests nothing").not.toEqual(
      ask(path, versionOf) === fresh.get(set)?.version ? {} : fresh.get(set)?.schema,
    );
    const before = set === "usage" ? ask(path, moneyOf) : {};
    const derived = set === "usage" ? ask(path, expectedOf) : undefined;
    const [schema, content, money] = open(
      path,
      set,
      (database) => [schemaOf(database), contentOf(database), set === "usage" ? moneyOf(database) : {}] as const,
    );
    expect(schema).toEqual(fresh.get(set)?.schema);
    expect(money).toMatchObject(withoutDays(before));
    expect(open(path, set, contentOf)).toEqual(content);
    expect(ask(path, (database) => database.pragma("foreign_key_check"))).toEqual([]);
    if (set === "usage") expect(ask(path, derivedFrom)).toEqual(derived);
  });

  it("is not read as it is: a sentence says who brings it up to date", () => {
    const { path } = restore(dump);
    const before = digestOf(path);
    const known = fresh.get(set)?.version ?? 0;
    const version = ask(path, versionOf);
    if (version === known) withReading(path);
    else {
      expect(() => withReading(path)).toThrow(LedgerError);
      expect(() => withReading(path)).toThrow(
        `${path} was written by an older Keymeter (schema ${version}, this one needs ${known}). Start the program that writes it once; it brings the file up to date.`,
      );
    }
    expect(digestOf(path)).toBe(before);
  });

  it("of a newer version is refused with a sentence, and untouched", () => {
    const { path } = restore(dump);
    const known = fresh.get(set)?.version ?? 0;
    tamper(path, (database) => database.pragma(`user_version = ${known + 1}`));
    const sentence = `${path} was written by a newer Keymeter (schema ${known + 1}, this one knows ${known}). Start that version, or restore a backup made before the upgrade.`;
    expectRefusal(path, set, sentence);
    expect(() => withReading(path)).toThrow(sentence);
  });
});

describe("hours whose events are gone", () => {
  it.each(["usage-cdb2ce1", "usage-2d6f350", "usage-cdb2ce1-7ee2d97", "usage-7ee2d97"])(
    "of %s keep their money",
    (dump) => {
      const { path } = restore(dump);
      const hours = (database: Sqlite): unknown[] =>
        database.prepare("SELECT hour_ms, SUM(requests), SUM(cost_nano_usd) FROM rollup_hour GROUP BY 1").raw().all();
      const keep = tamper(path, (database) => {
        const trigger = String(
          database.prepare("SELECT sql FROM sqlite_master WHERE name = 'events_keep'").pluck().get(),
        );
        database.exec("DROP TRIGGER events_keep");
        const { changes } = database.prepare("DELETE FROM events WHERE at_ms < 1747828800000").run();
        database.exec(trigger);
        return { changes, hours: hours(database) };
      });
      expect(keep.changes).toBeGreaterThan(3);
      expect(keep.hours.length).toBe(3);
      expect(open(path, "usage", (database) => hours(database).map((row) => (row as bigint[]).map(Number)))).toEqual(
        keep.hours,
      );
    },
  );
});

type Derived = { readonly [table: string]: unknown };

const rowsOf = (database: Sqlite, sql: string): unknown[] => database.prepare(sql).raw().all();

/** Tables that came later, or were made again: work that was begun, hours that were metered, names that answers came
 *  under. */
function derivedFrom(database: Sqlite): Derived {
  return {
    work: rowsOf(database, "SELECT name, key_id FROM things ORDER BY 1"),
    meterHours: rowsOf(database, "SELECT hour_ms FROM meter_hours ORDER BY 1"),
    names: rowsOf(database, "SELECT requested_model, served_model FROM served_names"),
    models: rowsOf(database, "SELECT DISTINCT requested_model, model FROM rollup_hour ORDER BY 2"),
  };
}

/** What is to be in them, from what an old file has. */
function expectedOf(database: Sqlite): Derived {
  const isCounted = database.prepare("SELECT 1 FROM sqlite_master WHERE name = 'meter_hours'").get() !== undefined;
  return {
    work: [...openWorkIn(database), ...rowsOf(database, "SELECT response_id FROM events WHERE endpoint = 'batches'")]
      .map((workId) => [String(workId), "key_1"])
      .toSorted(),
    meterHours: rowsOf(
      database,
      `SELECT DISTINCT hour_ms FROM ${isCounted ? "meter_hours" : "rollup_hour"} ORDER BY 1`,
    ),
    names: [["gpt-5", "gpt-5-2025-05-20"]],
    models: [
      ["gpt-5", "gpt-5"],
      ["gpt-5", "gpt-5-2025-05-01"],
      ["gpt-5", "gpt-5-2025-05-20"],
    ],
  };
}

/** Opening is refused with a sentence, by who writes and by who reads, and the file is the same, byte by byte. */
function expectRefusal(path: string, set: BookName, sentence: string): void {
  const before = digestOf(path);
  for (let i = 0; i < 2; i++) {
    expect(() => open(path, set, () => undefined)).toThrow(LedgerError);
    expect(() => open(path, set, () => undefined)).toThrow(sentence);
  }
  expect(digestOf(path)).toBe(before);
  expect(readdirSync(dirname(path)).filter((name) => name.endsWith("-wal"))).toEqual([]);
}

function withReading(path: string): void {
  openForReading(path)?.close();
}

function versionOf(database: Sqlite): number {
  return Number(database.pragma("user_version", { simple: true }));
}

describe.each(SETS)("migrations of %s.db", (set) => {
  const migrations = (): string[] =>
    globSync(`*-${set}.sql`, { cwd: new URL("../../ledger/migrations/", import.meta.url) }).toSorted();

  it("each have a digest in the file, of the file that is shipped", () => {
    const { path } = restore(dumpsOf(set)[0] ?? "");
    const known = open(path, set, (database) =>
      database.prepare("SELECT name, digest FROM migrations ORDER BY name").raw().all(),
    );
    expect(migrations().length).toBeGreaterThan(1);
    expect(known).toEqual(
      migrations().map((name) => [
        name,
        digestOf(fileURLToPath(new URL(`../../ledger/migrations/${name}`, import.meta.url))),
      ]),
    );
  });

  it("that were edited after they were used are refused with a sentence, whichever one it is; the file is untouched", () => {
    const { path } = restore(dumpsOf(set).at(-1) ?? "");
    const content = open(path, set, contentOf);
    const swap = (name: string, from: string, to: string): unknown =>
      tamper(path, (database) =>
        database
          .prepare("UPDATE migrations SET digest = replace(digest, ?, ?) WHERE name = ? RETURNING digest")
          .pluck()
          .get(from, to, name),
      );
    for (const name of migrations()) {
      const digest = digestOf(fileURLToPath(new URL(`../../ledger/migrations/${name}`, import.meta.url)));
      const other = `${digest.startsWith("0") ? "1" : "0"}${digest.slice(1)}`;
      expect(swap(name, digest, other)).toBe(other);
      expectRefusal(
        path,
        set,
        `ledger/migrations/${name} is not what was applied to this file. Bring it back from the release that is installed, and put what is new into a migration of its own.`,
      );
      expect(swap(name, other, digest)).toBe(digest);
    }
    expect(open(path, set, contentOf)).toEqual(content);
  });
});

describe("a step that fails half way", () => {
  it.each(["usage-cdb2ce1", "usage-2d6f350-487d312", "usage-7ee2d97"])("leaves %s as it was", (dump) => {
    const { path } = restore(dump);
    // What a newer migration makes stands in the way.
    tamper(path, (database) => database.exec("CREATE TABLE events_stated (name TEXT)"));
    const before = [ask(path, schemaOf), ask(path, contentOf)];
    expect(() => open(path, "usage", () => undefined)).toThrow("events_stated");
    expect([ask(path, schemaOf), ask(path, contentOf)]).toEqual(before);
  });
});

describe.each(dumpsOf("billing"))("the bills of %s", (dump) => {
  it("are read with the same money, day by day, and what was closed stays closed", async () => {
    const { path } = restore(dump);
    const billed = (database: Sqlite): unknown =>
      database.prepare("SELECT provider, day, SUM(amount_nano_usd) FROM billed_lines GROUP BY 1, 2").raw().all();
    const before = ask(path, billed);
    const isFirst = ask(path, versionOf) === 1;
    expect(ask(path, billed)).toEqual(
      isFirst
        ? [
            ["openai", "2025-05-20", 1_500_000],
            ["openai", "2025-05-21", 3_000_000],
          ]
        : [["openai", "2025-05-20", 1_500_000]],
    );
    open(path, "billing", () => undefined);
    expect(ask(path, billed)).toEqual(before);
    await withBooks(path, async (books: BillingBooks) => {
      const month = ["2025-05-01", "2025-06-01"] as const;
      const days = await readBillDays(books, ...month);
      expect(days.map(({ day, amountNanoUsd }) => [day, amountNanoUsd])).toContainEqual(["2025-05-20", 1_500_000n]);
      const lines = await readBilledLines(books, "openai", ...month);
      expect(lines.map(({ model, amountNanoUsd }) => [model, amountNanoUsd])).toContainEqual(["gpt-5", 1_500_000n]);
      const [note] = await readImports(books);
      expect(note).toMatchObject({ provider: "openai", lastSuccessMs: Date.parse("2025-05-22T08:00:00Z") });
      const [forecast] = await readForecasts(books, Date.parse("2025-05-22T09:00:00Z"));
      expect(forecast).toMatchObject({ p50NanoUsd: 2_000_000n, hours: [1_000_000n, 1_000_000n] });
      // The first ones knew no comparisons, no closing, and no leaks.
      expect((await readUsageReads(books)).map(({ asOfMs, error }) => [asOfMs, error])).toEqual(
        isFirst ? [] : [[Date.parse("2025-05-22T07:00:00Z"), null]],
      );
      expect((await readLeaks(books)).length).toBe(isFirst ? 0 : 1);
      expect((await readComparisons(books, ...month)).map(({ billedNanoUsd }) => billedNanoUsd)).toEqual(
        isFirst ? [] : [1_500_000n],
      );
      expect((await readVarianceSums(books, ...month)).map(({ amountNanoUsd }) => amountNanoUsd)).toEqual(
        isFirst ? [] : [100_000n],
      );
      expect((await findClosed(books, "openai", "2025-05-20"))?.billedNanoUsd).toBe(isFirst ? undefined : 1_500_000n);
    });
    if (!isFirst)
      expect(() => tamper(path, (database) => database.exec("DELETE FROM closed_days"))).toThrow(
        "a closed day stays closed",
      );
  });
});

describe.each(dumpsOf("notices"))("the notices of %s", (dump) => {
  it("keep what waits for Slack, the latest word of each group, and which message stands for it", async () => {
    const { path } = restore(dump);
    open(path, "notices", () => undefined);
    const [search, ads] = ["search", "ads"].map((team) => `{}:{team="${team}", topic="forecast"}`) as [string, string];
    await withBooks(path, async (books: NoticesBooks) => {
      expect((await readOutbox(books)).map(({ kind, groupKey }) => [kind, groupKey]).toSorted()).toEqual([
        ["group", ads],
        ["group", search],
      ]);
      const latest = async (key: string): Promise<unknown> => {
        const words = await readDeliveries(books, key);
        return words.map(({ payload }) => parseDelivery(JSON.parse(payload))?.status);
      };
      expect(await latest(search)).toEqual(["resolved"]);
      expect(await latest(ads)).toEqual(["firing"]);
      expect(await findOpenNotice(books, search)).toMatchObject({ channel: "C0TEST", ts: "1747900800.000100" });
      expect(await findOpenNotice(books, ads)).toBeUndefined();
    });
  });
});
