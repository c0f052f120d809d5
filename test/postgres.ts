// A real Postgres server of a test: Debian's package, in a folder of its own, on 127.0.0.1.
import { spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "pg";
import { noteSkipped } from "./skipped.ts";

const ROOT = "/usr/lib/postgresql";
const START_MS = 30_000;

/** Debian keeps each version in a folder of its own. */
const programs = existsSync(ROOT)
  ? readdirSync(ROOT)
      .map((version) => join(ROOT, version, "bin"))
      .filter((folder) => existsSync(join(folder, "postgres")) && existsSync(join(folder, "initdb")))
      .toSorted()
      .at(-1)
  : undefined;
/** Postgres does not run as root: then as the user that its package made. */
const user = process.getuid?.() === 0 ? idOf("postgres") : undefined;

export const hasPostgres = programs !== undefined && (process.getuid?.() !== 0 || user !== undefined);
if (!hasPostgres)
  noteSkipped("Postgres is not here (Debian's package postgresql); tests of books in Postgres are skipped");

/** What people's servers sort by, where this one can: nothing may depend on it. */
const ORDER = /\/(?:1[5-9]|[2-9]\d)\/bin$/.test(programs ?? "") ? ["--locale-provider=icu", "--icu-locale=en"] : [];

export type PostgresServer = {
  /** Makes an empty database and returns its URL, as the server's owner. */
  database(name: string): Promise<string>;
  /** Ends it at once, as a crash would; `start` recovers it. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** Ends the server and removes its folder. */
  stop(): Promise<void>;
};

export async function startPostgres(): Promise<PostgresServer> {
  // Where its user may go: folders of the run are for the run's user alone.
  const folder = mkdtempSync("/tmp/keymeter-postgres-");
  const data = join(folder, "data");
  if (user) chownSync(folder, user.uid, user.gid);
  const made = spawnSync(
    join(programs ?? "", "initdb"),
    ["-D", data, "-U", "keymeter", "--auth=trust", "-N", "-E", "UTF8", ...ORDER],
    {
      ...user,
      cwd: folder,
      encoding: "utf8",
      env: { ...process.env, LC_ALL: "C.UTF-8" },
    },
  );
  if (made.status !== 0) throw new Error(`initdb: ${made.stderr}`);
  const port = await freePort();
  const urlOf = (name: string): string => `postgres://keymeter@127.0.0.1:${port}/${name}`;
  const start = async (): Promise<ChildProcess> => {
    const started = spawn(
      join(programs ?? "", "postgres"),
      ["-D", data, "-p", String(port), "-k", folder, "-h", "127.0.0.1", "-c", "max_connections=60"],
      { ...user, cwd: folder, stdio: ["ignore", "ignore", "pipe"] },
    );
    // Nobody's end waits for it.
    started.unref();
    (started.stderr as unknown as Socket).unref();
    let said = "";
    started.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    const until = Date.now() + START_MS;
    for (;;) {
      if (started.exitCode !== null || Date.now() > until) throw new Error(`Postgres did not start: ${said}`);
      try {
        await ask(urlOf("postgres"), "SELECT 1");
        return started;
      } catch {
        await sleep(50);
      }
    }
  };
  let server = await start();
  return {
    async database(name) {
      await ask(urlOf("postgres"), `CREATE DATABASE ${name}`);
      return urlOf(name);
    },
    async kill() {
      await end(server, "SIGQUIT");
    },
    async start() {
      server = await start();
    },
    async stop() {
      await end(server, "SIGINT");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Runs SQL as it stands. */
export async function ask(url: string, text: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(text);
  } finally {
    await client.end();
  }
}

/** The rows that SQL asks for. */
export async function rowsOf(url: string, text: string, values: readonly unknown[]): Promise<unknown[][]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<unknown[]>({ text, values: [...values], rowMode: "array" })).rows;
  } finally {
    await client.end();
  }
}

async function end(server: ChildProcess, signal: "SIGINT" | "SIGQUIT"): Promise<void> {
  if (server.exitCode !== null) return;
  server.ref();
  const ended = new Promise((resolve) => server.once("exit", resolve));
  server.kill(signal);
  await ended;
}

function idOf(name: string): { readonly uid: number; readonly gid: number } | undefined {
  const [uid, gid] = ["-u", "-g"].map((option) => spawnSync("id", [option, name], { encoding: "utf8" }));
  return uid?.status === 0 && gid?.status === 0 ? { uid: Number(uid.stdout), gid: Number(gid.stdout) } : undefined;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
