// npm run bench:fleet-at-size: what a fleet asks of Postgres when it is large, on paper. First what a batch costs a real
// server here, by its size: CPU and log. With these figures nodes of the product's own booking are played in a simulated
// time, with the database of the fleet's simulation between them: how many batches there are, how many of them ask for
// money (those that ask for the same budget go one after the other), and how long an attempt waits.
import type { Budget } from "../ledger/budgets.ts";
import { createAttemptIds } from "../ledger/ids.ts";
import { migratePostgres } from "../ledger/postgres.ts";
import { eventRow } from "../ledger/usage/event-columns.ts";
import { createNodeBooking } from "../ledger/usage/nodes/booking.ts";
import type { Asked, NodeTask } from "../ledger/usage/nodes/booking.ts";
import type { Booked, Work } from "../ledger/usage/nodes/work.ts";
import type { Answer } from "../ledger/usage/wire.ts";
import { openWriter } from "../ledger/usage/writer.ts";
import { createCalendar } from "../ledger/windows.ts";
import { hasPostgres, rowsOf, startPostgres } from "../test/postgres.ts";
import { random } from "../test/seed.ts";
import { FleetDatabase } from "../test/simulation/fleet/database.ts";
import { event, SUBJECT } from "../test/usage-event.ts";
import { cpuOf, familyOf } from "./processes.ts";

const START_MS = Date.parse("2026-11-24T09:00:00Z");
const CALENDAR = createCalendar("UTC");
const CONCURRENCIES = [1, 4, 16, 64, 256];
const ATTEMPTS = 6_000;
const TEAMS = 10;
const COST = 1_000_000n;
const NOTHING_SEEN = { batches: 0, attempts: 0, asking: 0, bytes: 0, busyMs: 0, lockMs: 0, refused: 0 };
const OF_TEAM = { ...SUBJECT, team: "team-0" };
const ENOUGH = 10n ** 17n;
const SECOND = 1_000;
/** As long it is looked at. */
const SECONDS = 2;
/** One way between a proxy and the server, and how long a commit takes to the disk. */
const WIRE_MS = 0.25;
const FLUSH_MS = 1;
/** What granting takes. */
const GRANT_MS = 0.3;
/** As many as a node puts into one batch. */
const MOST_TASKS = 256;

/** What a batch takes of the server's CPU, and what it adds to its log. */
type BatchCost = {
  readonly fixedMs: number;
  readonly attemptMs: number;
  readonly fixedBytes: number;
  readonly attemptBytes: number;
};

if (!hasPostgres) throw new Error("Postgres is not installed (Debian: apt-get install postgresql)");
const { rows, cost } = await measureBatches();
console.log(JSON.stringify({ rows, cost }, undefined, 2));
const WORLDS = [
  { nodes: 3, perSecond: 3_000, cores: 4, capSeconds: Infinity },
  { nodes: 10, perSecond: 10_000, cores: 8, capSeconds: Infinity },
  { nodes: 50, perSecond: 25_000, cores: 16, capSeconds: Infinity },
  { nodes: 50, perSecond: 50_000, cores: 32, capSeconds: Infinity },
  { nodes: 50, perSecond: 100_000, cores: 32, capSeconds: Infinity },
  // The organisation's cap is reached after two of three seconds.
  { nodes: 50, perSecond: 25_000, cores: 16, capSeconds: 2 },
];
for (const world of WORLDS) console.log(JSON.stringify(await play(world)));
process.exit();

