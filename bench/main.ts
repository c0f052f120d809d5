// npm run bench [-- --quick --json]: the full product against the same code unmetered, nginx, envoy and Portkey, in
// alternated runs. Quotes ratios of one run; single times mean little on a shared machine. A tool that is
// not installed gives null and the reason. `-- --guards [--against CHECKOUT]` measures instead what policy, limits and
// nested budgets cost, against the same product without them, and against that of another checkout.
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { cleanUp, folder, has, hasTaskset, LOAD_CORE, output, pinned, start, startClient } from "./processes.ts";
import { startEnvoy, startNginx, startPortkey, startProxy } from "./targets.ts";
import type { Missing, Target } from "./targets.ts";

const isQuick = process.argv.includes("--quick");
const isJson = process.argv.includes("--json");
const SECONDS = isQuick ? 2 : 5;
const ROUNDS = isQuick ? 3 : 5;
const GUARD_ROUNDS = 9;
/** Each target is warmed so long before it is measured: a cold one measures the compiler. */
const WARM_SECONDS = isQuick ? 3 : 10;
const SLOW_UPSTREAM_MS = 50;
const REST_MS = 300;

try {
  if (process.argv.includes("--guards"))
    process.stdout.write(`${JSON.stringify(await measureGuards(), undefined, 2)}\n`);
  else {
    const result = await measure();
    process.stdout.write(isJson ? `${JSON.stringify(result)}\n` : print(result));
  }
} finally {
  cleanUp();
}

type Row = { readonly [target: string]: number | null };
type Result = {
  machine: string;
  missing: Missing[];
  jsonRequestsPerSecond: { [connections: string]: Row };
  streamsPerSecond: { [connections: string]: Row };
  ratios: { [name: string]: number | null };
  /** By the rate, and how long the upstream takes. */
  addedP50Ms: { [at: string]: Row };
  chunkDelayP50Ms: Row;
  rssMb: { [streams: string]: number | null };
};

async function measure(): Promise<Result> {
  const missing: Missing[] = [];
  const wrk = has("wrk");
  if (!wrk)
    missing.push({
      name: "wrk",
      reason: "not installed (Debian: apt-get install wrk); requests per second are not measured",
    });
  const upstream = await start("upstream.ts", {}, LOAD_CORE);
  const upstreamUrl = `http://127.0.0.1:${upstream.port}`;
  const targets: Target[] = [
    { name: "direct", url: `${upstreamUrl}/v1/chat/completions`, key: "k", headers: [], pid: undefined },
  ];
  const nginx = await startNginx(upstream.port, missing);
  if (nginx) targets.push(nginx);
  const envoy = isQuick ? undefined : await startEnvoy(upstream.port, missing);
  if (envoy) targets.push(envoy);
  const unmetered = await startProxy("unmetered.ts", upstream, "unmetered");
  const full = await startProxy("full.ts", upstream, "full");
  targets.push(unmetered, full);
  const portkey = isQuick ? undefined : await startPortkey(upstreamUrl, missing);
  if (portkey) targets.push(portkey);

  const json: Result["jsonRequestsPerSecond"] = {};
  const streams: Result["streamsPerSecond"] = {};
  if (wrk) {
    for (const connections of isQuick ? [64] : [1, 16, 64])
      json[connections] = await rates(targets, connections, false);
    if (!isQuick) for (const connections of [1, 16, 64]) streams[connections] = await rates(targets, connections, true);
  }
  const at64 = json["64"] ?? {};
  const ratio = (a: number | null | undefined, b: number | null | undefined): number | null =>
    a === null || a === undefined || b === null || b === undefined || b === 0 ? null : round(a / b, 3);
  const ratios: Result["ratios"] = {
    fullToNginx64: ratio(at64["full"], at64["nginx"]),
    fullToUnmetered64: ratio(at64["full"], at64["unmetered"]),
    fullToPortkey64: ratio(at64["full"], at64["portkey"]),
    fullToDirect64: ratio(at64["full"], at64["direct"]),
  };
  for (const [connections, row] of Object.entries(streams))
    ratios[`streamsFullToUnmetered${connections}`] = ratio(row["full"], row["unmetered"]);

  const addedP50Ms: Result["addedP50Ms"] = {};
  const timed = targets.filter(({ name }) => name !== "portkey");
  for (const perSecond of isQuick ? [500] : [100, 500])
    addedP50Ms[`${perSecond}/s`] = await latencies(timed, perSecond);
  if (!isQuick) {
    const slow = await start("upstream.ts", { DELAY_MS: String(SLOW_UPSTREAM_MS) }, LOAD_CORE);
    const url = `http://127.0.0.1:${slow.port}/v1/chat/completions`;
    const slowOnes: Target[] = [
      { name: "direct", url, key: "k", headers: [], pid: undefined },
      await startProxy("unmetered.ts", slow, "unmetered"),
      await startProxy("full.ts", slow, "full"),
    ];
    for (const perSecond of [100, 500])
      addedP50Ms[`${perSecond}/s, an upstream of ${SLOW_UPSTREAM_MS} ms`] = await latencies(slowOnes, perSecond);
  }
  const chunkDelayP50Ms = isQuick ? {} : await chunkDelays();
  const rssMb: Result["rssMb"] = {};
  if (!isQuick) for (const count of [1_000, 5_000]) rssMb[count] = await rssWithStreams(count);
  return {
    machine: machine(),
    missing,
    jsonRequestsPerSecond: json,
    streamsPerSecond: streams,
    ratios,
    addedP50Ms,
    chunkDelayP50Ms,
    rssMb,
  };
}

