// Waiting with an end: one timer for all, because every wait is equally long and nearly none comes to its end.

export type Patience = {
  /** Resolves true with the promise, or false when it takes too long. The promise must not reject. */
  wait(promise: Promise<unknown>): Promise<boolean>;
  close(): void;
};

const LOOK_EVERY_MS = 250;

/** Waits of at most `mostMs`. */
export function createPatience(mostMs: number): Patience {
  type Waiting = { readonly untilMs: number; readonly resolve: (inTime: boolean) => void; done: boolean };
  let waiting: Waiting[] = [];
  const timer = setInterval(() => {
    const now = Date.now();
    waiting = waiting.filter((one) => {
      if (!one.done && one.untilMs <= now) one.resolve(false);
      return !one.done && one.untilMs > now;
    });
  }, LOOK_EVERY_MS);
  timer.unref();
  return {
    wait: (promise) =>
      new Promise((resolve) => {
        const one: Waiting = { untilMs: Date.now() + mostMs, resolve, done: false };
        waiting.push(one);
        void promise.then(() => {
          one.done = true;
          resolve(true);
        });
      }),
    close: () => clearInterval(timer),
  };
}
