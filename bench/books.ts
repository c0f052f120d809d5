// The collector's work on a year of 20 million events (--events N for fewer; --proxy: only what its clients notice):
// time and peak memory of each piece, and what the proxy's clients notice of it: npm run bench:books
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { DAYS, makeBooks } from "./large-books.ts";

const isProxyOnly = process.argv.includes("--proxy");
const asked = process.argv.indexOf("--events");
const EVENTS = asked > 0 ? Number(process.argv[asked + 1]) : 20_000_000;
const RATE = 200;
const SECONDS = 8;
const ROUNDS = 3;
const HERE = fileURLToPath(new URL(".", import.meta.url));
const JOBS = [
  "reconcile 31 days",
  "reconcile 31 days again",
  "fold the rest of the year",
  "chargeback of a month",
  "FOCUS of 31 days, CSV",
  "FOCUS of 31 days, Parquet",
  "close 120 days",
];

const folder = mkdtempSync(join(tmpdir(), "keymeter-bench-books-"));
const children = new Set<ChildProcess>();
const start = (
  script: string,
  args: readonly string[] = [],
  environment: { [name: string]: string } = {},
): ChildProcess => {
  const child = fork(join(HERE, script), [...args], {
    env: { PATH: process.env["PATH"], NODE_COMPILE_CACHE: join(folder, "compiled"), ...environment },
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  children.add(child);
  child.once("exit", () => children.delete(child));
  return child;
};
const answerOf = <T>(child: ChildProcess): Promise<T> =>
  new Promise((resolve, reject) => {
    child.once("message", (message) => resolve(message as T));
    child.once("exit", (code) => reject(new Error(`${child.spawnargs.slice(1).join(" ")} ended with ${code}`)));
  });
const runJob = async (job: string): Promise<{ seconds: number; peakMb: number; baseMb: number }> =>
  answerOf(start("books-job.ts", [folder, job, lastDay]));

const lastDay = new Date().toISOString().slice(0, 10);
try {
  const began = performance.now();
  await makeBooks(folder, EVENTS, lastDay, (day) => {
    if (day % 30 === 0) process.stderr.write(`${Math.round((day / DAYS) * 100)} % of ${EVENTS} events\r`);
  });
  process.stderr.write(`books of ${EVENTS} events made in ${Math.round((performance.now() - began) / 1000)} s\n`);

  process.stdout.write("| work | s | peak memory, MB (at start) |\n| --- | --- | --- |\n");
  for (const job of isProxyOnly ? JOBS.slice(0, 1) : JOBS) {
    const { seconds, peakMb, baseMb } = await runJob(job);
    process.stdout.write(`| ${job} | ${seconds.toFixed(1)} | ${peakMb} (${baseMb}) |\n`);
  }

  const upstream = start("upstream.ts");
  const { port: upstreamPort } = await answerOf<{ port: number }>(upstream);
  const proxy = start("full.ts", [], {
    KEYMETER_DATA_DIR: folder,
    KEYMETER_OPENAI_URL: `http://127.0.0.1:${upstreamPort}`,
    OPENAI_API_KEY: "sk-bench",
  });
  const { port, secret } = await answerOf<{ port: number; secret: string }>(proxy);
  const client = start("client.ts");
  const measure = async (): Promise<{ p50: number; p99: number }> => {
    const figures = answerOf<{ p50: number; p99: number }>(client);
    const url = `http://127.0.0.1:${port}/openai/v1/chat/completions`;
    client.send({ kind: "rate", url, key: secret, perSecond: RATE, seconds: SECONDS });
    return figures;
  };
  await measure();
  const [alone, beside]: { p50: number; p99: number }[][] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    alone?.push(await measure());
    const over = new AbortController();
    const reports = (async () => {
      while (!over.signal.aborted)
        await runJob(["chargeback of a month", "FOCUS of 31 days, CSV", "FOCUS of 31 days, Parquet"][round % 3] ?? "");
    })();
    beside?.push(await measure());
    over.abort();
    await reports;
  }
  const median = (list: readonly { p50: number; p99: number }[] | undefined, of: "p50" | "p99"): number =>
    (list ?? []).map((one) => one[of]).toSorted((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? Number.NaN;
  process.stdout.write(
    `\n| proxy at ${RATE} requests a second | p50, ms | p99, ms |\n| --- | --- | --- |\n| alone | ${median(alone, "p50").toFixed(2)} | ${median(alone, "p99").toFixed(2)} |\n| while reports run without a pause | ${median(beside, "p50").toFixed(2)} | ${median(beside, "p99").toFixed(2)} |\n`,
  );
} finally {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
