// Nodes over a real Postgres: a number belongs to one, a batch is booked once whatever becomes of its answer, nobody is
// given up by mistake, and what several could settle is settled by one.
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { firstAttemptId } from "../../ledger/ids.ts";
import { migratePostgres, poolOf } from "../../ledger/postgres.ts";
import type { Pool } from "../../ledger/postgres.ts";
import { DatabaseWentBack, leaseNode, NodeFenced } from "../../ledger/usage/nodes/node.ts";
import type { Node, NodeSettings } from "../../ledger/usage/nodes/node.ts";
import type { Booked, Gone, Stale, Work } from "../../ledger/usage/nodes/work.ts";
import { ask, hasPostgres, rowsOf, startPostgres } from "../postgres.ts";
import type { PostgresServer } from "../postgres.ts";
import { IS_CI, random, SEED } from "../seed.ts";

const AGREED = { timezone: "UTC", cap_mode: "enforce" };
const FIRST = firstAttemptId(Date.parse("2026-11-24T10:00:00Z"));
const ROUNDS = IS_CI ? 200 : 8;

const ATTEMPT = {
  key_id: "key_1",
  provider: "openai",
  endpoint: "chat_completions",
  requested_model: "m",
  team: "",
  project: "",
  env: "",
};
/** An attempt while it is open, and when it is over. */
const open = (id: number) => ({
  ...ATTEMPT,
  attempt_id: id,
  bound_nano_usd: "9007199254740993",
  expected_nano_usd: "5",
});
const over = (id: number, more: object = {}) => ({
  ...ATTEMPT,
  attempt_id: id,
  input: 1,
  usage_state: "reported",
  cost_nano_usd: "7",
  outcome: "complete",
  ...more,
});

