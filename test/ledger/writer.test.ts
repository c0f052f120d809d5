// The one writer on a real file: what it promises about rows, sums, restarts and refusals.
import { copyFileSync, existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { getTableColumns, getTableName, is } from "drizzle-orm";
import { getViewConfig, SQLiteTable } from "drizzle-orm/sqlite-core";
import Database from "better-sqlite3";
import * as fc from "fast-check";
import { afterEach, describe, expect, it } from "vitest";
import { checkAudit } from "../../ledger/usage/audit.ts";
import type { Budget } from "../../ledger/budgets.ts";
import { lockForWriting, openForReading, openForWriting } from "../../ledger/sqlite.ts";
import * as billingSchema from "../../ledger/billing/schema.ts";
import * as noticesSchema from "../../ledger/notices/schema.ts";
import * as usageSchema from "../../ledger/usage/schema.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { readFoldDifferences } from "../../ledger/usage/verify.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer, WriterOptions } from "../../ledger/usage/writer.ts";
import { booksOn } from "../books.ts";
import { SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event, SUBJECT } from "../usage-event.ts";

const BUDGET: Budget = {
  id: "b",
  scope: { team: "search" },
  window: "month",
  amountNanoUsd: 1_000n,
  kind: "hard",
  mode: "expected",
  createdAtMs: 0,
};

const open: Writer[] = [];
afterEach(async () => {
  for (const writer of open.splice(0)) await writer.close();
});

async function writerOn(folder: string, options: Partial<WriterOptions> = {}): Promise<Writer> {
  const writer = await openWriter({
    path: join(folder, "usage.db"),
    durability: "power",
    zone: "UTC",
    capMode: "enforce",
    ...options,
  });
  open.push(writer);
  return writer;
}

async function close(writer: Writer): Promise<void> {
  open.splice(open.indexOf(writer), 1);
  await writer.close();
}

async function spend(writer: Writer, amount: bigint, subject = SUBJECT): Promise<boolean> {
  const attemptId = writer.nextAttemptId();
  const decision = await writer.reserve(
    { attemptId, subject, boundNanoUsd: amount, expectedNanoUsd: amount },
    "chat_completions",
    undefined,
  );
  if (!decision.admitted) return false;
  await writer.settle(event(attemptId, amount, { keyId: subject.keyId, team: subject.team }));
  return true;
}

