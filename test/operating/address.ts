// How others on the network reach this machine.
import { networkInterfaces } from "node:os";

/** An address of this machine that is not loopback; undefined where it has none. */
export const OTHER_ADDRESS = Object.values(networkInterfaces())
  .flat()
  .find((one) => one?.family === "IPv4" && !one.internal)?.address;
