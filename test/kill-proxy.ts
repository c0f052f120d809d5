// A proxy in a process of its own that kills itself with SIGKILL at a named point, the nth time it comes there. Run as a
// child by kill.test.ts. The product has no hooks for this: the points are put around its own parts.
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

if (process.env["KILL_CHILD"] === "1") {
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
  process.on("SIGTERM", () => void proxy.stop().then(() => process.exit(0)));
}