describe("the writer", () => {
  it("keeps sums in memory equal to the fold over the books, whatever is reserved and settled", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.bigInt({ min: 0n, max: 400n }), fc.bigInt({ min: 0n, max: 600n }), fc.boolean()), {
          maxLength: 30,
        }),
        async (steps) => {
          const folder = temporaryFolder();
          const writer = await writerOn(folder);
          await writer.change({ type: "setBudget", budget: BUDGET }, "test");
          await Promise.all(
            steps.map(async ([asked, costs, settles]) => {
              const attemptId = writer.nextAttemptId();
              const { admitted } = await writer.reserve(
                { attemptId, subject: SUBJECT, boundNanoUsd: asked, expectedNanoUsd: asked },
                "c",
                undefined,
              );
              if (admitted && settles) await writer.settle(event(attemptId, costs < asked ? costs : asked));
            }),
          );
          const [state] = await writer.states();
          expect((state?.settledNanoUsd ?? 0n) + (state?.reservedNanoUsd ?? 0n) <= BUDGET.amountNanoUsd).toBe(true);
          expect((await writer.verify()).differences).toEqual([]);
          await close(writer);
          // What was left open is booked at the restart, at the amount reserved; nothing stays held.
          const again = await writerOn(folder);
          expect(await again.verify()).toEqual({ differences: [], reservedNanoUsd: 0n });
          const books = openForReading(join(folder, "usage.db"));
          if (!books) throw new Error("no books");
          expect(await readFoldDifferences(booksOn(books))).toEqual([]);
          books.close();
          await close(again);
        },
      ),
      { numRuns: 8, seed: SEED },
    );
  });

  it("books an event once: a second one for the same attempt is an error, and changes nothing", async () => {
    const writer = await writerOn(temporaryFolder());
    const attemptId = writer.nextAttemptId();
    await writer.reserve({ attemptId, subject: SUBJECT, boundNanoUsd: 5n, expectedNanoUsd: 5n }, "c", undefined);
    await writer.settle(event(attemptId, 5n));
    await expect(writer.settle(event(attemptId, 7n))).rejects.toThrow("cannot be booked");
    expect((await writer.verify()).differences).toEqual([]);
  });

  it("proves the sums also in the batch in which one of them moves", async () => {
    const writer = await writerOn(temporaryFolder());
    await writer.change({ type: "setBudget", budget: BUDGET }, "test");
    await spend(writer, 1n);
    const attemptId = writer.nextAttemptId();
    await writer.reserve({ attemptId, subject: SUBJECT, boundNanoUsd: 5n, expectedNanoUsd: 5n }, "c", undefined);
    const [, { differences }] = await Promise.all([writer.settle(event(attemptId, 5n)), writer.verify()]);
    expect(differences).toEqual([]);
  });

  it("isolates an operation that cannot be booked from the batch it came with", async () => {
    const writer = await writerOn(temporaryFolder());
    const bad = event(writer.nextAttemptId(), 1n, { usageState: "nonsense" as "reported" });
    const results = await Promise.allSettled([spend(writer, 1n), writer.settle(bad), spend(writer, 2n)]);
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
  });

  it("starts a new window at zero, because its id is another, and still counts a late settlement where it was reserved", async () => {
    let now = Date.parse("2026-11-30T23:59:59.000Z");
    const writer = await writerOn(temporaryFolder(), { now: () => now });
    await writer.change({ type: "setBudget", budget: { ...BUDGET, createdAtMs: now } }, "test");
    const attemptId = writer.nextAttemptId();
    await writer.reserve({ attemptId, subject: SUBJECT, boundNanoUsd: 900n, expectedNanoUsd: 900n }, "c", undefined);
    now += 2_000;
    expect(await spend(writer, 1_000n)).toBe(true);
    await writer.settle(event(attemptId, 900n));
    const [december] = await writer.states();
    expect(december).toMatchObject({ settledNanoUsd: 1_000n, reservedNanoUsd: 0n });
    expect((await writer.verify()).differences).toEqual([]);
  });

  it("gives ids that never go back, though the clock does", async () => {
    let now = Date.now();
    const folder = temporaryFolder();
    const writer = await writerOn(folder, { now: () => now });
    const first = writer.nextAttemptId();
    now -= 3_600_000;
    expect(writer.nextAttemptId()).toBeGreaterThan(first);
    await spend(writer, 1n);
    await close(writer);
    const again = await writerOn(folder, { now: () => now });
    expect(again.nextAttemptId()).toBeGreaterThan(first);
  });

  it("carries money that is held over a change of budgets", async () => {
    const writer = await writerOn(temporaryFolder());
    const attemptId = writer.nextAttemptId();
    await writer.reserve({ attemptId, subject: SUBJECT, boundNanoUsd: 600n, expectedNanoUsd: 600n }, "c", undefined);
    await writer.change({ type: "setBudget", budget: BUDGET }, "test");
    expect(await spend(writer, 500n)).toBe(false);
    await writer.settle(event(attemptId, 100n));
    expect(await spend(writer, 500n)).toBe(true);
  });

  it.each(["gpt-*", "gpt-5", "gpt-?", "gpt-[5]"])(
    "reads a budget on the model %s from the books as it holds it",
    async (model) => {
      const folder = temporaryFolder();
      const now = (): number => Date.parse("2026-11-23T20:00:00Z");
      const writer = await writerOn(folder, { now });
      for (const window of ["hour", "day"] as const)
        await writer.change({ type: "setBudget", budget: { ...BUDGET, id: window, scope: { model }, window } }, "test");
      const attemptId = writer.nextAttemptId();
      const subject = { ...SUBJECT, model: "gpt-5" };
      await writer.reserve({ attemptId, subject, boundNanoUsd: 7n, expectedNanoUsd: 7n }, "c", undefined);
      await writer.settle(event(attemptId, 7n, { requestedModel: "gpt-5" }));
      const held = (await writer.states()).map(({ settledNanoUsd }) => settledNanoUsd);
      expect(held).toEqual(/[?[]/.test(model) ? [0n, 0n] : [7n, 7n]);
      await close(writer);
      const again = await writerOn(folder, { now });
      expect((await again.states()).map(({ settledNanoUsd }) => settledNanoUsd)).toEqual(held);
    },
  );

  it("rebuilds the day sums when the zone changes, and loses nothing", async () => {
    const folder = temporaryFolder();
    let now = Date.parse("2026-11-23T20:00:00Z");
    const writer = await writerOn(folder, { now: () => now });
    await spend(writer, 10n);
    now = Date.parse("2026-11-24T02:00:00Z");
    await spend(writer, 20n);
    await close(writer);
    await close(await writerOn(folder, { zone: "Asia/Kathmandu" }));
    const books = openForReading(join(folder, "usage.db"));
    if (!books) throw new Error("no books");
    expect(
      (await readSpend(booksOn(books), ["day"], "2026-01-01", "2027-01-01")).map((row) => [
        row.group.day,
        row.costNanoUsd,
      ]),
    ).toEqual([["2026-11-24", 30n]]);
    expect(await readFoldDifferences(booksOn(books))).toEqual([]);
    books.close();
  });
});

