// Waiting with an end: one timer for all, because every wait is equally long and nearly none comes to its end.

export type Patience = {
  /** Resolves true when the promise has come to its end, whichever, or false when that takes too long. */
  wait(promise: Promise<unknown>): Promise<boolean>;
  close(): void;
};

const LOOK_EVERY_MS = 250;

/** Waits of at most `mostMs`. */
export function createPatience(mostMs: number): Patience {
  type Waiting = { readonly untilMs: number; readonly resolve: (inTime: boolean) => void };
  const waiting = new Set<Waiting>();
  const timer = setInterval(() => {
    const now = performance.now();
    // In the order they came, so the first that still has time ends the look.
    for (const one of waiting) {
      if (one.untilMs > now) break;
      waiting.delete(one);
      one.resolve(false);
    }
  }, LOOK_EVERY_MS);
  timer.unref();
  return {
    wait: (promise) =>
      new Promise((resolve) => {
        const one: Waiting = { untilMs: performance.now() + mostMs, resolve };
        waiting.add(one);
        const end = (): void => {
          waiting.delete(one);
          resolve(true);
        };
        promise.then(end, end);
      }),
    close: () => clearInterval(timer),
  };
}