/** Many attempts at once through one writer on a real server: the more at once, the larger the batches. */
async function measureBatches(): Promise<{ readonly rows: readonly object[]; readonly cost: BatchCost }> {
  const server = await startPostgres();
  try {
    const url = await server.database("batches");
    await migratePostgres(url);
    const writer = await openWriter({
      url,
      name: "bench",
      zone: "UTC",
      capMode: "enforce",
      tagsInBudgets: false,
      agreed: {},
      orphanSeconds: Infinity,
    });
    for (const budget of budgetsOf(ENOUGH).slice(0, 2)) await writer.change({ type: "setBudget", budget }, "bench");
    const read = async (): Promise<readonly [cpuMs: number, batches: number, bytes: number]> => {
      const text = "SELECT SUM(last_batch)::int, (pg_current_wal_lsn() - '0/0')::bigint FROM usage.nodes";
      const [[batches, bytes] = []] = await rowsOf(url, text, []);
      return [cpuOf(familyOf(server.pid())), Number(batches), Number(bytes)];
    };
    const rows: { atOnce: number; attempts: number; batches: number; cpuMs: number; bytes: number }[] = [];
    for (const atOnce of [64, ...CONCURRENCIES]) {
      const attempts = atOnce === 1 ? ATTEMPTS / 8 : ATTEMPTS;
      const before = await read();
      let left = attempts;
      const one = async (): Promise<void> => {
        while ((left -= 1) >= 0) {
          const attemptId = writer.nextAttemptId();
          const amounts = { boundNanoUsd: COST, expectedNanoUsd: COST, mostNanoUsd: COST };
          await writer.reserve({ attemptId, subject: OF_TEAM, ...amounts }, "chat_completions", undefined);
          await writer.settle(bookedEvent(attemptId));
        }
      };
      await Promise.all(Array.from({ length: atOnce }, one));
      const after = await read();
      rows.push({
        atOnce,
        attempts,
        batches: after[1] - before[1],
        cpuMs: after[0] - before[0],
        bytes: after[2] - before[2],
      });
    }
    await writer.close();
    // The first one warmed it up.
    rows.shift();
    const fit = (of: (row: (typeof rows)[number]) => number): [number, number] =>
      leastSquares(rows.map((row) => [row.attempts / row.batches, of(row) / row.batches]));
    const [fixedMs, attemptMs] = fit(({ cpuMs }) => cpuMs);
    const [fixedBytes, attemptBytes] = fit(({ bytes }) => bytes);
    return { rows, cost: { fixedMs, attemptMs, fixedBytes, attemptBytes } };
  } finally {
    await server.stop();
  }
}

/** y = a + b x. */
function leastSquares(points: readonly (readonly [x: number, y: number])[]): [a: number, b: number] {
  const mean = (of: (point: readonly [number, number]) => number): number =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const [x, y] = [mean((point) => point[0]), mean((point) => point[1])];
  const b =
    points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0) /
    points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0);
  return [y - b * x, b];
}

function bookedEvent(attemptId: number): ReturnType<typeof event> {
  return event(attemptId, COST, {
    team: OF_TEAM.team,
    requestedModel: "gpt-4o-mini",
    servedModel: "gpt-4o-mini-2024-07-18",
    responseId: `chatcmpl-${attemptId}`,
    rawUsage: JSON.stringify({ prompt_tokens: 420, completion_tokens: 60, total_tokens: 480 }),
  });
}

/** Simulated time: what is to happen goes in its order. */
type Time = { now: number; readonly events: ReturnType<typeof createEvents> };

/** What went on since it was emptied. */
type Seen = {
  batches: number;
  attempts: number;
  asking: number;
  bytes: number;
  busyMs: number;
  lockMs: number;
  waits: number[];
  refused: number;
};

/** Some seconds of a fleet. `capSeconds`: when the organisation's cap is reached. */
async function play({ nodes, perSecond, cores, capSeconds }: (typeof WORLDS)[number]): Promise<object> {
  const time: Time = { now: START_MS, events: createEvents() };
  const seen: Seen = { ...NOTHING_SEEN, waits: [] };
  const database = new FleetDatabase(() => time.now, CALENDAR);
  database.isTrusted = true;
  const amount = capSeconds === Infinity ? ENOUGH : BigInt(Math.round(capSeconds * perSecond)) * COST;
  database.change(budgetsOf(amount), []);
  const server = createServer(time, seen, cores, () => usedOf(database, "org") > amount - COST);
  const next = random(1);
  for (let i = 0; i < nodes; i++) startNode(time, seen, database, server, next, (1_000 * nodes) / perSecond);
  // The first second is its beginning.
  await runUntil(time, START_MS + SECOND);
  Object.assign(seen, { ...NOTHING_SEEN, waits: [] });
  await runUntil(time, START_MS + (1 + SECONDS) * SECOND);
  const sorted = seen.waits.toSorted((one, other) => one - other);
  const quantile = (share: number): number => round(sorted[Math.floor(sorted.length * share)] ?? Number.NaN);
  return {
    nodes,
    perSecond,
    cores,
    batchesASecond: Math.round(seen.batches / SECONDS),
    attemptsABatch: round(seen.attempts / seen.batches),
    askingBatchesASecond: Math.round(seen.asking / SECONDS),
    coresBusy: round(seen.busyMs / SECONDS / SECOND),
    workMegabytesASecond: round(seen.bytes / SECONDS / 1e6),
    logMegabytesASecond: round((seen.batches * cost.fixedBytes + seen.attempts * cost.attemptBytes) / SECONDS / 1e6),
    waitForABudgetMs: round(seen.lockMs / (seen.asking || 1)),
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    answered: seen.waits.length,
    refused: seen.refused,
  };
}

