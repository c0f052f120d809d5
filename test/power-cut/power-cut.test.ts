// What was told to a client survives a power cut: the real proxy under load, its disk as it may be after a cut at any
// instant, and the books that a start makes of it, against what clients were told and what the provider received.
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, it } from "vitest";
import { formatUsdExact } from "../../ledger/money.ts";
import { openForWriting } from "../../ledger/sqlite.ts";
import type { Sqlite } from "../../ledger/sqlite.ts";
import { checkAudit } from "../../ledger/usage/audit.ts";
import { createBooking } from "../../ledger/usage/booking.ts";
import { readEvents } from "../../ledger/usage/events.ts";
import type { EventRecord } from "../../ledger/usage/events.ts";
import { readFoldDifferences, readRegisterDifferences } from "../../ledger/usage/verify.ts";
import { booksOn } from "../books.ts";
import { startFakeProvider } from "../fake/provider.ts";
import { answerSlowly, numberOf, slowChatNanoUsd } from "../fake/slow-chat.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { IS_CI, random, SEED } from "../seed.ts";
import { verifyMemory } from "../simulation/verify-memory.ts";
import { readAllEvents, temporaryFolder } from "../start-proxy.ts";
import { byChance, diskAt, EVERYTHING, layOut, NOTHING, readRecording } from "./power-cut.ts";
import type { Choose, Recording } from "./power-cut.ts";
import { askSlowly, load, setBudget, startNotingProvider, whileRunning } from "./program.ts";
import type { Attempt } from "./program.ts";
import { canRecord, createRecorder } from "./recorder.ts";

const CLIENTS = 8;
/** In CI so many that the log is checkpointed more than once. */
const REQUESTS = IS_CI ? 4_000 : 200;
const CUTS = IS_CI ? 100 : 8;
/** After one in so many the program itself is started. */
const STARTS_EACH = 14;
const BUDGET = "strict";
/** As on a cloud's disk: more is committed while one fsync runs. */
const SYNC_MS = 3;

/** Which of the attempts that the provider had received a cut may take: those that were sent in the last tenth of a
 *  second. One of whose answer a byte was seen is never lost, whatever is said here. */
function mayBeLost({ receivedNs = 0n }: Attempt, cutNs: bigint): boolean {
  return cutNs - receivedNs < MOST_AHEAD_NS;
}

/** With some time for the disk, and for a machine that does other things. */
const MOST_AHEAD_NS = 200_000_000n;

/** Of the recording: what makes new books, and some of what is done to them then. */
const FIRST_WRITES = IS_CI ? 60 : 8;
/** Writes that were torn: all sectors but the first one came to the disk, or only that. */
const ALL_BUT_FIRST: Choose = () => (part) => part > 0;
const ONLY_FIRST: Choose = () => (part) => part === 0;

type Cut = { readonly name: string; readonly ns: bigint; readonly choose: Choose };

describe.skipIf(!canRecord)("a power cut", () => {
  const attempts = new Map<number, Attempt>();
  let recording: Recording;
  let budgetSetNs: bigint;
  let cuts: readonly Cut[];

  beforeAll(async () => {
    const { folder, record, environment } = createRecorder(SYNC_MS);
    const provider = await startNotingProvider(attempts);
    await whileRunning(provider.url, folder, environment, async (program) => {
      await setBudget(program, folder, BUDGET);
      budgetSetNs = process.hrtime.bigint();
      await load(program.url, attempts, CLIENTS, REQUESTS);
    });
    await provider.close();
    recording = readRecording(record, folder);
    cuts = chooseCuts(recording);
  }, 300_000);

  it("what was told to a client survives it", async () => {
    let lost = 0;
    for (const { name, ns, choose } of cuts) {
      const dataDir = temporaryFolder();
      layOut(diskAt(recording, ns, choose), dataDir);
      const { events, budgets, wrong } = await startOn(dataDir);
      if (ns > budgetSetNs && !budgets.includes(BUDGET)) wrong.push("the budget that was set is gone");
      expect([...wrong, ...compare(events, attempts, ns)], name).toEqual([]);
      const gone = lostOf(events, attempts, ns);
      expect(
        gone.filter((attempt) => !mayBeLost(attempt, ns)),
        `${name}: attempts that the provider had received`,
      ).toEqual([]);
      lost += gone.length;
    }
    console.log(`seed ${SEED}: ${attempts.size} attempts, ${cuts.length} cuts, ${lost} attempts lost`);
  });

  it("new books that it cuts in their first moments open all the same, as far as they came", async () => {
    const writes = recording.entries.filter(({ type }) => type === "write").slice(0, FIRST_WRITES);
    for (const [n, { endedNs }] of writes.entries())
      for (const choose of [ALL_BUT_FIRST, ONLY_FIRST]) {
        const dataDir = temporaryFolder();
        layOut(diskAt(recording, endedNs, choose), dataDir);
        const { events, wrong } = await startOn(dataDir);
        expect([...wrong, ...events], `after write ${n}, ${choose.name}`).toEqual([]);
      }
  });

  it("the program starts after it, and its verify finds nothing", async () => {
    for (const { name, ns, choose } of cuts.filter((_cut, i) => i % STARTS_EACH === 1)) {
      const dataDir = temporaryFolder();
      layOut(diskAt(recording, ns, choose), dataDir);
      // Nothing is asked of it: there is nobody behind it.
      await whileRunning("http://127.0.0.1:9", dataDir, {}, async ({ opsUrl }) => {
        const { text, code } = await runKeymeter({ dataDir, opsUrl }, "verify");
        expect(code, `${name}\n${text}`).toBe(0);
        expect(compare(await readAllEvents(dataDir), attempts, ns), name).toEqual([]);
      });
    }
  });
});

