// A year of simulated days, kept for 90: events go into files and out of the books, which stop growing; sums, chargeback and the
// proof stay.
import { spawnSync } from "node:child_process";
import { appendFileSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { checkArchive, expireDays } from "../../collector/archive.ts";
import { readMetered } from "../../ledger/billing/metered.ts";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import { attemptAtMs, firstAttemptId } from "../../ledger/ids.ts";
import { rowsOf } from "../../ledger/engine.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { openForWriting } from "../../ledger/sqlite.ts";
import { readAdjustmentDifferences } from "../../ledger/usage/adjustments.ts";
import type { Change } from "../../ledger/usage/changes.ts";
import { issueVirtualKey } from "../../ledger/usage/keys.ts";
import { readReassignDifferences } from "../../ledger/usage/reassign.ts";
import { LEAST_DAYS } from "../../ledger/usage/kept-days.ts";
import { readExpiries, readExpiryDifferences, readKeptFrom } from "../../ledger/usage/retention.ts";
import { readSealDifferences } from "../../ledger/usage/seals.ts";
import { readSpend } from "../../ledger/usage/spend.ts";
import { readFoldDifferences } from "../../ledger/usage/verify.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer } from "../../ledger/usage/writer.ts";
import { addDays, DAY_MS, HOUR_MS, utcDay } from "../../ledger/windows.ts";
import { createLog } from "../../service/log.ts";
import { IS_CI, random, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { get, openSite } from "./sites.ts";
import { event } from "../usage-event.ts";

const DAYS = IS_CI ? 365 : 135;
const KEEP_DAYS = 90;
const A_DAY = IS_CI ? 40 : 16;
const STEP_DAYS = 15;
const ZONE = "Europe/Berlin";
/** Whole days before today, for days are sealed by the machine's own clock. */
const START_MS = Math.floor(Date.now() / DAY_MS) * DAY_MS - (DAYS + 2) * DAY_MS;
const START_DAY = utcDay(START_MS);
const log = createLog("test", "silent");

type Books = { readonly usage: UsageBooks; readonly billing: BillingBooks };

/** All that `verify` asks of what retention touches. */
async function differencesOf(usage: UsageBooks): Promise<string[]> {
  return [
    ...(await readFoldDifferences(usage)),
    ...(await readSealDifferences(usage)),
    ...(await readExpiryDifferences(usage)),
    ...(await readAdjustmentDifferences(usage)),
    ...(await readReassignDifferences(usage)),
  ];
}

async function countEvents(usage: UsageBooks): Promise<number> {
  const rows = await readSpend(usage, ["day"], "2000-01-01", "2100-01-01");
  return rows.reduce((sum, row) => sum + row.requests, 0);
}

/** Books of days that are made up, and the truth of them. */
async function simulate(folder: string, keepDays: number | undefined, days: number) {
  const next = random(SEED);
  const clock = { nowMs: START_MS };
  const archive = join(folder, "archive");
  const sizes: number[] = [];
  const truth = new Map<string, bigint>();
  const said: string[] = [];
  let key = issueVirtualKey({ name: "anna", team: "search" }, START_MS).key;
  const open = async (): Promise<Writer> =>
    openWriter({
      path: join(folder, "usage.db"),
      durability: "process",
      zone: ZONE,
      capMode: "enforce",
      now: () => clock.nowMs,
      kept: { refusalsDays: 90, addressesDays: 90 },
    });
  for (let day = 0; day < days; day += STEP_DAYS) {
    const writer = await open();
    const usage = await openUsage(folder);
    if (!usage) throw new Error("no books");
    const billing = await openToWrite(folder, "billing", "process");
    if (day === 0) {
      await writer.change({ type: "createKey", key, digest: key.id }, "test");
    }
    for (let d = day; d < Math.min(day + STEP_DAYS, days); d++) {
      for (let i = 0; i < A_DAY; i++) {
        // A morning and an afternoon: sums by the hour stay for ever.
        clock.nowMs =
          START_MS + d * DAY_MS + (8 + Math.floor((i / A_DAY) * 2) * 7) * HOUR_MS + Math.floor(next() * 3e6);
        const cost = BigInt(Math.floor(next() * 1e8));
        const team = next() < 0.5 ? "search" : "ops";
        const id = writer.nextAttemptId();
        await writer.settle(
          event(id, cost, {
            keyId: key.id,
            team,
            requestedModel: `model-${Math.floor(next() * 2)}`,
            usage: { input: 10, output: Math.floor(next() * 100) },
            priceConfidence: "exact",
            rawUsage: JSON.stringify({ prompt_tokens: 10, padding: "x".repeat(200) }),
            tags: '{"branch":"main","feature":"chat"}',
          }),
        );
        const month = utcDay(clock.nowMs).slice(0, 7);
        truth.set(`${month} ${team}`, (truth.get(`${month} ${team}`) ?? 0n) + cost);
        if (next() < 0.05) {
          const amount = BigInt(Math.floor(next() * 1_000) - 500);
          const detail = { sourceId: `d${d} ${i}`, attemptId: id, amountNanoUsd: amount, unpriced: 0, inferred: 0 };
          await writer.change({ type: "adjust", adjustments: [{ source: "bill", ...detail, detail: "" }] }, "test");
          truth.set(`${month} ${team}`, (truth.get(`${month} ${team}`) ?? 0n) + amount);
        }
      }
    }
    await writer.close();
    // Days are sealed at a start, and swept.
    const again = await open();
    await until(async () => (await readSealedCount(usage)) >= Math.min(day + STEP_DAYS, days) - 1);
    if (keepDays !== undefined) {
      const change = (one: Change): Promise<void> => again.change(one, "keymeter");
      const settings = { eventsDays: keepDays, folder: archive, timezone: ZONE };
      said.push(...(await expireDays({ usage, billing }, settings, change, log, clock.nowMs)));
    }
    await again.close();
    const last = await open();
    await swept(usage);
    await last.close();
    await usage.close();
    await billing.close();
    sizes.push(statSync(join(folder, "usage.db")).size);
  }
  return { truth, sizes, archive, said, keyId: key.id, open, clock };
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + 60_000; !(await isSo());) {
    if (Date.now() > deadline) throw new Error("it did not come to that within a minute");
    await sleep(5);
  }
}

async function readSealedCount(usage: UsageBooks): Promise<number> {
  return Number((await rowsOf<[bigint]>(usage, "SELECT COUNT(*) FROM sealed_days"))[0]?.[0]);
}

/** Until nothing is there that has left the books. */
async function swept(usage: UsageBooks): Promise<void> {
  const left = `SELECT (SELECT COUNT(*) FROM events WHERE attempt_id < kept) + (SELECT COUNT(*) FROM commits WHERE attempt_id < kept)
    FROM (SELECT COALESCE((SELECT CAST(value AS BIGINT) FROM meta WHERE name = 'events_kept_from'), 0) AS kept) AS one`;
  await until(async () => Number((await rowsOf<[bigint]>(usage, left))[0]?.[0]) < 2);
}

const openAll = async (folder: string): Promise<Books & { close(): Promise<void> }> => {
  const usage = await openUsage(folder);
  if (!usage) throw new Error("no books");
  const billing = await openToWrite(folder, "billing", "process");
  return {
    usage,
    billing,
    async close() {
      await usage.close();
      await billing.close();
    },
  };
};

/** What each team is charged for a UTC month. */
async function chargesOf(books: Books, month: string): Promise<Map<string, bigint>> {
  const sums = new Map<string, bigint>();
  const [since, until] = [`${month}-01`, `${nextMonth(month)}-01`];
  await readMetered(books, since, until, (_day, _provider, lines) => {
    for (const { team, costNanoUsd } of lines) sums.set(team, (sums.get(team) ?? 0n) + costNanoUsd);
  });
  return sums;
}

function nextMonth(month: string): string {
  return addDays(`${month}-28`, 5).slice(0, 7);
}

describe(`${DAYS} days of ${A_DAY} events, kept for ${KEEP_DAYS} (seed ${SEED})`, () => {
  const [folder, whole] = [temporaryFolder(), temporaryFolder()];
  let kept: Awaited<ReturnType<typeof simulate>>;
  let all: Awaited<ReturnType<typeof simulate>>;
  let books: Awaited<ReturnType<typeof openAll>>;
  beforeAll(async () => {
    kept = await simulate(folder, KEEP_DAYS, DAYS);
    all = await simulate(whole, undefined, DAYS);
    books = await openAll(folder);
  }, 600_000);
  afterAll(() => books?.close());

  it("events of the last days are there, older ones are in files, and nothing stood in the way", async () => {
    expect(kept.said).toEqual([]);
    const keptMs = (await readKeptFrom(books.usage)) ?? 0;
    const age = (kept.clock.nowMs - keptMs) / DAY_MS;
    expect(age).toBeGreaterThanOrEqual(KEEP_DAYS);
    expect(age).toBeLessThan(KEEP_DAYS + 2);
    const expiries = await readExpiries(books.usage);
    expect(readdirSync(kept.archive).toSorted()).toEqual(expiries.map(({ file }) => file).toSorted());
    expect(expiries.reduce((sum, { events }) => sum + events, 0)).toBe(
      Math.round((keptMs - START_MS) / DAY_MS) * A_DAY,
    );
    expect(await countEvents(books.usage)).toBe(DAYS * A_DAY);
  });

  it("the file of the books levels off: what stays of a day is its seal, its sums and the audit, whatever its events were", () => {
    // From when the first events left, to the end.
    const from = Math.ceil(KEEP_DAYS / STEP_DAYS) + 1;
    const aDay = ({ sizes }: { readonly sizes: readonly number[] }): number =>
      ((sizes.at(-1) ?? 0) - (sizes[from] ?? 0)) / ((sizes.length - 1 - from) * STEP_DAYS);
    console.log(
      `bytes a day: ${aDay(kept)} with retention, ${aDay(all)} without; in all ${kept.sizes.at(-1)}, ${all.sizes.at(-1)}`,
    );
    expect(aDay(kept)).toBeLessThan(9_000);
    expect(aDay(all)).toBeGreaterThan(A_DAY * 400);
    expect(kept.sizes.at(-1)).toBeLessThan(all.sizes.at(-1) ?? 0);
  });

  it("verify finds nothing, and the files are as their days were sealed", async () => {
    expect(await differencesOf(books.usage)).toEqual([]);
    const expiries = await readExpiries(books.usage);
    expect(await checkArchive(books.usage, kept.archive, expiries)).toEqual({
      checked: expiries.length,
      missing: 0,
      differences: [],
    });
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ["keymeter.ts", "verify", "--archive", kept.archive],
      { env: { ...process.env, KEYMETER_DATA_DIR: folder }, encoding: "utf8" },
    );
    expect(status, stdout + stderr).toBe(0);
    expect(stdout).toContain(`ok   sums of ${expiries.length} days are as they were when their events left for files`);
    expect(stdout).toContain(`ok   ${expiries.length} files of events are as they were sealed`);
  });

  it("chargeback of each month is what was booked, in files or not, to the nano-dollar", async () => {
    const months = [...new Set([...kept.truth.keys()].map((name) => name.slice(0, 7)))];
    expect(months.length).toBeGreaterThan(4);
    for (const month of months)
      for (const team of ["search", "ops"])
        expect((await chargesOf(books, month)).get(team), `${month} ${team}`).toBe(kept.truth.get(`${month} ${team}`));
  });

  it("spend by day and team is what it is where everything is kept", async () => {
    const other = await openAll(whole);
    const read = (usage: UsageBooks) =>
      readSpend(usage, ["day", "team", "model"], START_DAY, addDays(START_DAY, DAYS + 2));
    expect(await read(books.usage)).toEqual(await read(other.usage));
    expect(await differencesOf(other.usage)).toEqual([]);
    await other.close();
  });

  it("a page compares no features with a time whose events have left", async () => {
    const path = `changes.json?since=${addDays(START_DAY, 30)}&until=${addDays(START_DAY, 39)}`;
    // The pages have the books of a folder to themselves.
    await books.close();
    const lately = `changes.json?since=${addDays(START_DAY, DAYS - 10)}&until=${addDays(START_DAY, DAYS - 1)}`;
    for (const [at, asked, isThere] of [
      [whole, path, true],
      [folder, path, false],
      [folder, lately, true],
    ] as const) {
      const site = await openSite(at, Date.now());
      expect((await get(site, asked)).toLowerCase().includes('"features"'), `${at === whole} ${asked}`).toBe(isThere);
      await site.close();
    }
    books = await openAll(folder);
  });

  it("the command says from when on events are counted", () => {
    const run = (...args: string[]) =>
      spawnSync(process.execPath, ["keymeter.ts", ...args], {
        env: { ...process.env, KEYMETER_DATA_DIR: folder, KEYMETER_TIMEZONE: ZONE },
        encoding: "utf8",
      });
    const old = run("spend", "--by", "branch", "--since", START_DAY);
    expect(old.stderr).toContain("have left the books for files (retention)");
    expect(run("spend", "--by", "team", "--since", START_DAY).stderr).toBe("");
    expect(run("events", "--since", START_DAY).stderr).toContain("have left the books");
  });

  it.each([
    [
      "an hour of a day that left",
      "UPDATE rollup_hour SET cost_nano_usd = cost_nano_usd + 1 WHERE hour_ms = (SELECT MIN(hour_ms) FROM rollup_hour)",
      "hours of ",
    ],
    [
      "a day that left",
      "UPDATE rollup_day SET requests = requests + 1 WHERE day = (SELECT day FROM rollup_day ORDER BY day LIMIT 1 OFFSET 3)",
      "its sums are not as they were when its events left",
    ],
    [
      "sums of an hour that had no events",
      "INSERT INTO rollup_hour SELECT hour_ms - 864000000, key_id, provider, model, requested_model, team, project, env, requests, cost_nano_usd, input, cache_read, cache_write, output, estimated, unknown, unpriced, inferred, person, payer, seat_nano_usd FROM rollup_hour ORDER BY hour_ms LIMIT 1",
      "sums that stand for no events",
    ],
    [
      "more events said to have left than did",
      "UPDATE meta SET value = CAST(value AS INTEGER) + 353894400000 WHERE name = 'events_kept_from'",
      "events are said to be kept from",
    ],
    [
      "an event that has not left",
      "UPDATE meta SET value = '9000000000000000' WHERE name = 'events_kept_from'; DELETE FROM events WHERE attempt_id = (SELECT MAX(attempt_id) - 0 FROM events WHERE attempt_id < (SELECT MAX(attempt_id) - 3538944000000 FROM events))",
      "events were sealed",
    ],
  ])("verify names a change of %s", async (_what, text, wanted) => {
    const copy = temporaryFolder();
    writeFileSync(join(copy, "usage.db"), readFileSync(join(folder, "usage.db")));
    const database = openForWriting(join(copy, "usage.db"), "usage", "process");
    database.exec(text);
    database.close();
    const usage = await openUsage(copy);
    if (!usage) throw new Error("no books");
    const found = await differencesOf(usage);
    expect(found.join("\n")).toContain(wanted);
    await usage.close();
  });

  it("a file that was changed, and one that is gone, are told apart", async () => {
    const expiries = await readExpiries(books.usage);
    const [first, second] = readdirSync(kept.archive).toSorted();
    const copy = temporaryFolder();
    for (const file of readdirSync(kept.archive))
      writeFileSync(join(copy, file), readFileSync(join(kept.archive, file)));
    appendFileSync(join(copy, first ?? ""), "x");
    rmSync(join(copy, second ?? ""));
    expect(await checkArchive(books.usage, copy, expiries)).toEqual({
      checked: expiries.length - 1,
      missing: 1,
      differences: [`${first}: it is not the file that the events left the books for`],
    });
  });
});