async function runUntil(time: Time, endMs: number): Promise<void> {
  for (;;) {
    const due = time.events.next();
    if (!due) return;
    time.now = due.atMs;
    due.what();
    // Promises that it resolved go on before the next one.
    for (let i = 0; i < 12; i++) await Promise.resolve();
    if (time.now >= endMs) return;
  }
}

function usedOf(database: FleetDatabase, budgetId: string): bigint {
  let sum = 0n;
  for (const [name, { settled, held }] of database.parts) if (name.startsWith(`${budgetId}\n`)) sum += settled + held;
  return sum;
}

function budgetsOf(amountOfAll: bigint): Budget[] {
  const base = { window: "month", kind: "hard", mode: "strict", createdAtMs: START_MS } as const;
  const teams = Array.from({ length: TEAMS }, (_, i) => `team-${i}`);
  return [
    { ...base, id: "org", scope: {}, amountNanoUsd: amountOfAll },
    ...teams.map((team) => ({ ...base, id: team, scope: { team }, amountNanoUsd: ENOUGH })),
  ];
}

type Server = (work: Work, book: () => Booked, done: (booked: Booked) => void) => void;

/** Some cores; and of a budget's grants one after the other, until they are on the disk. */
function createServer(time: Time, seen: Seen, cores: number, isUsedUp: () => boolean): Server {
  const { events } = time;
  const freeAt = Array.from({ length: cores }, () => time.now);
  const lockedUntil = new Map<string, number>();
  return (work, book, done) => {
    const attempts = ((work.reservations?.length ?? 0) + (work.events?.length ?? 0)) / 2;
    const takes = cost.fixedMs + cost.attemptMs * attempts;
    seen.batches += 1;
    seen.attempts += attempts;
    seen.bytes += JSON.stringify(work).length;
    seen.busyMs += takes;
    const asked = new Set((work.asks ?? []).map(({ budget_id: id }) => id));
    if (asked.size > 0) seen.asking += 1;
    const core = freeAt.indexOf(Math.min(...freeAt));
    const begins = Math.max(time.now, freeAt[core] ?? 0);
    freeAt[core] = begins + takes;
    // Grants come last, so that budgets are locked for little more than the flush. Who waits for a lock needs no core.
    // Who asks in vain locks nothing.
    const isVain = asked.size > 0 && isUsedUp();
    const locks = isVain ? [] : [...asked];
    const granted = Math.max(begins + takes, ...locks.map((id) => lockedUntil.get(id) ?? 0));
    seen.lockMs += granted - begins - takes;
    const ends = granted + (asked.size > 0 ? GRANT_MS : 0) + FLUSH_MS;
    for (const id of locks) lockedUntil.set(id, ends);
    events.add(granted, () => {
      const booked = book();
      events.add(ends + WIRE_MS, () => done(booked));
    });
  };
}

