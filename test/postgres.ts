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
export const user = process.getuid?.() === 0 ? idOf("postgres") : undefined;

export const hasPostgres = programs !== undefined && (process.getuid?.() !== 0 || user !== undefined);
if (!hasPostgres)
  noteSkipped("Postgres is not here (Debian's package postgresql); tests of books in Postgres are skipped");

/** What people's servers sort by, where this one can: nothing may depend on it. */
const ORDER = /\/(?:1[5-9]|[2-9]\d)\/bin$/.test(programs ?? "") ? ["--locale-provider=icu", "--icu-locale=en"] : [];

export type PostgresServer = {
  readonly port: number;
  /** Of the process that all others of the server come from. */
  pid(): number;
  /** Of its certificate, where it speaks TLS. */
  readonly certificate: string;
  /** Makes an empty database and returns its URL, as the server's owner. */
  database(name: string): Promise<string>;
  /** Ends it at once, as a crash would; `start` recovers it. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** An asynchronous standby, which follows it. */
  standby(): Promise<Standby>;
  /** Ends the server and removes its folder. */
  stop(): Promise<void>;
};

export type Standby = {
  /** Of a database there. */
  url(name: string): string;
  /** It follows no more. */
  cutOff(): Promise<void>;
  /** It is the primary from now on, at the port where the old one was, which has ended. */
  takeOver(): Promise<void>;
};

/** `settings`: of postgresql.conf. `tls`: with a certificate for 127.0.0.1. */
export async function startPostgres({
  settings = {},
  tls = false,
}: { readonly settings?: { readonly [name: string]: string }; readonly tls?: boolean } = {}): Promise<PostgresServer> {
  // Where its user may go: folders of the run are for the run's user alone.
  const folder = mkdtempSync("/tmp/keymeter-postgres-");
  let data = join(folder, "data");
  if (user) chownSync(folder, user.uid, user.gid);
  run("initdb", ["-D", data, "-U", "keymeter", "--auth=trust", "-N", "-E", "UTF8", ...ORDER], folder);
  const port = await freePort();
  const certificate = join(folder, "server.crt");
  if (tls) makeCertificate(folder);
  const tlsSettings = tls ? { ssl: "on", ssl_cert_file: certificate, ssl_key_file: join(folder, "server.key") } : {};
  const urlOf = (name: string, at = port): string => `postgres://keymeter@127.0.0.1:${at}/${name}`;
  const start = async (from: string, at: number): Promise<ChildProcess> => {
    const given = Object.entries({ max_connections: "60", ...tlsSettings, ...settings });
    const started = spawn(
      join(programs ?? "", "postgres"),
      [
        "-D",
        from,
        "-p",
        String(at),
        "-k",
        folder,
        "-h",
        "127.0.0.1",
        ...given.flatMap(([name, value]) => ["-c", `${name}=${value}`]),
      ],
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
        await ask(urlOf("postgres", at), "SELECT 1");
        return started;
      } catch {
        await sleep(50);
      }
    }
  };
  const others = new Set<ChildProcess>();
  let server = await start(data, port);
  return {
    port,
    pid: () => server.pid ?? 0,
    certificate,
    async database(name) {
      await ask(urlOf("postgres"), `CREATE DATABASE ${name}`);
      return urlOf(name);
    },
    async kill() {
      await end(server, "SIGQUIT");
    },
    async start() {
      server = await start(data, port);
    },
    async standby() {
      const copy = join(folder, "standby");
      run(
        "pg_basebackup",
        ["-h", "127.0.0.1", "-p", String(port), "-U", "keymeter", "-D", copy, "-R", "-c", "fast"],
        folder,
      );
      const at = await freePort();
      const follower = await start(copy, at);
      others.add(follower);
      return {
        url: (name) => urlOf(name, at),
        cutOff: () => end(follower, "SIGINT"),
        async takeOver() {
          data = copy;
          server = await start(copy, port);
          await ask(urlOf("postgres"), "SELECT pg_promote()");
        },
      };
    },
    async stop() {
      for (const other of [...others, server]) await end(other, "SIGINT");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function run(program: string, args: readonly string[], folder: string): void {
  const made = spawnSync(program.startsWith("/") ? program : join(programs ?? "", program), args, {
    ...user,
    cwd: folder,
    encoding: "utf8",
    env: { ...process.env, LC_ALL: "C.UTF-8" },
  });
  if (made.status !== 0) throw new Error(`${program}: ${made.stderr}`);
}

function makeCertificate(folder: string): void {
  const names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"];
  const files = ["-keyout", join(folder, "server.key"), "-out", join(folder, "server.crt")];
  run("/usr/bin/openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", ...names, ...files], folder);
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

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
