// Several processes of a proxy on one port of one machine, so that it uses more than one core: each is a node of the books
// in Postgres. This one starts them, starts again one that died, and speaks for all of them on the operations port. It
// serves no client itself: the system spreads connections over those that listen.
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { AggregatorRegistry, Gauge, Registry } from "prom-client";
import type { MetricObjectWithValues, MetricValue } from "prom-client";
import { request } from "undici";
import { createListener, listen, metricsGuard } from "../service/listener.ts";
import type { Log } from "../service/log.ts";
import { innerHostOf } from "../service/network.ts";
import { tidyUp } from "../service/tidy.ts";
import type { ProxyConfig } from "./config.ts";

type One = {
  /** From 1 on; the label `process` of its metrics. */
  readonly number: number;
  readonly child: ChildProcess;
  readonly port: number;
  readonly opsPort: number;
};
type Samples = MetricObjectWithValues<MetricValue<string>>[];
type FromOne =
  | { readonly type: "ready"; readonly port: number; readonly opsPort: number }
  | { readonly type: "metrics"; readonly id: number; readonly metrics: Samples };

const ENTRY = fileURLToPath(new URL("process.ts", import.meta.url));
const SECOND = 1_000;
const AGAIN_MS = 1_000;
const MOST_AGAIN_MS = 30_000;
/** One that was up for so long died of something new. */
const STEADY_MS = 60_000;
/** What a process has for its answer. */
const ANSWER_MS = 3_000;
/** What it has to end, beyond the time for open requests. */
const STOP_MS = 15_000;

/** Starts as many as the settings say, and resolves when all of them serve. Rejects when one does not start; what it had to
 *  say stands on stderr. */
export async function startProcesses(
  config: ProxyConfig,
  log: Log,
): Promise<{ readonly log: Log; stop(): Promise<void> }> {
  const running = new Map<number, One>();
  const life = { isEnding: false };
  const stop = async (): Promise<void> => {
    life.isEnding = true;
    await Promise.all([...running.values()].map(({ child }) => end(child, config.drainSeconds * SECOND + STOP_MS)));
  };
  const keep = async (number: number, port: number): Promise<One> => {
    const one = await startProcess(number, port);
    running.set(number, one);
    const sinceMs = performance.now();
    one.child.once("exit", (code, signal) => {
      running.delete(number);
      if (life.isEnding) return;
      log.error({ process: number, code, signal }, "a process of the proxy ended; it is started again");
      void again(number, one.port, performance.now() - sinceMs > STEADY_MS ? AGAIN_MS : 2 * AGAIN_MS);
    });
    return one;
  };
  const again = async (number: number, port: number, waitMs: number): Promise<void> => {
    await sleep(waitMs, undefined, { ref: false });
    if (life.isEnding) return;
    await keep(number, port).catch((error: unknown) => {
      log.error({ err: error, process: number }, "a process of the proxy does not start; it is tried again");
      void again(number, port, Math.min(2 * waitMs, MOST_AGAIN_MS));
    });
  };
  try {
    // The first makes what a first start makes, and finds the port where none is given.
    const { port } = await keep(1, config.proxyPort);
    await Promise.all(Array.from({ length: config.processes - 1 }, (_, i) => keep(i + 2, port)));
    const ops = createOperations(config, running, log);
    const opsPort = await listen(ops, innerHostOf(config), config.opsPort, "KEYMETER_OPS_PORT");
    log.info({ port, opsPort, processes: config.processes }, "all processes of the proxy are ready");
    process.send?.({ type: "ready", port, opsPort });
    tidyUp();
    return {
      log,
      async stop() {
        await stop();
        await ops.close();
      },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Rejects when it ends before it serves. */
async function startProcess(number: number, port: number): Promise<One> {
  const child = fork(ENTRY, [String(port)]);
  return await new Promise<One>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) =>
      reject(
        new Error(`process ${number} of the proxy did not start`, { cause: new Error(`it ended: ${code ?? signal}`) }),
      ),
    );
    child.once("message", (message: FromOne) => {
      if (message.type === "ready") resolve({ number, child, port: message.port, opsPort: message.opsPort });
    });
  });
}

