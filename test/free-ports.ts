// Ports for a whole stack under test. They lie below the range from which the system takes the ports of outgoing
// connections: a port that was free when asked is still free when the program that starts later listens on it.
import { createServer } from "node:net";

const NAMES = ["PORT", "OPS_PORT", "COLLECTOR_PORT", "ALERTS_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT"];
const FIRST = 12_000;
const COUNT = 18_000;

/** Six free ports on 127.0.0.1, as the environment variables of `keymeter up`. */
export async function freePorts(): Promise<{ [name: string]: string }> {
  const ports = new Set<number>();
  while (ports.size < NAMES.length) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    if (await isFree(port)) ports.add(port);
  }
  return Object.fromEntries([...ports].map((port, i) => [`KEYMETER_${NAMES[i]}`, String(port)]));
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
      .once("error", () => resolve(false))
      .listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