describe.skipIf(!canRecord)("the log", () => {
  it("goes to the disk unasked, and once more what a failed fsync should have kept", async () => {
    const { folder, record, environment, whileSyncs } = createRecorder();
    let letGo = (): void => {};
    const held = new Promise<void>((resolve) => (letGo = resolve));
    const provider = await startFakeProvider(async (arrived, response, request) => {
      if (numberOf(arrived.body) === HELD) await held;
      await answerSlowly(arrived, response, request);
    });
    const outcomesAt = async (ns: bigint): Promise<object> => {
      const dataDir = temporaryFolder();
      layOut(diskAt(readRecording(record, folder), ns, NOTHING), dataDir);
      const { events, wrong } = await startOn(dataDir);
      expect(wrong).toEqual([]);
      return Object.fromEntries(events.map(({ tags, outcome }) => [tags["n"], outcome]));
    };
    await whileRunning(provider.url, folder, environment, async (program) => {
      await setBudget(program, folder, BUDGET);
      const statusOf = async (n: number): Promise<number> => {
        const answer = await askSlowly(program.url, n, false);
        await answer.text();
        return answer.status;
      };
      expect(await statusOf(1)).toBe(200);
      const pending = statusOf(HELD);
      await expect.poll(() => provider.journal.length).toBe(2);
      await sleep(UNASKED_MS);
      const unaskedNs = process.hrtime.bigint();
      expect(await whileSyncs("fail", () => statusOf(2))).toBe(503);
      // It asks for the disk at once, before the log is written again.
      letGo();
      expect(await pending).toBe(200);
      await expect.poll(() => statusOf(3)).toBe(200);
      const endedNs = process.hrtime.bigint();
      expect(await outcomesAt(unaskedNs)).toEqual({ 1: "complete", [HELD]: "crash" });
      const complete = { 1: "complete", 2: "complete", 3: "complete", [HELD]: "complete" };
      expect(await outcomesAt(endedNs)).toEqual(complete);
    });
    await provider.close();
  });
});

/** Its provider takes a long time. */
const HELD = 9;
/** A tenth of a second, and some time for the machine. */
const UNASKED_MS = 200;

/** The extremes; then one in each part of the run, in turn at any instant between two syncs and when one is about to
 *  return. Until it does, clients and the provider learn more and more, and nothing more is kept: no instant is worse
 *  than the last. */
function chooseCuts({ entries }: Recording): Cut[] {
  const next = random(SEED);
  const firstNs = entries[0]?.beganNs ?? 0n;
  const returns = [firstNs, ...entries.filter(({ type }) => type === "sync").map(({ endedNs }) => endedNs)];
  /** In the nth of so many parts of the run, when so much of the time between two returns has passed. */
  const instant = (n: number, parts: number, passed: number): bigint => {
    const one = 1 + Math.floor(((n + next()) / parts) * (returns.length - 1));
    const [fromNs, untilNs] = [returns[one - 1] ?? firstNs, returns[one] ?? firstNs];
    return passed === 1 ? untilNs : fromNs + BigInt(Math.floor(passed * Number(untilNs - fromNs)));
  };
  const cutAt = (what: string, ns: bigint, choose: Choose): Cut => {
    const ms = Number(ns - firstNs) / 1e6;
    return { name: `seed ${SEED}, ${what}, ${ms.toFixed(3)} ms after the first change`, ns, choose };
  };
  return [
    cutAt("all is there", instant(0, 1, 1), EVERYTHING),
    cutAt("only what was synced is there", instant(0, 1, 1), NOTHING),
    ...Array.from({ length: CUTS }, (_, n) =>
      cutAt(`cut ${n}`, instant(n, CUTS, n % 2 === 0 ? next() : 1), byChance(random(SEED + n))),
    ),
  ];
}

