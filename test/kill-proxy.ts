// A proxy in a process of its own, to which the worst can happen: it kills itself with SIGKILL at a named point, the
// nth time it comes there, or its disk fails. The product has no hooks for this: the points are put around its own
// parts.
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";
import { createProxy } from "../proxy/app.ts";
import { loadProxyConfig } from "../proxy/config.ts";
import { createLog } from "../service/log.ts";

export const KILL_POINTS = [
  "after_reserve",
  "after_headers",
  "mid_stream",
  "before_settle",
  "after_settle",
  "before_last_byte",
] as const;
export type KillPoint = (typeof KILL_POINTS)[number];

/** What the books and the memory of such a proxy say, as it stands. */
export type Standing = {
  readonly recovered: number;
  readonly differences: readonly string[];
  readonly reservedNanoUsd: string;
  /** By budget: what is settled and what is reserved. */
  readonly budgets: { readonly [id: string]: readonly [settled: string, reserved: string] };
};

/** Asks it, by the way that only a parent process has. */
export async function askStanding(child: ChildProcess): Promise<Standing> {
  const answer = new Promise<Standing>((resolve, reject) => {
    child.once("message", (message) => resolve(message as Standing));
    child.once("exit", () => reject(new Error("the proxy ended instead of answering")));
  });
  child.send("standing");
  return await answer;
}

/** Starts it and resolves when it listens. */
export async function forkProxy(
  upstream: string,
  dataDir: string,
  kill?: { readonly point: string; readonly nth: number },
  environment: { readonly [name: string]: string } = {},
  /** This file in another copy of the project. */
  program = fileURLToPath(import.meta.url),
): Promise<{ readonly child: ChildProcess; readonly url: string }> {
  const child = fork(program, {
    env: {
      ...process.env,
      KEYMETER_DATA_DIR: dataDir,
      KILL_CHILD: "1",
      KEYMETER_OPENAI_URL: upstream,
      ...(kill ? { KILL_POINT: kill.point, KILL_NTH: String(kill.nth) } : {}),
      ...environment,
    },
    execPath: process.execPath,
    execArgv: [],
  });
  const port = await new Promise<number>((resolve, reject) => {
    child.once("message", (message: { port: number }) => resolve(message.port));
    child.once("exit", (code) => reject(new Error(`the proxy ended at start with ${code}`)));
  });
  return { child, url: `http://127.0.0.1:${port}` };
}

if (process.env["KILL_CHILD"] === "1") {
  // Where a test makes writes fail by a limit on file sizes, the write is to fail, not the process.
  process.on("SIGXFSZ", () => {});
  // Where its test is over, so is it: it would hold the terminal of whoever started the run.
  process.on("disconnect", () => process.exit());
  const point = process.env["KILL_POINT"];
  let left = Number(process.env["KILL_NTH"] ?? "1");
  const at = (name: KillPoint): void => {
    if (name === point && --left === 0) process.kill(process.pid, "SIGKILL");
  };

  const proxy = await createProxy(loadProxyConfig(), createLog("kill", "silent"));
  const { writer, forwarder } = proxy.context;
  const { reserve, settle } = writer;
  const { exchange } = forwarder;
  writer.reserve = async (...args) => {
    const decision = await reserve(...args);
    at("after_reserve");
    return decision;
  };
  writer.settle = async (...args) => {
    at("before_settle");
    await settle(...args);
    at("after_settle");
  };
  forwarder.exchange = (outgoing, response, chooseMeter, options) => {
    const one = exchange(
      outgoing,
      response,
      (status, contentType, contentEncoding) => {
        at("after_headers");
        const meter = chooseMeter(status, contentType, contentEncoding);
        const push = meter.push.bind(meter);
        meter.push = (chunk) => {
          at("mid_stream");
          return push(chunk);
        };
        return meter;
      },
      options,
    );
    const release = one.release.bind(one);
    one.release = (headers) => {
      at("before_last_byte");
      release(headers);
    };
    return one;
  };

  await proxy.app.listen({ host: "127.0.0.1", port: 0 });
  process.send?.({ port: (proxy.app.server.address() as { port: number }).port });
  process.on("message", (message) => {
    if (message !== "standing") return;
    void Promise.all([writer.verify(), writer.states()]).then(([{ differences, reservedNanoUsd }, states]) => {
      const standing: Standing = {
        recovered: writer.recovered,
        differences,
        reservedNanoUsd: String(reservedNanoUsd),
        budgets: Object.fromEntries(
          states.map((state) => [state.budget.id, [String(state.settledNanoUsd), String(state.reservedNanoUsd)]]),
        ),
      };
      process.send?.(standing);
    });
  });
  process.on("SIGTERM", () => void proxy.stop().then(() => process.exit(0)));
}