async function end(child: ChildProcess, mostMs: number): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, "exit");
  child.kill("SIGTERM");
  const isOver = await Promise.race([ended.then(() => true), sleep(mostMs, false, { ref: false })]);
  if (!isOver) child.kill("SIGKILL");
}

/** Health, metrics and the admin API of all of them. */
function createOperations(
  config: ProxyConfig,
  running: ReadonlyMap<number, One>,
  log: Log,
): ReturnType<typeof createListener> {
  const own = new Registry();
  own.registerMetric(
    new Gauge({
      name: "keymeter_proxy_processes",
      help: "Processes of this proxy that serve, where it has several.",
      registers: [],
      collect() {
        this.set(running.size);
      },
    }),
  );
  const registry = {
    contentType: own.contentType,
    async metrics() {
      const parts = await Promise.all([...running.values()].map(askMetrics));
      return AggregatorRegistry.aggregate([...parts, await own.getMetricsAsJSON()]).metrics();
    },
  };
  const guard = metricsGuard(config, (message) => log.warn(message));
  const ops = createListener(registry, () => findRed([...running.values()]), guard);
  ops.removeAllContentTypeParsers();
  ops.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
  ops.all("/admin/*", async ({ method, url, headers, body }, reply) => {
    const all = [...running.values()];
    // What goes on now is ended where it goes on; everything else any of them knows and does for all.
    const asked = url.startsWith("/admin/cut") ? all : all.slice(0, 1);
    if (asked.length === 0) return reply.code(503).send({ error: "no process of the proxy is up; try again shortly" });
    const answers = await Promise.all(
      asked.map(async ({ opsPort }) => {
        const { authorization, "content-type": type, "x-keymeter-actor": actor } = headers;
        const answer = await request(`http://127.0.0.1:${opsPort}${url}`, {
          method: method as "GET",
          headers: Object.entries({ authorization, "content-type": type, "x-keymeter-actor": actor }).flatMap(
            ([name, value]) => (typeof value === "string" ? [name, value] : []),
          ),
          body: Buffer.isBuffer(body) ? body : null,
        });
        return { status: answer.statusCode, text: await answer.body.text() };
      }),
    );
    const worst = answers.reduce((one, other) => (other.status > one.status ? other : one));
    reply.code(worst.status).header("content-type", "application/json; charset=utf-8");
    if (asked.length === 1 || worst.status !== 200) return reply.send(worst.text);
    return { cut: answers.reduce((sum, { text }) => sum + (JSON.parse(text) as { cut: number }).cut, 0) };
  });
  return ops;
}

/** Its samples, each with its number, so that one that starts again counts from nothing by itself. */
async function askMetrics({ number, child }: One): Promise<Samples> {
  const id = Math.random();
  const { promise, resolve } = Promise.withResolvers<Samples>();
  const hear = (message: FromOne): void => {
    if (message.type === "metrics" && message.id === id) resolve(message.metrics);
  };
  const gone = (): void => resolve([]);
  child.on("message", hear);
  child.once("exit", gone);
  child.send({ id }, () => {});
  const metrics = await Promise.race([promise, sleep(ANSWER_MS, [] as Samples, { ref: false })]);
  child.off("message", hear);
  child.off("exit", gone);
  return metrics.map((metric) => ({
    ...metric,
    values: metric.values.map((value) => ({ ...value, labels: { ...value.labels, process: String(number) } })),
  }));
}

/** Why one of those that serve may not be used; a process that is started again listens to nobody. */
async function findRed(all: readonly One[]): Promise<string | undefined> {
  if (all.length === 0) return "no process is up";
  const found = await Promise.all(
    all.map(async ({ number, opsPort }) => {
      try {
        const { statusCode, body } = await request(`http://127.0.0.1:${opsPort}/readyz`, {
          headersTimeout: ANSWER_MS,
          bodyTimeout: ANSWER_MS,
        });
        const text = await body.text();
        return statusCode === 200 ? [] : [`process ${number}: ${text.trim()}`];
      } catch {
        return [`process ${number} does not answer`];
      }
    }),
  );
  return found.flat()[0];
}
