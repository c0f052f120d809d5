// The operations listener that every program has: /healthz (is it alive), /readyz (may it be used), /metrics.
import Fastify from "fastify";
import type { FastifyInstance } from "fastify";
import type { Registry } from "prom-client";

export type Readiness = () => string | undefined;

/** A fastify instance with the three routes; programs add their own. `notReady` returns why not, or undefined. */
export function createListener(
  registry: Pick<Registry, "contentType" | "metrics">,
  notReady: Readiness,
): FastifyInstance {
  const app = Fastify({ logger: false, bodyLimit: 1024 * 1024, requestTimeout: 30_000, forceCloseConnections: true });
  app.get("/healthz", async () => "ok\n");
  app.get("/readyz", async (_request, reply) => {
    const why = notReady();
    return why === undefined ? "ready\n" : reply.code(503).send(`${why}\n`);
  });
  app.get("/metrics", async (_request, reply) =>
    reply.header("content-type", registry.contentType).send(await registry.metrics()),
  );
  return app;
}

/** Listens, or throws an Error whose message names the port, the setting and the way out. */
export async function listen(app: FastifyInstance, host: string, port: number, setting: string): Promise<number> {
  try {
    await app.listen({ host, port });
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EADDRINUSE")
      throw new Error(`port ${port} on ${host} is taken. Stop what uses it, or set ${setting} to another port.`, {
        cause: error,
      });
    throw error;
  }
  const address = app.server.address();
  return typeof address === "object" && address !== null ? address.port : port;
}
