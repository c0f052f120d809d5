// A node's way to the books in Postgres: an appender as the writer knows it (../appender.ts). What is committed there
// survives a power cut there.
import { answerIn, answerWith } from "../../asking.ts";
import { snapshotOf } from "../../engine.ts";
import { checkDurability, explain, openPool, runOn } from "../../postgres.ts";
import type { Pool } from "../../postgres.ts";
import { postgresBooks } from "../../postgres-books.ts";
import { createCalendar } from "../../windows.ts";
import type { Appended, Appender } from "../appender.ts";
import { kindOfRefusal } from "../change-refused.ts";
import { UNPROVEN_KEY } from "../keys.ts";
import type { Passed } from "../limits.ts";
import { askPerson } from "../people.ts";
import type { KeptDays } from "../kept-days.ts";
import type { CapMode } from "../reservations.ts";
import type { Answer, Operation } from "../wire.ts";
import { startBatches } from "./batches.ts";
import { createNodeBooking } from "./booking.ts";
import type { NodeStore } from "./booking.ts";
import { changeRegister } from "./change.ts";
import { startDuties } from "./duties.ts";
import type { NodeSettings } from "./ledger.ts";
import { askElsewhere, askMemory, askServedNames } from "./memory.ts";
import { isOfTheRows, leaseNode, NodeFenced } from "./node.ts";
import type { Node } from "./node.ts";
import { proveParts, statesOf } from "./states.ts";

export type NodeAppenderSettings = {
  readonly url: string;
  /** Whose it is, for people: host and process. */
  readonly name: string;
  readonly zone: string;
  readonly capMode: CapMode;
  readonly tagsInBudgets: boolean;
  /** What all nodes have to agree on, by the setting's name; of what is long or secret a digest. */
  readonly agreed: { readonly [setting: string]: string };
  /** Whether what is committed has to survive a power cut of the server. Absent: it is not asked. */
  readonly survivesPower?: boolean;
  /** How long what a node left open waits for it, before it is booked as its crash. */
  readonly orphanSeconds: number;
  readonly now?: (() => number) | undefined;
  /** How long what is no event is kept. */
  readonly kept?: KeptDays | undefined;
};

/** A batch that has no answer for so long: the server is away. */
const HANGS_MS = 5_000;
const LARGEST_SKEW_MS = 2_000;
/** What is heard later than that of others' limits is of no use. */
const PASSED_MS = 1_000;
const SECOND = 1_000;

/** Leases a node, and opens what no node has kept yet. Rejects with a LedgerError whose message is for whoever runs
 *  Keymeter. */
export async function openNodeAppender(settings: NodeAppenderSettings): Promise<Appender> {
  const { url } = settings;
  const { pool, release } = await openPool(url);
  try {
    return await explain(url, () => openNode(pool, settings, release));
  } catch (error) {
    await release();
    throw error;
  }
}

async function openNode(pool: Pool, settings: NodeAppenderSettings, release: () => Promise<void>): Promise<Appender> {
  const { url, name, zone, capMode, tagsInBudgets, now = Date.now } = settings;
  if (settings.survivesPower) await checkDurability(pool, url);
  const node = await leaseNode(pool, { name, agreed: settings.agreed }, now);
  const own: NodeSettings = { calendar: createCalendar(zone), capMode, tagsCount: tagsInBudgets };
  await runOn(
    pool,
    "INSERT INTO keys (id, kind, provider, name, state, hint, created_at_ms) VALUES (?, 'fingerprint', ?, ?, 'active', ?, ?) ON CONFLICT DO NOTHING",
    [UNPROVEN_KEY.keyId, UNPROVEN_KEY.provider, UNPROVEN_KEY.name, UNPROVEN_KEY.hint, now()],
  );
  await runOn(
    pool,
    "INSERT INTO meta (name, value) VALUES ('tags_in_budgets', ?), ('zone', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    [tagsInBudgets ? "1" : "0", zone],
  );
  const unopened =
    "SELECT 1 FROM budgets WHERE removed_at_ms IS NULL AND id NOT IN (SELECT budget_id FROM budgets_opened) LIMIT 1";
  if ((await runOn(pool, unopened, [])).length > 0) await changeRegister(pool, node, own, now());
  return createNodeAppender(pool, node, { ...settings, now }, own, release);
}

