// An upgrade on one machine: a new proxy listens beside the old one on the same port, keeps who comes, and serves them as soon
// as the old one has let go of the books. The old one takes nobody new from then on, and answers those that it has.
import { existsSync } from "node:fs";
import type { Server } from "node:http";
import { createServer, Server as NetServer } from "node:net";
import type { Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LedgerInUse } from "../ledger/books.ts";
import { lockForWriting, waitForBooks } from "../ledger/open.ts";
import { explainListen } from "../service/listener.ts";
import type { Log } from "../service/log.ts";
import type { ProxyConfig } from "./config.ts";

/** A lock in the data folder, held while somebody waits there. */
const MARK = "taking-over";
/** Who has asked on a connection lately asks again soon, and is told then to come by a new one. */
const LAST_REQUESTS_MS = 3_000;
const LOOK_MS = 20;
/** Longer, and somebody may have come meanwhile. */
const QUIET_MS = 0.1;
const QUIET_WITHIN_MS = 2_000;
const MARK_WITHIN_MS = 2_000;
/** More than any proxy serves at once; the system keeps the others. */
const MOST_WAITING = 10_000;

export type Beside = {
  readonly port: number;
  /** The one that listens. */
  readonly server: NetServer;
  /** The other one has ended: nobody waits any more. */
  release(): void;
  /** Hands everybody who waits to a server, and from then on everybody who comes. */
  handOver(server: Server): void;
  close(): void;
};

/** Listens beside whoever listens already, and resolves when the books are free. Everybody who comes meanwhile waits.
 *  Rejects with an Error that names the port where others do not share it. */
export async function waitBeside(config: ProxyConfig, log: Log): Promise<Beside> {
  const { host, proxyPort: port, dataDir } = config;
  const waiting = new Set<Socket>();
  // Nothing is read: what a client sends stays with the system.
  const server = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
    waiting.add(socket);
    socket.once("close", () => waiting.delete(socket));
    socket.on("error", ignore);
  });
  server.maxConnections = MOST_WAITING;
  const mark = await takeMark(dataDir);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => {
      mark.release();
      reject(explainListen(error, host, port, "KEYMETER_PORT"));
    });
    server.listen({ host, port, reusePort: true }, resolve);
  });
  let isWaiting = true;
  const release = (): void => {
    process.off("disconnect", abandoned);
    if (isWaiting) mark.release();
    isWaiting = false;
  };
  const close = (): void => {
    release();
    server.close();
    for (const socket of waiting) socket.destroy();
  };
  // A supervisor that is gone would leave this one waiting for ever.
  const abandoned = (): void => process.exit(1);
  process.once("disconnect", abandoned);
  log.info({ port, dataDir }, "listening beside the proxy that has the books; stop that one, and this one goes on");
  try {
    if (!config.ledgerUrl) await waitForBooks(dataDir);
  } catch (error) {
    close();
    throw error;
  }
  return {
    port,
    server,
    close,
    release,
    handOver(to) {
      // Timeouts of headers and idle connections begin with this word; it never listens itself.
      to.emit("listening");
      server.maxConnections = Infinity;
      const take = (socket: Socket): void => {
        to.emit("connection", socket);
        socket.resume();
      };
      for (const socket of waiting) {
        socket.removeAllListeners("error");
        socket.removeAllListeners("close");
        take(socket);
      }
      waiting.clear();
      // It stays the one that listens: what a port has taken in is lost with it.
      server.removeAllListeners("connection");
      server.on("connection", take);
    },
  };
}

function ignore(): void {
  // It is over; who it was comes again.
}

/** Who asks whether somebody waits has the lock for a moment: that is no other one yet. */
async function takeMark(dataDir: string): Promise<{ release(): void }> {
  for (const deadline = performance.now() + MARK_WITHIN_MS; ;) {
    try {
      return lockForWriting(join(dataDir, MARK));
    } catch (error) {
      if (!(error instanceof LedgerInUse)) throw error;
    }
    if (performance.now() > deadline) throw new LedgerInUse(`another Keymeter waits already to take over ${dataDir}`);
    await sleep(LOOK_MS);
  }
}

/** Whether another proxy waits for these books. */
export function isAwaited(dataDir: string): boolean {
  return isHeld(join(dataDir, MARK));
}

/** Whether a Keymeter has the books of this folder: else there is nobody to take over from. */
export function isInUse(dataDir: string): boolean {
  return isHeld(join(dataDir, "usage.db"));
}

function isHeld(path: string): boolean {
  if (!existsSync(`${path}.lock`)) return false;
  try {
    lockForWriting(path).release();
    return false;
  } catch (error) {
    if (error instanceof LedgerInUse) return true;
    throw error;
  }
}

/** Takes no new connection (`listening` takes them in), and ends each that there is after its next answer: nobody's request meets a closed door. */
export async function leaveTo(server: Server, listening: NetServer): Promise<void> {
  server.prependListener("request", (_request: unknown, response: { shouldKeepAlive: boolean }) => {
    response.shouldKeepAlive = false;
  });
  await closeQuietly(listening);
  const deadline = performance.now() + LAST_REQUESTS_MS;
  while (performance.now() < deadline && (await countConnections(listening)) > 0) await sleep(LOOK_MS);
}

/** Closes a listening socket when nobody is in front of it: the system drops whoever was not taken in yet. A turn of the event loop
 *  begins with taking in; one that was short after that has left nobody. */
async function closeQuietly(server: NetServer): Promise<void> {
  const deadline = performance.now() + QUIET_WITHIN_MS;
  for (let before = performance.now(); ;) {
    await new Promise((resolve) => setImmediate(resolve));
    const now = performance.now();
    // As Node's own http server closes, it would end idle connections at once, on which a request may be on its way.
    if (now - before < QUIET_MS || now > deadline) return void NetServer.prototype.close.call(server);
    before = now;
  }
}

function countConnections(server: NetServer): Promise<number> {
  return new Promise((resolve) => void server.getConnections((error, count) => resolve(error ? 0 : count)));
}