/** Requests per second at 64 connections: with all guards on the key, with one budget, and another checkout with one
 *  budget. */
async function measureGuards(): Promise<object> {
  if (!has("wrk")) throw new Error("wrk is not installed (Debian: apt-get install wrk)");
  const upstream = await start("upstream.ts", {}, LOAD_CORE);
  const at = process.argv.indexOf("--against");
  const other = at < 0 ? undefined : process.argv[at + 1];
  const before =
    other === undefined ? undefined : await startProxy(resolve(other, "bench/full.ts"), upstream, "before");
  const targets = [
    ...(before ? [before] : []),
    await startProxy("full.ts", upstream, "plain"),
    await startProxy("full.ts", upstream, "guarded", { GUARDED: "1" }),
  ];
  const row = await rates(targets, 64, false, GUARD_ROUNDS);
  const ratios = Object.fromEntries(
    targets.map(({ name }) => [name, round((row[name] ?? 0) / (row[targets[0]?.name ?? ""] ?? 1), 3)]),
  );
  return { machine: machine(), requestsPerSecond: row, ratios };
}

/** Median requests per second of alternated rounds. */
async function rates(targets: readonly Target[], connections: number, stream: boolean, rounds = ROUNDS): Promise<Row> {
  const seen = new Map<string, number[]>(targets.map(({ name }) => [name, []]));
  for (const target of targets) await wrk(target, connections, stream, WARM_SECONDS);
  for (let round = 0; round < rounds; round++) {
    for (const target of targets)
      seen
        .get(target.name)
        ?.push(await withBooks(target, connections, () => wrk(target, connections, stream, SECONDS)));
  }
  return Object.fromEntries([...seen].map(([name, values]) => [name, Math.round(median(values))]));
}

/** Measures, and holds what was booked meanwhile against what the upstream answered. Beyond its answers only those stand
 *  in the books whose client was gone before they were sent: one a connection, when the load is broken off. */
async function withBooks(target: Target, connections: number, measureOnce: () => Promise<number>): Promise<number> {
  const { booked } = target;
  if (!booked) return measureOnce();
  const before = await countsAtRest(booked);
  const measured = await measureOnce();
  const after = await countsAtRest(booked);
  const made = after.made - before.made;
  const answered = after.answered - before.answered;
  if (made >= answered && made <= answered + connections) return measured;
  throw new Error(`${target.name}: ${answered} requests were answered, and ${made} attempts are in the books`);
}

type Counts = { readonly made: number; readonly answered: number };

/** What a load that was broken off has left is sent and booked for a while. */
async function countsAtRest({ books, upstream }: NonNullable<Target["booked"]>): Promise<Counts> {
  const count = async (): Promise<Counts> => ({ made: await countOf(books), answered: await countOf(upstream) });
  let last = await count();
  for (;;) {
    await sleep(REST_MS);
    const now = await count();
    if (now.made === last.made && now.answered === last.answered) return now;
    last = now;
  }
}

async function countOf(child: ChildProcess): Promise<number> {
  const told = once(child, "message");
  child.send("count");
  const [{ count }] = (await told) as [{ count: number }];
  return count;
}

async function wrk(target: Target, connections: number, stream: boolean, seconds: number): Promise<number> {
  const script = join(folder, `${target.name}-${stream}.lua`);
  const body = JSON.stringify({
    model: "gpt-4o-mini",
    max_tokens: 200,
    messages: [{ role: "user", content: "some words of a question ".repeat(72) }],
    ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
  });
  const headers = [
    ["content-type", "application/json"],
    ["authorization", `Bearer ${target.key}`],
    ...target.headers.map((header) => header.split(": ")),
  ];
  writeFileSync(
    script,
    `wrk.method = "POST"\nwrk.body = [==[${body}]==]\n${headers.map(([name, value]) => `wrk.headers["${name}"] = "${value}"`).join("\n")}\n`,
  );
  const text = await output(
    pinned(LOAD_CORE, "wrk", ["-t1", `-c${connections}`, `-d${seconds}s`, "-s", script, target.url]),
  );
  const errors =
    /Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ??
    /Socket errors: .*(?:read|write|timeout) [1-9]/.exec(text)?.[0];
  if (errors !== undefined) throw new Error(`${target.name}: errors under load: ${text}`);
  return Number(/Requests\/sec: +([\d.]+)/.exec(text)?.[1] ?? LOAD_CORE);
}