function createNodeAppender(
  pool: Pool,
  first: Node,
  settings: NodeAppenderSettings & { readonly now: () => number },
  own: NodeSettings,
  release: () => Promise<void>,
): Appender {
  const { now } = settings;
  let node = first;
  let skewMs = node.aheadMs;
  let version: number | undefined;
  const listeners = new Set<() => void>();
  const reading = postgresBooks<"usage">(pool, "usage", { isReadOnly: true, closed: async () => {} });
  const store: NodeStore = {
    book: (work, itsVersion) => node.book(work, itsVersion),
    read: (nowMs) => snapshotOf(reading, (books) => answerIn(books, askMemory(node.node, own.calendar, nowMs))),
    servedNames: () => answerIn(reading, askServedNames()),
    elsewhere: (ids) => answerIn(reading, askElsewhere(node.node, ids)),
    async again() {
      const before = node;
      node = await leaseNode(pool, { name: settings.name, agreed: settings.agreed, before }, now);
      const { lastBefore } = node;
      return lastBefore && lastBefore.batch > before.batches() ? { firsts: lastBefore.firsts } : undefined;
    },
  };
  const booking = createNodeBooking(store, own, now, (memory) => {
    const isOther = version !== undefined && version !== memory.version;
    version = memory.version;
    if (isOther) for (const listener of listeners) listener();
  });
  const batches = startBatches(booking, now, ({ atMs, saw }, sentMs) => {
    // Its instant lies between those two.
    skewMs = atMs < sentMs ? sentMs - atMs : Math.min(0, now() - atMs);
    for (const silent of saw?.silent ?? []) void node.fence(silent).catch(() => undefined);
  });
  const { put, alone } = batches;
  const duties = startDuties(pool, settings, reading, put, () => node);

  const makeChange = async (operation: Extract<Operation, { type: "change" }>): Promise<Answer> => {
    for (;;) {
      try {
        await alone(() => changeRegister(pool, node, own, now(), operation).finally(() => booking.forget()));
        return { type: "done" };
      } catch (error) {
        if (!(error instanceof NodeFenced)) throw error;
        await alone(() => store.again());
      }
    }
  };

  const answered = async (make: () => Promise<Answer>): Promise<Appended> => {
    try {
      return { answer: await make(), batch: batches.number() };
    } catch (error) {
      return { answer: failureOf(error), batch: batches.number() };
    }
  };

  const append = (operation: Operation): Promise<Appended> => {
    switch (operation.type) {
      case "change":
        return answered(() => makeChange(operation));
      case "load":
        return answered(async () => ({ type: "loaded", isWhole: true }));
      case "states":
        return answered(async () => statesOf(reading, await batches.ledger(), operation.atMs, operation.caller));
      case "freezes":
        return answered(async () => ({ type: "freezes", freezes: (await batches.ledger()).book.freezes() }));
      case "person":
        return answered(async () => ({
          type: "person",
          id: await answerWith(
            (text, values) => runOn(pool, text, values),
            askPerson(operation.name, operation.newId, operation.atMs),
          ),
        }));
      case "newest":
        return answered(async () => ({ type: "newest", lastAttemptId: node.lastId, ahead: [] }));
      case "verify":
        return answered(() => alone(async () => proveParts(reading, await booking.open(), node.node, now())));
      case "seal":
        return answered(() => Promise.reject(new Error("days are sealed by the leader")));
      case "reserve":
        return put({ ...operation, tags: operation.tags ?? null });
      case "settle":
        return put({ ...operation, proven: operation.proven ?? null });
      default:
        return put(operation);
    }
  };

  return {
    found: { lastAttemptId: first.lastId, ahead: [], recovered: 0, losing: [] },
    node: () => node.node,
    append,
    whenDurable: () => undefined,
    ended: batches.ended,
    failed: () => node.failed() ?? batches.failed(),
    hangs: () => troubleOf(skewMs, performance.now() - (batches.since() ?? Infinity), node.failed()),
    async tellPassed(passed) {
      const [row] = await runOn(
        pool,
        "SELECT tell_passed_v1(?, ?, ?)",
        [node.node, node.epoch, JSON.stringify(passed)],
        PASSED_MS,
      );
      return row?.[0] as Passed[];
    },
    onChanged: (listener) => void listeners.add(listener),
    async close() {
      for (const duty of duties) clearInterval(duty);
      await batches.close();
      await node.release().catch(() => false);
      await release();
    },
  };
}

/** Why nothing may be admitted now. */
function troubleOf(skewMs: number, waitedMs: number, said: string | undefined): string | undefined {
  if (Math.abs(skewMs) > LARGEST_SKEW_MS)
    return `this machine's clock is ${Math.abs(Math.round(skewMs))} ms ${skewMs > 0 ? "ahead of" : "behind"} Postgres's; at most ${LARGEST_SKEW_MS} are allowed. Set the clock (NTP)`;
  if (waitedMs <= HANGS_MS) return undefined;
  return `Postgres has booked nothing for ${Math.round(waitedMs / SECOND)} s${said === undefined ? "" : ` (${said})`}`;
}

function failureOf(error: unknown): Answer {
  const kind = kindOfRefusal(error) ?? (isOfTheRows(error) ? "constraint" : "storage");
  return { type: "failure", message: error instanceof Error ? error.message : String(error), kind };
}
