// npm run bench:fleet: what books in Postgres cost. CPU an attempt, the server's backends included, of one proxy and of
// two on the same books, beside one with books in SQLite and the same code unmetered; requests a second and p50 beside. All
// in alternated rounds of one run; ratios are what counts.
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { migratePostgres } from "../ledger/postgres.ts";
import { hasPostgres, rowsOf, startPostgres } from "../test/postgres.ts";
import { cleanUp, cpuOf, familyOf, folder, LOAD_CORE, start, startClient } from "./processes.ts";
import { startProxy } from "./targets.ts";
import type { Target } from "./targets.ts";

const ROUNDS = 5;
const REQUESTS = 4_000;
const WARM_REQUESTS = 6_000;
const CONNECTIONS = 64;
const REST_MS = 500;

/** What is measured together: proxies, and the processes that work for them. */
type Group = {
  readonly name: string;
  readonly targets: readonly Target[];
  readonly others: () => readonly number[];
  /** Of the books: how many batches were booked, and how long the log of changes is. */
  readonly booked: () => Promise<{ readonly batches: number; readonly walBytes: number }>;
};
const NONE = { others: () => [], booked: async () => ({ batches: 0, walBytes: 0 }) };
type Figures = {
  readonly cpuUs: number;
  /** Of that the server's. */
  readonly serverUs: number;
  readonly attemptsABatch: number;
  /** What the server's log of changes grows by. */
  readonly walBytes: number;
  readonly perSecond: number;
  readonly p50Ms: number;
};

try {
  if (!hasPostgres) throw new Error("Postgres is not installed (Debian: apt-get install postgresql)");
  const server = await startPostgres();
  try {
    process.stdout.write(`${JSON.stringify(await measure(server), undefined, 2)}\n`);
  } finally {
    await server.stop();
  }
} finally {
  cleanUp();
}

async function measure(server: Awaited<ReturnType<typeof startPostgres>>): Promise<object> {
  const upstream = await start("upstream.ts", {}, LOAD_CORE);
  const onPostgres = async (name: string, count: number): Promise<Group> => {
    const url = await server.database(name);
    await migratePostgres(url);
    const targets: Target[] = [];
    for (let i = 0; i < count; i++)
      targets.push(
        await startProxy("full.ts", upstream, `${name}-${i}`, {
          KEYMETER_LEDGER_URL: url,
          KEYMETER_DATA_DIR: join(folder, `fleet-${name}`),
          ...(targets[0] ? { SECRET: targets[0].key } : {}),
        }),
      );
    const text = "SELECT SUM(last_batch)::int, (pg_current_wal_lsn() - '0/0')::bigint FROM usage.nodes";
    const booked = async () => {
      const [[batches, walBytes] = []] = await rowsOf(url, text, []);
      return { batches: Number(batches), walBytes: Number(walBytes) };
    };
    return { name, targets, others: () => familyOf(server.pid()), booked };
  };
  const groups: Group[] = [
    { name: "unmetered", targets: [await startProxy("unmetered.ts", upstream, "unmetered")], ...NONE },
    { name: "sqlite", targets: [await startProxy("full.ts", upstream, "sqlite")], ...NONE },
    await onPostgres("one", 1),
    await onPostgres("two", 2),
  ];
  const found = new Map<string, Figures[]>(groups.map(({ name }) => [name, []]));
  for (const group of groups) await load(group, WARM_REQUESTS);
  for (let round = 0; round < ROUNDS; round++)
    for (const group of round % 2 === 0 ? groups : groups.toReversed()) {
      await sleep(REST_MS);
      // What it let shrink while it was idle is warm again.
      await load(group, REQUESTS);
      found.get(group.name)?.push(await load(group, REQUESTS));
    }
  const median = (name: string, of: (figures: Figures) => number): number =>
    (found.get(name) ?? []).map(of).toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? Number.NaN;
  const rows = Object.fromEntries(
    groups.map(({ name }) => [
      name,
      {
        cpuUs: Math.round(median(name, ({ cpuUs }) => cpuUs)),
        serverUs: Math.round(median(name, ({ serverUs }) => serverUs)),
        attemptsABatch: Number(median(name, ({ attemptsABatch }) => attemptsABatch).toFixed(1)),
        walBytes: Math.round(median(name, ({ walBytes }) => walBytes)),
        perSecond: Math.round(median(name, ({ perSecond }) => perSecond)),
        p50Ms: Number(median(name, ({ p50Ms }) => p50Ms).toFixed(2)),
      },
    ]),
  );
  /** Of each round by itself: the machine is not the same in all of them. */
  const ratio = (one: string, other: string): number => {
    const all = (found.get(one) ?? []).map(
      ({ cpuUs }, round) => cpuUs / (found.get(other)?.[round]?.cpuUs ?? Number.NaN),
    );
    return Number((all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)] ?? Number.NaN).toFixed(3));
  };
  return {
    connections: CONNECTIONS,
    rows,
    cpu: {
      sqliteToUnmetered: ratio("sqlite", "unmetered"),
      oneToUnmetered: ratio("one", "unmetered"),
      twoToOne: ratio("two", "one"),
    },
  };
}

async function load({ targets, others, booked }: Group, requests: number): Promise<Figures> {
  const client = startClient();
  const pids = targets.flatMap(({ pid }) => pid ?? []);
  const before = [cpuOf(pids), cpuOf(others()), await booked()] as const;
  const done = new Promise<{ perSecond: number; p50: number; error?: string }>((resolve) =>
    client.once("message", (message) => resolve(message as { perSecond: number; p50: number })),
  );
  client.send({
    kind: "closed",
    urls: targets.map(({ url }) => url),
    key: targets[0]?.key,
    connections: CONNECTIONS,
    requests,
  });
  const { perSecond, p50, error } = await done;
  const [proxyMs, serverMs] = [cpuOf(pids) - before[0], cpuOf(others()) - before[1]];
  const { batches, walBytes } = await booked();
  client.kill("SIGKILL");
  if (error !== undefined) throw new Error(error);
  return {
    cpuUs: ((proxyMs + serverMs) * 1_000) / requests,
    serverUs: (serverMs * 1_000) / requests,
    attemptsABatch: requests / (batches - before[2].batches),
    walBytes: (walBytes - before[2].walBytes) / requests,
    perSecond,
    p50Ms: p50,
  };
}
