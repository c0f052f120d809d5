// The operations listener that every program has: /healthz (is it alive), /readyz (may it be used), /metrics.
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import Fastify from "fastify";
import type { FastifyInstance } from "fastify";
import type { Registry } from "prom-client";
import { bearerOf, createTokenCheck } from "./admin-routes.ts";
import type { SharedConfig } from "./config.ts";
import { isLoopback, isOpen } from "./network.ts";
import { keepSecret, ownSecret } from "./secret.ts";
import type { Secret } from "./secret.ts";

export type Readiness = () => string | undefined | Promise<string | undefined>;

/** Who may read the metrics from elsewhere. */
export type MetricsGuard = {
  readonly token: Secret;
  /** Still given without the token, for one release; somebody is told. */
  readonly isOpen: boolean;
  readonly warn: (message: string) => void;
};

/** The guard of a data folder; makes its token on the first start. */
export function metricsGuard(
  { dataDir, innerHost, metricsToken }: Pick<SharedConfig, "dataDir" | "innerHost" | "metricsToken">,
  warn: (message: string) => void,
): MetricsGuard {
  const token = ownSecret(dataDir, "metrics-token", metricsToken);
  // Prometheus and the alerts program read it from the file.
  keepSecret(dataDir, "metrics-token", token);
  return { token, isOpen: isOpen({ innerHost, dataDir }), warn };
}

/** A fastify instance with the three routes; programs add their own. `notReady` returns why not, or undefined. Without
 *  a guard metrics are for everybody. `requestTimeout`: how long a body may take to come, in milliseconds. */
export function createListener(
  registry: Pick<Registry, "contentType" | "metrics">,
  notReady: Readiness,
  guard?: MetricsGuard,
  requestTimeout = 30_000,
): FastifyInstance {
  const app = Fastify({ logger: false, bodyLimit: 1024 * 1024, requestTimeout, forceCloseConnections: true });
  app.get("/healthz", async () => "ok\n");
  app.get("/readyz", async (_request, reply) => {
    const why = await notReady();
    return why === undefined ? "ready\n" : reply.code(503).send(`${why}\n`);
  });
  const isRight = guard && createTokenCheck(guard.token);
  let isWarned = false;
  app.get("/metrics", async (request, reply) => {
    const token = bearerOf(request);
    const isHere = !guard || isLoopback(request.socket.remoteAddress ?? "");
    if (!isHere && guard.isOpen) {
      if (!isWarned && !token)
        guard.warn(`${request.socket.remoteAddress} reads metrics without the token; the next release refuses that`);
      isWarned ||= !token;
    } else if (!isHere && !(await isRight?.(token)))
      return reply
        .code(401)
        .send(
          "metrics ask for a token here: Authorization: Bearer, with what the file metrics-token of the data folder holds\n",
        );
    return reply.header("content-type", registry.contentType).send(await registry.metrics());
  });
  return app;
}

/** Who else may listen on a port: nobody; other processes of the same program, now (`shared`); one that comes later, beside this one
 *  (`succeeded`). */
type Sharing = "alone" | "shared" | "succeeded";

/** Listens, or throws an Error whose message names the port, the setting and the way out. */
export async function listen(
  app: FastifyInstance,
  host: string,
  port: number,
  setting: string,
  sharing: Sharing = "alone",
): Promise<number> {
  try {
    // A shared port takes everybody in: whether it is free has to be asked before.
    if (sharing === "succeeded" && port !== 0) await probe(host, port);
    await app.listen({ host, port, ...(sharing === "alone" ? {} : { reusePort: true }) });
  } catch (error) {
    // Where ports are not shared nobody comes beside.
    if (sharing === "succeeded" && hasCode(error, "ENOTSUP")) return await listen(app, host, port, setting);
    throw explainListen(error, host, port, setting);
  }
  const address = app.server.address();
  return typeof address === "object" && address !== null ? address.port : port;
}

/** What went wrong with a port, for whoever runs Keymeter. */
export function explainListen(error: unknown, host: string, port: number, setting: string): unknown {
  if (hasCode(error, "ENOTSUP"))
    return new Error("this system does not share a port among processes. Set KEYMETER_PROCESSES to 1.", {
      cause: error,
    });
  if (hasCode(error, "EADDRINUSE"))
    return new Error(`port ${port} on ${host} is taken. Stop what uses it, or set ${setting} to another port.`, {
      cause: error,
    });
  return error;
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

/** Rejects as a server does whose port is taken. */
async function probe(host: string, port: number): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port, exclusive: true }, resolve);
  });
  await new Promise((resolve) => server.close(resolve));
}

/** Resolves when nobody listens on a port any more. `onLong` hears once that it takes long. */
export async function whenFree(host: string, port: number, onLong: () => void): Promise<void> {
  const longMs = performance.now() + LONG_MS;
  for (let isTold = false; ;) {
    if (!isTold && performance.now() > longMs) {
      isTold = true;
      onLong();
    }
    try {
      return await probe(host, port);
    } catch (error) {
      if (!hasCode(error, "EADDRINUSE")) throw error;
    }
    await sleep(LOOK_MS);
  }
}

const LOOK_MS = 50;
const LONG_MS = 30_000;
