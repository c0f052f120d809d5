// A real PgBouncer of a test, in transaction mode: whoever asks has another connection for each transaction.
import { spawn } from "node:child_process";
import { chownSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ask, freePort, hasPostgres, user } from "./postgres.ts";
import { noteSkipped } from "./skipped.ts";

const PROGRAM = "/usr/sbin/pgbouncer";
const START_MS = 10_000;

export const hasPgBouncer = hasPostgres && existsSync(PROGRAM);
if (!hasPgBouncer) noteSkipped("PgBouncer is not here (Debian's package pgbouncer); its test is skipped");

/** Starts one before a database. Resolves to the URL through it. */
export async function startPgBouncer(url: string): Promise<{ readonly url: string; stop(): Promise<void> }> {
  const folder = mkdtempSync("/tmp/keymeter-pgbouncer-");
  if (user) chownSync(folder, user.uid, user.gid);
  const { port: serverPort, username, pathname } = new URL(url);
  const name = pathname.slice(1);
  const port = await freePort();
  const file = join(folder, "pgbouncer.ini");
  writeFileSync(
    file,
    `[databases]
${name} = host=127.0.0.1 port=${serverPort} dbname=${name} user=${username}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
`,
  );
  const program = spawn(PROGRAM, [file], { ...user, cwd: folder, stdio: ["ignore", "ignore", "pipe"] });
  program.unref();
  (program.stderr as unknown as Socket).unref();
  let said = "";
  program.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const through = `postgres://${username}@127.0.0.1:${port}/${name}`;
  for (const until = Date.now() + START_MS; ;) {
    if (program.exitCode !== null || Date.now() > until) throw new Error(`PgBouncer did not start: ${said}`);
    try {
      await ask(through, "SELECT 1");
      break;
    } catch {
      await sleep(50);
    }
  }
  return {
    url: through,
    async stop() {
      program.ref();
      const ended = new Promise((resolve) => program.once("exit", resolve));
      program.kill("SIGINT");
      await Promise.race([ended, sleep(2_000)]);
      program.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
