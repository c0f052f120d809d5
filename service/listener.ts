// The operations listener that every program has: /healthz (is it alive), /readyz (may it be used), /metrics.
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

/** Listens, or throws an Error whose message names the port, the setting and the way out. `isShared`: with other processes
 *  of the same program. */
export async function listen(
  app: FastifyInstance,
  host: string,
  port: number,
  setting: string,
  isShared = false,
): Promise<number> {
  try {
    await app.listen({ host, port, ...(isShared ? { reusePort: true } : {}) });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOTSUP")
      throw new Error("this system does not share a port among processes. Set KEYMETER_PROCESSES to 1.", {
        cause: error,
      });
    if (error instanceof Error && "code" in error && error.code === "EADDRINUSE")
      throw new Error(`port ${port} on ${host} is taken. Stop what uses it, or set ${setting} to another port.`, {
        cause: error,
      });
    throw error;
  }
  const address = app.server.address();
  return typeof address === "object" && address !== null ? address.port : port;
}