describe("the books", () => {
  it("are append-only: events and audit cannot be changed or deleted", async () => {
    const folder = temporaryFolder();
    const writer = await writerOn(folder);
    await spend(writer, 1n);
    await writer.change({ type: "setBudget", budget: BUDGET }, "test");
    await close(writer);
    const books = new Database(join(folder, "usage.db"));
    for (const statement of [
      "UPDATE events SET cost_nano_usd = 0",
      "DELETE FROM events",
      "UPDATE events SET key_id = 'x'",
      "UPDATE audit SET actor = 'x'",
      "DELETE FROM audit",
    ]) {
      expect(() => books.exec(statement), statement).toThrow("append-only");
    }
    books.close();
  });

  it("show a tampered audit record, by its number", async () => {
    const folder = temporaryFolder();
    const writer = await writerOn(folder);
    for (const window of ["day", "month", "week"] as const)
      await writer.change({ type: "setBudget", budget: { ...BUDGET, id: window, window } }, "test");
    await close(writer);
    const books = openForWriting(join(folder, "usage.db"), "usage", "power");
    expect((await checkAudit(booksOn(books))).broken).toBeUndefined();
    books.exec("DROP TRIGGER audit_fixed; UPDATE audit SET detail = replace(detail, '1000', '9000') WHERE seq = 2");
    expect((await checkAudit(booksOn(books))).broken).toEqual({ seq: 2, why: "record was changed" });
    books.close();
  });

  it("run with synchronous FULL, or NORMAL where only the process may die", () => {
    const folder = temporaryFolder();
    const power = openForWriting(join(folder, "a.db"), "usage", "power");
    expect(Number(power.pragma("synchronous", { simple: true }))).toBe(2);
    power.close();
    const process = openForWriting(join(folder, "b.db"), "usage", "process");
    expect(Number(process.pragma("synchronous", { simple: true }))).toBe(1);
    process.close();
  });

  it("are what the drizzle schema says, column by column", () => {
    const folder = temporaryFolder();
    const databases = (["usage", "billing", "notices"] as const).map((set) =>
      openForWriting(join(folder, `${set}.db`), set, "power"),
    );
    for (const table of [usageSchema, billingSchema, noticesSchema].flatMap((tables) => Object.values(tables))) {
      if (!is(table, SQLiteTable)) continue;
      const name = getTableName(table);
      const database = databases.find((one) =>
        one.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?").get(name),
      );
      const real = database
        ?.prepare(`SELECT name, "notnull" AS required, pk FROM pragma_table_xinfo('${name}')`)
        .all() as { name: string; required: bigint; pk: bigint }[];
      const described = Object.values(getTableColumns(table));
      expect(described.map((column) => column.name).toSorted(), name).toEqual(
        real.map((column) => column.name).toSorted(),
      );
      for (const column of described) {
        const row = real.find((one) => one.name === column.name);
        const isGenerated = column.name === "at_ms" && name === "events";
        if (!isGenerated && row?.pk === 0n) expect(column.notNull, `${name}.${column.name}`).toBe(row.required === 1n);
      }
    }
    const view = databases[0]?.prepare("SELECT name FROM pragma_table_info('booked')").pluck().all() as string[];
    const described = Object.values(getViewConfig(usageSchema.booked).selectedFields) as { readonly name: string }[];
    expect(described.map(({ name }) => name).toSorted()).toEqual(view.toSorted());
    for (const database of databases) database.close();
  });
});

describe("a ledger file", () => {
  it("that another process has is refused", async () => {
    const folder = temporaryFolder();
    await writerOn(folder);
    await expect(writerOn(folder)).rejects.toThrow("in use by another Keymeter process");
  });

  it("from a newer version is refused", () => {
    const path = join(temporaryFolder(), "usage.db");
    const database = openForWriting(path, "usage", "power");
    database.pragma("user_version = 99");
    database.close();
    expect(() => openForWriting(path, "usage", "power")).toThrow("newer Keymeter");
    expect(() => openForReading(path)).toThrow("newer Keymeter");
  });

  it("that is no ledger, or is damaged, is refused and left as it is", () => {
    const folder = temporaryFolder();
    const foreign = join(folder, "foreign.db");
    writeFileSync(foreign, "these are not the books you are looking for");
    expect(() => openForWriting(foreign, "usage", "power")).toThrow("is damaged");
    expect(readFileSync(foreign, "utf8")).toContain("not the books");

    const damaged = join(folder, "usage.db");
    const database = openForWriting(damaged, "usage", "power");
    database.close();
    const bytes = readFileSync(damaged);
    bytes.fill(0xff, 4_096, 20_480);
    writeFileSync(damaged, bytes);
    expect(() => openForWriting(damaged, "usage", "power")).toThrow(/is damaged/);
  });

  it("in a place that cannot be written is refused with a sentence", () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, "no-folder"), "");
    expect(() => lockForWriting(join(folder, "no-folder", "usage.db"))).toThrow("cannot be written");
  });

  it("that is deleted while in use stops everything that would be written into nowhere", async () => {
    const folder = temporaryFolder();
    const writer = await writerOn(folder);
    await spend(writer, 1n);
    renameSync(join(folder, "usage.db"), join(folder, "elsewhere.db"));
    await expect.poll(() => writer.trouble(), { timeout: 5_000 }).toContain("deleted or replaced");
    await expect(spend(writer, 1n)).rejects.toThrow("deleted or replaced");
    renameSync(join(folder, "elsewhere.db"), join(folder, "usage.db"));
  });

  it("is made anew where none is, with nothing in it", async () => {
    const folder = temporaryFolder();
    expect(openForReading(join(folder, "usage.db"))).toBeUndefined();
    await close(await writerOn(folder));
    expect(existsSync(join(folder, "usage.db"))).toBe(true);
    copyFileSync(join(folder, "usage.db"), join(folder, "copy.db"));
  });
});