describe.skipIf(!hasPostgres)("nodes", () => {
  let server: PostgresServer;
  let url: string;
  let pool: Pool;
  let made = 0;
  beforeAll(async () => {
    console.log(`seed ${SEED}`);
    server = await startPostgres();
  }, 60_000);
  afterAll(() => server?.stop());
  beforeEach(async () => {
    url = await server.database(`nodes_${(made += 1)}`);
    await migratePostgres(url);
    pool = poolOf(url);
  });
  afterEach(() => pool.end());

  type Leased = Omit<Node, "book"> & { book(work: Work): Promise<Booked | Gone | Stale> };
  const lease = async (name: string, more: Partial<NodeSettings> = {}): Promise<Leased> => {
    const node = await leaseNode(pool, { name, agreed: AGREED, ...more });
    return { ...node, book: (work) => node.book(work, 1) };
  };
  const events = async (): Promise<number[]> =>
    (await rowsOf(url, "SELECT attempt_id FROM events ORDER BY 1", [])).map(([id]) => Number(id));
  const held = async (): Promise<number[]> =>
    (await rowsOf(url, "SELECT attempt_id FROM reservations ORDER BY 1", [])).map(([id]) => Number(id));
  /** As if a node had last committed so long ago, and had done so without a gap for so long before. */
  const age = (node: number, seen: string, since = seen): Promise<void> =>
    ask(
      url,
      `UPDATE nodes SET seen_at = clock_timestamp() - interval '${seen}', since = clock_timestamp() - interval '${since}' WHERE node = ${node}`,
    );

  it("have a number each, begin after what was moved in, and agree or are refused, by name", async () => {
    await ask(url, `INSERT INTO meta VALUES ('moved_end', '${FIRST}')`);
    const [one, other] = [await lease("one"), await lease("other", { wanted: 7 })];
    expect([one.node, one.lastId, one.lastBefore, other.node]).toEqual([1, FIRST, undefined, 7]);
    await expect(lease("third", { wanted: 7 })).rejects.toThrow("node 7 is taken by other");
    await expect(lease("third", { agreed: { ...AGREED, timezone: "Asia/Tokyo" } })).rejects.toThrow(
      "kept with another timezone (UTC) than this proxy has",
    );
    for (const [ms, words] of [
      [5_000, "5000 ms ahead of"],
      [-5_000, "5000 ms behind"],
    ] as const)
      await expect(leaseNode(pool, { name: "off", agreed: AGREED }, () => Date.now() + ms)).rejects.toThrow(
        new RegExp(`is ${words.replace("5000", "(49|50)\\d\\d")} Postgres's`),
      );
    // A number whose holder left nothing is free again, under another epoch and after the ids of before.
    await one.book({ lastId: FIRST + 9 });
    expect(await one.release()).toBe(true);
    const again = await lease("again");
    expect([again.node, again.epoch > one.epoch, again.lastId]).toEqual([1, true, FIRST + 9]);
    await expect(one.book({})).rejects.toThrow(NodeFenced);
  });

  it("book a batch once, and answer its number as before; a number that was never given is none", async () => {
    const { node, epoch } = await lease("one");
    const call = async (number: number, work: Work): Promise<unknown> =>
      (await rowsOf(url, "SELECT book_v1($1, $2, $3, 1, $4)", [node, epoch, number, JSON.stringify(work)]))[0]?.[0];
    const first = await call(1, { reservations: [open(FIRST)], events: [over(FIRST)], lastId: FIRST });
    expect(await call(1, { reservations: [open(FIRST)], events: [over(FIRST)], lastId: FIRST })).toMatchObject({
      firsts: (first as { firsts: unknown }).firsts,
    });
    // The same number for something else is nobody's that this database knows.
    await expect(call(1, { events: [over(FIRST + 1)] })).rejects.toThrow("the last one here is another 1");
    expect([await events(), await held()]).toEqual([[FIRST], []]);
    await expect(call(3, {})).rejects.toThrow("the last one here is another 1");
    await expect(call(0, {})).rejects.toThrow("the last one here is another 1");
    // An older copy of the database answers: what was acknowledged is not there.
    const other = await lease("other");
    await other.book({});
    await ask(url, `UPDATE nodes SET last_batch = 0 WHERE node = ${other.node}`);
    await expect(other.book({})).rejects.toThrow(DatabaseWentBack);
    const third = await lease("third");
    await ask(url, `UPDATE nodes SET epoch = epoch - 1 WHERE node = ${third.node}`);
    await expect(third.book({})).rejects.toThrow(DatabaseWentBack);
    await expect(lease("third", { before: third })).rejects.toThrow(DatabaseWentBack);
    await ask(url, `DELETE FROM nodes WHERE node = ${third.node}`);
    await expect(third.book({})).rejects.toThrow(DatabaseWentBack);
  });

  it("keep the number of a batch that cannot be held, and book the next one", async () => {
    const one = await lease("one");
    await expect(one.book({ events: [over(FIRST, { cost_nano_usd: "-1" })] })).rejects.toThrow(
      "violates check constraint",
    );
    await one.book({ events: [over(FIRST + 1)] });
    await expect(one.book({ events: [over(FIRST + 1)] })).rejects.toThrow("duplicate key");
    expect(await one.book({ events: [over(FIRST + 2)] })).toMatchObject({ firsts: [] });
    expect(await events()).toEqual([FIRST + 1, FIRST + 2]);
  });

  it("book exactly once over a connection that breaks before, in, and after a batch", async () => {
    const next = random(SEED);
    const wire = await breakingWire(Number(new URL(url).port), next);
    const through = poolOf(url.replace(/:\d+\//, `:${wire.port}/`));
    const node = await leaseNode(through, { name: "one", agreed: AGREED });
    const one = { ...node, book: (work: Work) => node.book(work, 1) };
    wire.breaks = true;
    const wanted = [];
    for (let i = 0; i < ROUNDS || wire.broken < ROUNDS; i++) {
      const id = FIRST + i * 256;
      wanted.push(id);
      await one.book({
        reservations: [open(id)],
        events: [over(id)],
        refused: [
          { minute_ms: 60_000, key_id: "k", model: "m", reason: "limit", budget_id: "", observed: 0, count: 1 },
        ],
      });
    }
    wire.breaks = false;
    expect([await events(), await held()]).toEqual([wanted, []]);
    expect(await rowsOf(url, "SELECT count FROM refused", [])).toEqual([[String(wanted.length)]]);
    await through.end();
    await wire.close();
  });

  it("wait for a server that is away, and book all of it once when it is back", async () => {
    const one = await lease("one");
    const booked: Promise<unknown>[] = [];
    const wanted: number[] = [];
    const load = async (): Promise<void> => {
      for (let i = 0; i < 60; i++) {
        wanted.push(FIRST + i);
        booked.push(one.book({ reservations: [open(FIRST + i)], events: [over(FIRST + i)] }));
        await sleep(10);
      }
    };
    const loading = load();
    await sleep(100);
    await server.kill();
    await sleep(200);
    await server.start();
    await loading;
    await Promise.all(booked);
    expect([await events(), await held()]).toEqual([wanted, []]);
  });

  it("are given up only by one that has committed for 15 s without a gap, and only when they have not", async () => {
    const [one, other] = [await lease("one"), await lease("other")];
    await other.book({ reservations: [open(FIRST)] });
    await one.book({});
    // After an outage of the server: the other is silent, and so was this one.
    await age(other.node, "20 seconds");
    expect(await one.fence(other.node)).toBe(false);
    await age(one.node, "3 seconds", "60 seconds");
    expect(await one.fence(other.node)).toBe(false);
    await one.book({});
    expect(await one.fence(other.node)).toBe(false);
    await age(one.node, "0 seconds", "16 seconds");
    await age(other.node, "14 seconds");
    expect([await one.fence(other.node), await one.fence(one.node)]).toEqual([false, false]);
    await age(other.node, "16 seconds");
    expect([await one.fence(other.node), await one.fence(other.node)]).toEqual([true, false]);
    // It writes nothing any more; what it left open stays, and its number is nobody's.
    await expect(other.book({ events: [over(FIRST)] })).rejects.toThrow(NodeFenced);
    expect([await events(), await held()]).toEqual([[], [FIRST]]);
    expect((await lease("third")).node).not.toBe(other.node);
    await expect(lease("fourth", { wanted: other.node })).rejects.toThrow("is taken by other");
  });

  it("a batch that commits while it is looked at saves its node", async () => {
    const [one, other] = [await lease("one"), await lease("other")];
    await age(one.node, "0 seconds", "16 seconds");
    await age(other.node, "16 seconds");
    const client = await pool.connect();
    await client.query("BEGIN");
    await client.query("SELECT book_v1($1, $2, 1, 1, '{}')", [other.node, other.epoch]);
    const fenced = one.fence(other.node);
    await sleep(50);
    await client.query("COMMIT");
    client.release();
    expect(await fenced).toBe(false);
  });

  it("one that wakes takes its attempts again under a new epoch; each is settled by one only", async () => {
    const next = random(SEED);
    for (let round = 0; round < ROUNDS; round++) {
      const [one, paused] = [await lease("one"), await lease("paused")];
      const ids = [0, 1, 2, 3].map((i) => FIRST + round * 4096 + i);
      await paused.book({ reservations: ids.map((id) => open(id)) });
      await age(one.node, "0 seconds", "16 seconds");
      await age(paused.node, "16 seconds");
      expect(await one.fence(paused.node)).toBe(true);
      const settle = (by: Leased, id: number, outcome: string) =>
        by.book({ requires: [id], events: [over(id, { outcome })] });
      const woken = await lease("paused", { before: paused });
      expect([woken.node, woken.epoch > paused.epoch]).toEqual([paused.node, true]);
      // It hears what became of its last batch: its answer may have got lost.
      expect(woken.lastBefore).toEqual({ batch: 1, firsts: [] });
      // Before it woke another one has booked some as crashed; some race with it.
      const order = ids.flatMap((id) => [
        () => settle(woken, id, "complete"),
        ...(next() < 0.5 ? [() => settle(one, id, "crash")] : []),
      ]);
      await Promise.all(order.toSorted(() => next() - 0.5).map((act) => act()));
      expect([...(await events()).slice(-4), ...(await held())]).toEqual(ids);
      expect([await one.release(), await woken.release()]).toEqual([true, true]);
    }
  });

  it("orphans are settled by anybody, and whoever comes second hears which were gone and books nothing", async () => {
    const [one, lost] = [await lease("one"), await lease("lost")];
    await lost.book({ reservations: [open(FIRST), open(FIRST + 1)] });
    // A live node's attempts are its own.
    expect(await one.book({ requires: [FIRST], events: [over(FIRST)] })).toEqual({ gone: [FIRST] });
    await age(one.node, "0 seconds", "16 seconds");
    await age(lost.node, "16 seconds");
    await one.fence(lost.node);
    expect(await one.book({ requires: [FIRST], events: [over(FIRST, { outcome: "crash" })] })).toMatchObject({
      firsts: [],
    });
    const back = await lease("lost", { before: lost });
    expect(await back.book({ requires: [FIRST, FIRST + 1], events: [over(FIRST), over(FIRST + 1)] })).toEqual({
      gone: [FIRST],
    });
    expect(await back.book({ requires: [FIRST + 1], events: [over(FIRST + 1)] })).toMatchObject({ firsts: [] });
    expect([await events(), await held()]).toEqual([[FIRST, FIRST + 1], []]);
  });

  it("one that wakes while its orphan is booked does not keep it open", async () => {
    const [one, lost] = [await lease("one"), await lease("lost")];
    await lost.book({ reservations: [open(FIRST)] });
    await age(one.node, "0 seconds", "16 seconds");
    await age(lost.node, "16 seconds");
    await one.fence(lost.node);
    const client = await pool.connect();
    await client.query("BEGIN");
    const work = JSON.stringify({ requires: [FIRST], events: [over(FIRST, { outcome: "crash" })] });
    await client.query("SELECT book_v1($1, $2, 1, 1, $3)", [one.node, one.epoch, work]);
    const back = await lease("lost", { before: lost });
    const settled = back.book({ requires: [FIRST], events: [over(FIRST)] });
    await sleep(50);
    await client.query("COMMIT");
    client.release();
    expect(await settled).toEqual({ gone: [FIRST] });
    expect([await events(), await held(), await back.release()]).toEqual([[FIRST], [], true]);
  });

  it("one that is refused decides nothing for the others", async () => {
    await lease("one");
    await expect(lease("wrong", { agreed: { prices: "old", timezone: "Asia/Tokyo" } })).rejects.toThrow(
      "another timezone",
    );
    expect((await lease("right", { agreed: { ...AGREED, prices: "new" } })).node).toBe(2);
  });

  it("work has one that stands for it, and any node settles it, once", async () => {
    const nodes = [await lease("one"), await lease("other")];
    for (let round = 0; round < ROUNDS; round++) {
      const ids = nodes.map((_node, i) => FIRST + round * 4096 + i);
      const suspended = await Promise.all(
        nodes.map(async (node, i) => {
          const id = ids[i] ?? 0;
          await node.book({ reservations: [open(id)] });
          const work = {
            attempt_id: id,
            provider: "openai",
            work_id: `batch_${round}`,
            tiers: "batch",
            key_id: "key_1",
          };
          return node.book({ suspended: [work] });
        }),
      );
      const firsts = suspended.flatMap((booked) => ("firsts" in booked ? booked.firsts : []));
      expect(firsts.length).toBe(1);
      const [first = 0] = firsts;
      // The other one's attempt is nothing but itself.
      const second = ids.find((id) => id !== first) ?? 0;
      await nodes[ids.indexOf(second)]?.book({ events: [over(second)] });
      const settled = await Promise.all(nodes.map((node) => node.book({ requires: [first], events: [over(first)] })));
      expect(settled.filter((booked) => "gone" in booked)).toEqual([{ gone: [first] }]);
    }
    expect([(await events()).length, await held()]).toEqual([2 * ROUNDS, []]);
  });

  it("write the same rows at once without waiting for each other in a ring, and every count is there", async () => {
    const next = random(SEED);
    const nodes = await Promise.all(["a", "b", "c", "d"].map((name) => lease(name)));
    const dimensions = { key_id: "k", provider: "p", model: "m", requested_model: "m", team: "", project: "", env: "" };
    const sums = { requests: 1, cost_nano_usd: "9007199254740993", input: 1, cache_read: 0, cache_write: 0, output: 0 };
    const states = { estimated: 0, unknown: 0, unpriced: 0, inferred: 0 };
    await Promise.all(
      nodes.flatMap((node) =>
        Array.from({ length: ROUNDS }, () => {
          const mixed = [0, 1, 2, 3, 4].toSorted(() => next() - 0.5);
          return node.book({
            refused: mixed.map((i) => ({
              minute_ms: i,
              key_id: "k",
              model: "m",
              reason: "r",
              budget_id: "",
              observed: 0,
              count: 1,
            })),
            addresses: mixed.map((i) => ({ key_id: "k", address: `192.0.2.${i}`, first_seen_ms: 1, last_seen_ms: i })),
            servedNames: mixed.map((i) => ({ provider: "p", requested_model: `m${i}`, served_model: "s" })),
            meterHours: mixed,
            hours: mixed.map((i) => ({ hour_ms: i, ...dimensions, ...sums, ...states })),
            days: [{ day: "2026-11-24", ...dimensions, ...sums, ...states }],
          });
        }),
      ),
    );
    const all = String(4 * ROUNDS);
    expect(await rowsOf(url, "SELECT minute_ms, count FROM refused ORDER BY 1", [])).toEqual(
      ["0", "1", "2", "3", "4"].map((minute) => [minute, all]),
    );
    expect(await rowsOf(url, "SELECT hour_ms, requests, cost_nano_usd FROM rollup_hour ORDER BY 1", [])).toEqual(
      ["0", "1", "2", "3", "4"].map((hour) => [hour, all, String(BigInt(all) * 9_007_199_254_740_993n)]),
    );
    expect(await rowsOf(url, "SELECT requests FROM rollup_day", [])).toEqual([[all]]);
  });
});

/** A wire to the server that breaks connections at random moments: before a query has left, after it has, or when its
 *  answer comes. */
async function breakingWire(
  serverPort: number,
  next: () => number,
): Promise<{ readonly port: number; breaks: boolean; readonly broken: number; close(): Promise<void> }> {
  const open = new Set<Socket>();
  const state = { breaks: false, broken: 0 };
  const server = createServer((client) => {
    const upstream = connect(serverPort, "127.0.0.1");
    const end = (): void => {
      client.destroy();
      upstream.destroy();
      open.delete(client);
    };
    open.add(client);
    client.on("error", end).on("close", end);
    upstream.on("error", end).on("close", end);
    const mayBreak = (): boolean => {
      const isNow = state.breaks && next() < 0.15;
      if (isNow) state.broken += 1;
      return isNow;
    };
    client.on("data", (chunk) => {
      if (mayBreak()) return end();
      upstream.write(chunk, () => mayBreak() && end());
    });
    upstream.on("data", (chunk) => (mayBreak() ? end() : client.write(chunk)));
  }).listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  return Object.assign(state, {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise<void>((resolve) => {
        for (const one of open) one.destroy();
        server.close(() => resolve());
      }),
  });
}