type Started = {
  readonly events: readonly EventRecord[];
  readonly budgets: readonly string[];
  /** What is wrong with the books as such. */
  readonly wrong: string[];
};

/** Starts on the books as the writer's thread does: what is open becomes an event of the crash. */
async function startOn(dataDir: string): Promise<Started> {
  const database = openForWriting(join(dataDir, "usage.db"), "usage", "power");
  try {
    const held = readHeld(database);
    const booking = createBooking(database, "UTC", "enforce", Date.now());
    const memory = verifyMemory((operation) => booking.book([operation])[0]);
    const books = booksOn<"usage">(database);
    const events = await readEvents(books, { limit: 1_000_000 });
    const { broken } = await checkAudit(books);
    return {
      events,
      budgets: database.prepare("SELECT id FROM budgets").pluck().all() as string[],
      wrong: [
        ...memory.differences,
        ...(memory.reservedNanoUsd === 0n ? [] : ["something is still held"]),
        ...(await readFoldDifferences(books)),
        ...(await readRegisterDifferences(books)),
        ...(broken ? [`audit record ${broken.seq}: ${broken.why}`] : []),
        ...compareWithHeld(events, held),
      ],
    };
  } finally {
    database.close();
  }
}

/** What the strict budget holds for each attempt that is open. */
function readHeld(database: Sqlite): ReadonlyMap<string, bigint> {
  const rows = database.prepare("SELECT 'att_' || attempt_id, bound_nano_usd FROM reservations").raw().all();
  return new Map(rows as [string, bigint][]);
}

/** Each attempt that was open is an event of the crash, at what was held, and no other one is. */
function compareWithHeld(events: readonly EventRecord[], held: ReadonlyMap<string, bigint>): string[] {
  const crashed = new Map(events.filter(isCrash).map(({ attemptId, costNanoUsd }) => [attemptId, costNanoUsd]));
  return [...new Set([...held.keys(), ...crashed.keys()])]
    .filter((id) => crashed.get(id) !== held.get(id)?.toString())
    .map((id) => `${id} is booked at ${crashed.get(id)}, held was ${held.get(id)}`);
}

/** What in the books is not as clients were told, or was told and is not there. */
function compare(events: readonly EventRecord[], attempts: ReadonlyMap<number, Attempt>, cutNs: bigint): string[] {
  const byNumber = groupByNumber(events);
  const strange = [...byNumber].flatMap(([n, own]) => {
    const attempt = attempts.get(n);
    if (!attempt || attempt.sentNs >= cutNs) return [`attempt ${n} was not sent`];
    return own.length > 1 ? [`attempt ${n} is in the books ${own.length} times`] : [];
  });
  const missing = [...attempts.values()].flatMap((attempt) => {
    const { n, stream, requestId, firstByteNs = cutNs, endedNs = cutNs, costUsd } = attempt;
    if (firstByteNs >= cutNs) return [];
    const [event] = byNumber.get(n) ?? [];
    if (event?.requestId !== requestId) return [`attempt ${n} was answered as ${requestId}, and is not in the books`];
    if (endedNs >= cutNs) return [];
    // The client of a stream is told what was used.
    const told = `complete at $${stream ? formatUsdExact(BigInt(slowChatNanoUsd(n))) : costUsd}`;
    const booked = `${event?.outcome} at $${formatUsdExact(BigInt(event?.costNanoUsd ?? 0))}`;
    return booked === told ? [] : [`attempt ${n} is ${booked}; its client was told ${told}`];
  });
  return [...strange, ...missing];
}

/** Attempts that the provider had received, and of which the books know nothing. */
function lostOf(events: readonly EventRecord[], attempts: ReadonlyMap<number, Attempt>, cutNs: bigint): Attempt[] {
  const byNumber = groupByNumber(events);
  return [...attempts.values()].filter(({ n, receivedNs = cutNs }) => receivedNs < cutNs && !byNumber.has(n));
}

function groupByNumber(events: readonly EventRecord[]): ReadonlyMap<number, readonly EventRecord[]> {
  return Map.groupBy(events, ({ tags }) => Number(tags["n"]));
}

function isCrash({ outcome }: EventRecord): boolean {
  return outcome === "crash";
}