/** p50 at a fixed rate, less the direct one's: medians of alternated rounds. */
async function latencies(targets: readonly Target[], perSecond: number): Promise<Row> {
  const client = startClient();
  const seen = new Map<string, number[]>(targets.map(({ name }) => [name, []]));
  for (let round = 0; round < (isQuick ? 2 : ROUNDS) + 1; round++) {
    for (const target of targets) {
      const figures = (await askClient(client, {
        kind: "rate",
        url: target.url,
        key: target.key,
        perSecond,
        seconds: isQuick ? 1 : 4,
      })) as { p50: number };
      if (round > 0) seen.get(target.name)?.push(figures.p50);
    }
  }
  client.kill();
  const direct = median(seen.get("direct") ?? []);
  return Object.fromEntries([...seen].map(([name, values]) => [name, round(median(values) - direct, 3)]));
}

/** Delay of a paced chunk from the upstream's clock to the client's, less the direct one's. */
async function chunkDelays(): Promise<Row> {
  const upstream = await start("upstream.ts", { PACE_MS: "20" }, LOAD_CORE);
  const url = `http://127.0.0.1:${upstream.port}`;
  const targets: Target[] = [
    { name: "direct", url: `${url}/v1/chat/completions`, key: "k", headers: [], pid: undefined },
    await startProxy("unmetered.ts", upstream, "unmetered"),
    await startProxy("full.ts", upstream, "full"),
  ];
  const seen = new Map<string, number[]>(targets.map(({ name }) => [name, []]));
  const client = startClient();
  for (let round = 0; round < 4; round++) {
    for (const target of targets) {
      const figures = (await askClient(client, { kind: "chunks", url: target.url, key: target.key, streams: 50 })) as {
        p50: number;
      };
      if (round > 0) seen.get(target.name)?.push(figures.p50);
    }
  }
  client.kill();
  const direct = median(seen.get("direct") ?? []);
  return Object.fromEntries([...seen].map(([name, values]) => [name, round(median(values) - direct, 3)]));
}

async function rssWithStreams(count: number): Promise<number | null> {
  const upstream = await start("upstream.ts", { PACE_MS: "1000" }, LOAD_CORE);
  const full = await startProxy("full.ts", upstream, `full-${count}`);
  const client = startClient();
  const { open } = (await askClient(client, {
    kind: "open",
    url: full.url,
    key: full.key,
    streams: count,
    seconds: 60,
  })) as { open: number };
  await sleep(8_000);
  const rss = open === count ? residentMb(full.pid) : null;
  client.kill("SIGKILL");
  await sleep(1_000);
  return rss;
}

function askClient(client: ChildProcess, job: object): Promise<object> {
  return new Promise((resolve, reject) => {
    client.once("message", (figures) =>
      "error" in (figures as object)
        ? reject(new Error((figures as { error: string }).error))
        : resolve(figures as object),
    );
    client.send(job);
  });
}

function residentMb(pid: number | undefined): number | null {
  const kilobytes =
    pid === undefined ? undefined : /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return kilobytes === undefined ? null : Math.round(Number(kilobytes) / 1024);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

function machine(): string {
  return `${availableParallelism()} cores (${cpus()[0]?.model ?? "unknown"}), ${Math.round(totalmem() / 2 ** 30)} GiB, Node ${process.versions.node}${hasTaskset ? ", load and upstream on core 0, proxies on core 1" : ""}`;
}

function print(result: Result): string {
  const rows = (title: string, table: { [connections: string]: Row }): string => {
    const names = [...new Set(Object.values(table).flatMap((row) => Object.keys(row)))];
    if (names.length === 0) return "";
    return `\n${title}\n| connections | ${names.join(" | ")} | full / unmetered |\n|---|${names.map(() => "---|").join("")}---|\n${Object.entries(
      table,
    )
      .map(
        ([connections, row]) =>
          `| ${connections} | ${names.map((name) => row[name] ?? "null").join(" | ")} | ${row["full"] && row["unmetered"] ? (row["full"] / row["unmetered"]).toFixed(2) : "null"} |`,
      )
      .join("\n")}\n`;
  };
  return `${result.machine}
${rows("Requests per second, 2 KB JSON", result.jsonRequestsPerSecond)}${rows("Streams per second, SSE of 100 chunks", result.streamsPerSecond)}
Ratios: ${JSON.stringify(result.ratios)}
Added p50 at a fixed rate, ms: ${JSON.stringify(result.addedP50Ms)}
Added p50 of a paced chunk, ms: ${JSON.stringify(result.chunkDelayP50Ms)}
RSS with open streams, MB: ${JSON.stringify(result.rssMb)}
Missing: ${result.missing.map(({ name, reason }) => `${name}: ${reason}`).join("; ") || "nothing"}
`;
}
