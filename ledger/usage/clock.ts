// The time that the books go by. Ids are instants, so a wall clock that jumps would date what follows wrong, for good:
// a jump is told by the time since the machine was started, which a sleep does not stop. While it is in doubt time goes
// on as before, and nothing is admitted.

export type Clock = {
  /** Milliseconds since 1970, as they are believed. */
  now(): number;
  /** Undefined while all is well, else what is wrong and how to mend it. */
  trouble(): string | undefined;
  /** A provider's own clock, by the Date of an answer. */
  heard(dateMs: number): void;
  /** Whoever runs Keymeter says that the wall clock is right. */
  accept(): void;
  /** Follows slow corrections of the wall clock; called every few seconds. */
  look(): void;
};

/** What a clock may be put right by without a word: time servers move it by less. */
const MOST_STEP_MS = 120_000;
/** A jump that stays for so long, and that providers' clocks agree with, is a correction. */
const BELIEVED_AFTER_MS = 60_000;
/** How old a provider's word may be. */
const HEARD_LATELY_MS = 300_000;

/** What was found holds while the wall clock has moved by less: to ask the machine how long it runs costs a request as
 *  much as its price and its row together. */
const LOOKED_LATELY_MS = 100;

/** `wall` is the machine's clock, `sinceBoot` the milliseconds since it was started. `newestMs`: the newest event in
 *  the books. */
export function createClock(wall: () => number, sinceBoot: () => number, newestMs: number): Clock {
  /** The wall clock when the machine was started, as it is believed. */
  let bootMs = wall() - sinceBoot();
  let jumpedAt: number | undefined;
  let agreedAt: number | undefined;
  let aheadMs = newestMs;

  const believed = (): number => bootMs + sinceBoot();
  const step = (): number => wall() - believed();
  let lookedAtMs = Number.NaN;
  let found = false;
  const isJump = (): boolean => {
    const wallMs = wall();
    if (Math.abs(wallMs - lookedAtMs) < LOOKED_LATELY_MS) return found;
    lookedAtMs = wallMs;
    return (found = Math.abs(wallMs - believed()) > MOST_STEP_MS);
  };
  const settle = (): void => {
    bootMs = wall() - sinceBoot();
    jumpedAt = agreedAt = undefined;
    lookedAtMs = Number.NaN;
  };

  return {
    now: () => (isJump() ? Math.round(believed()) : wall()),
    trouble() {
      if (isJump())
        return `the machine's clock jumped by ${Math.round(step() / 1000)} s against the time since it was started, and no provider's clock agrees yet; set it right, or say that it is right now: keymeter clock accept`;
      if (aheadMs - wall() > MOST_STEP_MS)
        return `the newest event in the books is dated ${new Date(aheadMs).toISOString()}, ${Math.round((aheadMs - wall()) / 1000)} s ahead of the machine's clock; set the clock right, or say that it is right now: keymeter clock accept`;
      return undefined;
    },
    heard(dateMs) {
      if (isJump() && Math.abs(dateMs - wall()) <= MOST_STEP_MS) agreedAt = sinceBoot();
    },
    accept() {
      aheadMs = 0;
      settle();
    },
    look() {
      lookedAtMs = Number.NaN;
      if (!isJump()) return settle();
      jumpedAt ??= sinceBoot();
      const hasStayed = sinceBoot() - jumpedAt >= BELIEVED_AFTER_MS;
      const isAgreed = agreedAt !== undefined && sinceBoot() - agreedAt <= HEARD_LATELY_MS;
      if (hasStayed && isAgreed) settle();
    },
  };
}