/** A proxy with the product's booking: attempts come at random, `everyMs` on average, and end within a second. */
function startNode(
  time: Time,
  seen: Seen,
  database: FleetDatabase,
  server: Server,
  next: () => number,
  everyMs: number,
): void {
  const { node, epoch } = database.lease();
  let number = 0;
  const at = (ms: number, what: () => void): void => time.events.add(time.now + ms, what);
  const booking = createNodeBooking(
    {
      book: (work, version) =>
        new Promise((resolve) =>
          at(WIRE_MS, () => server(work, () => database.book(node, epoch, (number += 1), version, work), resolve)),
        ),
      read: async (nowMs) => database.read(node, nowMs),
      servedNames: async () => [],
      elsewhere: async (ids) => database.elsewhere(node, ids),
      again: () => Promise.reject(new Error("nobody is given up here")),
    },
    { calendar: CALENDAR, capMode: "enforce", tagsCount: true },
    () => time.now,
  );
  const nextId = createAttemptIds(
    0,
    () => time.now,
    [],
    () => node,
  );
  const fresh: (Asked & { readonly sinceMs: number })[] = [];
  const waiting: typeof fresh = [];
  let [isBusy, lookedAt] = [false, 0];

  const heard = ({ task, sinceMs }: (typeof fresh)[number], answer: Answer | undefined): void => {
    if (task.type !== "reserve" || answer?.type !== "decision") return;
    seen.waits.push(time.now - sinceMs);
    const { attemptId } = task.request;
    if (answer.decision.admitted)
      at(200 + next() * 800, () => put({ type: "settle", row: eventRow(bookedEvent(attemptId)), proven: null }));
    else seen.refused += 1;
  };
  const turn = async (): Promise<void> => {
    const look = time.now - lookedAt >= 100;
    const onlyWaits = fresh.length === 0 && waiting.length > 0;
    if (isBusy || (fresh.length === 0 && waiting.length === 0 && !look)) return;
    isBusy = true;
    if (look) lookedAt = time.now;
    const all = [...waiting.splice(0, MOST_TASKS), ...fresh.splice(0, MOST_TASKS)];
    const { answers } = await booking.turn(all, look);
    waiting.push(...all.filter((one) => !answers.has(one)));
    for (const one of all) heard(one, answers.get(one));
    at(onlyWaits ? 20 : 0, () => {
      isBusy = false;
      void turn();
    });
  };
  const put = (task: NodeTask): void => {
    fresh.push({ task, waits: new Map(), sinceMs: time.now });
    void turn();
  };
  const arrive = (): void => {
    const attemptId = nextId();
    const subject = { ...OF_TEAM, team: `team-${Math.floor(next() * TEAMS)}` };
    const request = { attemptId, subject, boundNanoUsd: COST, expectedNanoUsd: COST, mostNanoUsd: COST };
    put({ type: "reserve", request, endpoint: "chat_completions", tags: null });
    at(-Math.log(1 - next()) * everyMs, arrive);
  };
  at(next() * 50, arrive);
}

function round(value: number): number {
  return Number(value.toFixed(2));
}

/** What is to happen, in its order: a heap. */
function createEvents(): {
  readonly add: (atMs: number, what: () => void) => void;
  readonly next: () => { readonly atMs: number; readonly what: () => void } | undefined;
} {
  type One = { readonly atMs: number; readonly order: number; readonly what: () => void };
  const heap: One[] = [];
  let order = 0;
  const isBefore = (one: One | undefined, other: One | undefined): boolean =>
    one !== undefined &&
    (other === undefined || one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order));
  const swap = (a: number, b: number): void => {
    const [one, other] = [heap[a], heap[b]];
    if (one && other) [heap[a], heap[b]] = [other, one];
  };
  return {
    add(atMs, what) {
      heap.push({ atMs, order: (order += 1), what });
      for (let i = heap.length - 1; i > 0;) {
        const parent = (i - 1) >> 1;
        if (!isBefore(heap[i], heap[parent])) break;
        swap(i, parent);
        i = parent;
      }
    },
    next() {
      swap(0, heap.length - 1);
      const first = heap.pop();
      for (let i = 0; ;) {
        const [left, right] = [2 * i + 1, 2 * i + 2];
        const child = isBefore(heap[right], heap[left]) ? right : left;
        if (!isBefore(heap[child], heap[i])) break;
        swap(i, child);
        i = child;
      }
      return first;
    },
  };
}
