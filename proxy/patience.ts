// Waiting with an end: one timer for all, because every wait is equally long and nearly none comes to its end.

export type Patience = {
  /** Resolves true when the promise has come to its end, whichever, or false when that takes too long. */
  wait(promise: Promise<unknown>): Promise<boolean>;
  /** Ends as the promise does, or with undefined when that takes too long. */
  within<T>(promise: Promise<T>): Promise<T | undefined>;
  close(): void;
};

const LOOK_EVERY_MS = 250;

/** Waits of at most `mostMs`. */
export function createPatience(mostMs: number): Patience {
  type Waiting = { readonly untilMs: number; readonly giveUp: () => void };
  const waiting = new Set<Waiting>();
  const timer = setInterval(() => {
    const now = performance.now();
    // In the order they came, so the first that still has time ends the look.
    for (const one of waiting) {
      if (one.untilMs > now) break;
      waiting.delete(one);
      one.giveUp();
    }
  }, LOOK_EVERY_MS);
  timer.unref();
  const begin = (giveUp: () => void): Waiting => {
    const one = { untilMs: performance.now() + mostMs, giveUp };
    waiting.add(one);
    return one;
  };
  return {
    wait: (promise) =>
      new Promise((resolve) => {
        const one = begin(() => resolve(false));
        const end = (): void => {
          waiting.delete(one);
          resolve(true);
        };
        promise.then(end, end);
      }),
    within: (promise) =>
      new Promise((resolve, reject) => {
        const one = begin(() => resolve(undefined));
        promise.then(
          (value) => {
            waiting.delete(one);
            resolve(value);
          },
          (error: unknown) => {
            waiting.delete(one);
            reject(error);
          },
        );
      }),
    close: () => clearInterval(timer),
  };
}
