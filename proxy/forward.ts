// Forwarding: the exchanges that are open. One timer looks after the time of all of them; a stop, or whoever runs
// Keymeter, cuts them.
import type { ServerResponse } from "node:http";
import type { Subject } from "../ledger/budgets.ts";
import { OpenExchange } from "./exchange.ts";
import type { ChooseMeter, Exchange, ExchangeOptions } from "./exchange.ts";
import { createPools } from "./upstream.ts";
import type { Outgoing, TimeLimits } from "./upstream.ts";

export type Forwarder = {
  exchange(outgoing: Outgoing, response: ServerResponse, chooseMeter: ChooseMeter, options: ExchangeOptions): Exchange;
  /** Ends the exchanges whose subject the test takes. Returns how many. */
  cut(test: (subject: Subject) => boolean): number;
  /** How many exchanges are open. */
  open(): number;
  /** Cuts everything that is open: the last step of a stop. */
  stop(): void;
  close(): Promise<void>;
};

const SWEEP_MS = 500;

export function createForwarder(limits: TimeLimits): Forwarder {
  const pools = createPools(limits);
  const openOnes = new Set<OpenExchange>();
  const over = (exchange: OpenExchange): void => void openOnes.delete(exchange);

  // One timer for all: each exchange has a whole time, and a client that reads nothing is not waited for for ever.
  const sweep = setInterval(() => {
    const now = Date.now();
    for (const one of openOnes) one.checkTime(now, limits);
  }, SWEEP_MS).unref();

  return {
    exchange(outgoing, response, chooseMeter, options) {
      const one = new OpenExchange(response, chooseMeter, options, over);
      openOnes.add(one);
      pools.dispatch(outgoing, one.upstream);
      return one;
    },
    cut(test) {
      const ones = [...openOnes].filter(({ subject }) => subject !== undefined && test(subject));
      for (const one of ones) one.abort("cut", "whoever runs Keymeter stopped it");
      return ones.length;
    },
    open: () => openOnes.size,
    stop() {
      for (const one of openOnes) one.abort("stopped", "shutting down");
    },
    async close() {
      clearInterval(sweep);
      await pools.close();
    },
  };
}