describe("what keeps events in the books", () => {
  it("a day that is young, or not the oldest, a wrong count, somebody with a name; a budget of a tag", async () => {
    const folder = temporaryFolder();
    const made = await simulate(folder, undefined, 60);
    const writer = await made.open();
    const books = await openAll(folder);
    const first = firstAttemptId(START_MS);
    const day = firstAttemptId(attemptAtMs(0) + DAY_MS);
    const expire = (more: object) =>
      writer.change(
        { type: "expire", firstAttemptId: first, events: A_DAY, file: "f", sha256: "0".repeat(64), ...more },
        "test",
      );
    await expect(expire({ firstAttemptId: first + day })).rejects.toThrow("it is not the oldest");
    await expect(expire({ firstAttemptId: first + 1 })).rejects.toThrow("it is no day of theirs");
    await expect(expire({ firstAttemptId: first + day * 30 })).rejects.toThrow(`younger than ${LEAST_DAYS} days`);
    await expect(expire({ events: A_DAY - 1 })).rejects.toThrow(`${A_DAY} are there, ${A_DAY - 1} are in the file`);
    const admin = { name: "eve", role: "admin" } as const;
    await expect(
      writer.change(
        { type: "expire", firstAttemptId: first, events: A_DAY, file: "f", sha256: "0".repeat(64) },
        "eve",
        admin as never,
      ),
    ).rejects.toThrow("Keymeter's own matter");
    const budget = {
      id: "b1",
      scope: { tag: "branch=main" },
      window: "total",
      amountNanoUsd: 10n ** 15n,
      kind: "soft",
      mode: "expected",
      createdAtMs: made.clock.nowMs,
    } as const;
    await writer.change({ type: "setBudget", budget }, "test");
    const settings = { eventsDays: LEAST_DAYS, folder: join(folder, "archive"), timezone: ZONE };
    const change = (one: Change): Promise<void> => writer.change(one, "keymeter");
    expect(await expireDays(books, settings, change, log, made.clock.nowMs)).toEqual([
      `events of ${START_DAY} are kept longer than ${LEAST_DAYS} days: b1 sums up tags over a longer window`,
    ]);
    await writer.change({ type: "removeBudget", budgetId: "b1" }, "test");
    // Work that began on the first day and goes on: its event would come to a day that is gone.
    const database = openForWriting(join(folder, "usage.db"), "usage", "process");
    const hold = `INSERT INTO reservations (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, work_id)
      VALUES (${first + 7}, 'k', 'openai', 'batches', 'm', '', '', '', 'batch_1')`;
    database.exec(hold);
    expect(await expireDays(books, settings, change, log, made.clock.nowMs)).toEqual([
      `events of ${START_DAY} are kept longer than ${LEAST_DAYS} days: work of that time is open (\`keymeter work\` lists it)`,
    ]);
    await expect(expire({})).rejects.toThrow("work of that time still goes on");
    database.exec("DELETE FROM reservations");
    database.close();
    expect(await expireDays(books, settings, change, log, made.clock.nowMs)).toEqual([]);
    expect(((await readKeptFrom(books.usage)) ?? 0) > START_MS).toBe(true);
    // A correction of what has left is refused, not lost.
    const correction = {
      source: "bill",
      sourceId: "x",
      attemptId: first + 5,
      amountNanoUsd: 1n,
      unpriced: 0,
      inferred: 0,
      detail: "",
    } as const;
    await expect(writer.change({ type: "adjust", adjustments: [correction] }, "test")).rejects.toThrow(
      "has left the books for a file",
    );
    // A budget that would count from the middle of its window is refused too.
    await expect(writer.change({ type: "setBudget", budget: { ...budget, id: "b2" } }, "test")).rejects.toThrow(
      "it sums up tags, and events before",
    );
    await writer.change({ type: "setBudget", budget: { ...budget, id: "b3", window: "day" } }, "test");
    await writer.close();
    await books.close();
  }, 120_000);

  it("a day whose only event came late, to days that were sealed, goes into a file too", async () => {
    const folder = temporaryFolder();
    const made = await simulate(folder, undefined, 46);
    // A batch of two days before all others, whose result was fetched at last.
    const late = firstAttemptId(START_MS - 2 * DAY_MS) + 3;
    const database = openForWriting(join(folder, "usage.db"), "usage", "process");
    database.exec(`INSERT INTO reservations (attempt_id, key_id, provider, endpoint, requested_model, team, project, env, work_id)
      VALUES (${late}, '${made.keyId}', 'openai', 'batches', 'm', 'search', '', '', 'batch_1')`);
    database.close();
    const writer = await made.open();
    const books = await openAll(folder);
    await writer.settle(event(late, 7n, { keyId: made.keyId, endpoint: "batches" }));
    const settings = { eventsDays: LEAST_DAYS, folder: made.archive, timezone: ZONE };
    const change = (one: Change): Promise<void> => writer.change(one, "keymeter");
    expect(await expireDays(books, settings, change, log, made.clock.nowMs)).toEqual([]);
    await writer.close();
    await (await made.open()).close();
    const expiries = await readExpiries(books.usage);
    expect(expiries[0]).toMatchObject({ events: 1, file: `events-${utcDay(START_MS - 2 * DAY_MS)}.parquet` });
    expect(expiries.length).toBeGreaterThan(3);
    expect(await differencesOf(books.usage)).toEqual([]);
    expect((await checkArchive(books.usage, made.archive, expiries)).differences).toEqual([]);
    expect(statSync(join(made.archive, expiries[0]?.file ?? "")).mode & 0o777).toBe(0o600);
    await books.close();
  }, 120_000);
});
