// Loaded before a proxy in a process of its own: measures, between two messages of its parent, how much CPU time of the
// main thread the longest turn of the event loop took; or how much memory the process had at most, and how much of it
// was in use. Threads of the proxy load it too, and measure nothing.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { isMainThread } from "node:worker_threads";

const LOOK_EVERY_MS = 50;

if (isMainThread && process.send) {
  let isMeasuring = false;
  let longestMicros = 0;
  let lastMicros = 0;
  let mostRss = 0;
  let mostUsed = 0;
  let watching;
  setFlagsFromString("--expose-gc");
  const collectGarbage = runInNewContext("gc");

  const spentMicros = () => {
    const { user, system } = process.threadCpuUsage();
    return user + system;
  };
  // While it measures the loop never sleeps: each turn ends here, whatever ran in it.
  const endOfTurn = () => {
    const nowMicros = spentMicros();
    longestMicros = Math.max(longestMicros, nowMicros - lastMicros);
    lastMicros = nowMicros;
    if (isMeasuring) setImmediate(endOfTurn);
  };
  const lookAtMemory = () => {
    const rss = process.memoryUsage.rss();
    collectGarbage();
    const { heapUsed, external } = process.memoryUsage();
    mostRss = Math.max(mostRss, rss);
    mostUsed = Math.max(mostUsed, heapUsed + external);
  };

  process.on("message", (message) => {
    switch (message?.measure) {
      case "turns":
        isMeasuring = true;
        longestMicros = 0;
        lastMicros = spentMicros();
        setImmediate(endOfTurn);
        process.send({});
        break;
      case "memory":
        mostRss = mostUsed = 0;
        lookAtMemory();
        watching = setInterval(lookAtMemory, LOOK_EVERY_MS);
        process.send({ rss: mostRss, used: mostUsed });
        break;
      case "end":
        if (isMeasuring) endOfTurn();
        isMeasuring = false;
        clearInterval(watching);
        process.send({ longestMs: longestMicros / 1000, rss: mostRss, used: mostUsed });
        break;
    }
    // Something of the main thread that takes this long: the measure has to see it.
    if (typeof message?.block === "number") {
      const until = spentMicros() + message.block * 1000;
      while (spentMicros() < until);
    }
    // Something that takes so much memory until the next message.
    if (typeof message?.hold === "number") globalThis.heldByTest = Buffer.alloc(message.hold, 1);
  });
}
