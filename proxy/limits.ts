// Limits that are not money: requests and tokens in any 60 seconds, requests at once, bytes of a body; by key, by
// user, by team and for all. Kept in memory, second by second: never more than the limit passes in any 60 seconds, and a restart
// begins anew. Of several proxies each hears what passed at the others: beyond the limit may pass what they let through
// before that is heard.
import type { Limits, Passed } from "../ledger/usage/limits.ts";
import { Refused } from "./refusals.ts";
import type { Principal } from "./principal.ts";

export type Limiter = {
  /** Replaces the set; what was counted stays. */
  set(limits: readonly Limits[]): void;
  /** Takes a place and the tokens in every limit that covers the key, or in none: then throws Refused, with the time to
   *  wait. */
  enter(principal: Principal, tokens: number, bodyBytes: number, nowMs: number): PlaceInLimits;
  /** Whether there are limits. */
  hasSome(): boolean;
  /** What passed here, where something did in the last minute or is under way. */
  passed(nowMs: number): Passed[];
  /** What passed at all other proxies, in place of what was heard before. */
  hear(others: readonly Passed[], nowMs: number): void;
};

export type PlaceInLimits = {
  /** The largest body that may come; of one whose length is not stated beforehand it is for the reader to count. */
  readonly mostBodyBytes: number | undefined;
  /** What is left of the tightest limits, as providers say it: `x-ratelimit-...`. */
  readonly headers: readonly string[];
  /** Gives the place back, and puts what was used in the place of what was expected. Undefined: nothing better is
   *  known. */
  leave(tokens: number | undefined, nowMs: number): void;
  /** Tokens that it was taken for, where a subscription pays. */
  readonly expected?: number;
  /** What was used stands in the books, or nothing was. */
  readonly settled?: () => void;
};

/** One more than a minute has: the oldest second counts until all of it is a minute old. */
const SECONDS = 61;
const NOTHING: PlaceInLimits = { headers: [], mostBodyBytes: undefined, leave: () => {} };

export function createLimiter(): Limiter {
  const counted = new Map<
    string,
    { limits: Limits; requests: Minute; tokens: Minute; open: number; openElsewhere: number }
  >();

  return {
    set(limits) {
      const named = new Set(limits.map(({ scope }) => scope));
      for (const scope of counted.keys()) if (!named.has(scope)) counted.delete(scope);
      for (const one of limits) {
        const known = counted.get(one.scope);
        if (known) known.limits = one;
        else
          counted.set(one.scope, {
            limits: one,
            requests: new Minute(),
            tokens: new Minute(),
            open: 0,
            openElsewhere: 0,
          });
      }
    },

    enter({ keyId, team, user }, tokens, bodyBytes, nowMs) {
      if (counted.size === 0) return NOTHING;
      const covering = [`key:${keyId}`, `user:${user}`, `team:${team}`, "org"].flatMap(
        (scope) => counted.get(scope) ?? [],
      );
      if (covering.length === 0) return NOTHING;
      for (const { limits, requests, tokens: used, open, openElsewhere } of covering) {
        const { scope, requestsPerMinute, tokensPerMinute, concurrent, bodyBytes: mostBytes } = limits;
        if (mostBytes !== undefined && bodyBytes > mostBytes)
          throw new Refused("body_too_large", `the body has ${bodyBytes} bytes, and ${scope} may send ${mostBytes}`);
        if (concurrent !== undefined && open + openElsewhere >= concurrent)
          throw limited(limits, `${concurrent} requests at once`, 1, headersOf(covering, nowMs));
        if (requestsPerMinute !== undefined && requests.sum(nowMs) >= requestsPerMinute)
          throw limited(
            limits,
            `${requestsPerMinute} requests a minute`,
            requests.wait(nowMs, requestsPerMinute - 1),
            headersOf(covering, nowMs),
          );
        // What is larger than the whole limit passes alone: it would wait for ever.
        const room = tokensPerMinute === undefined ? 0 : Math.max(tokensPerMinute - tokens, 0);
        if (tokensPerMinute !== undefined && used.sum(nowMs) > room)
          throw limited(
            limits,
            `${tokensPerMinute} tokens a minute`,
            used.wait(nowMs, room),
            headersOf(covering, nowMs),
          );
      }
      for (const one of covering) {
        one.open += 1;
        one.requests.add(nowMs, 1);
        one.tokens.add(nowMs, tokens);
      }
      let isOpen = true;
      const bodies = covering.flatMap(({ limits }) => limits.bodyBytes ?? []);
      return {
        headers: headersOf(covering, nowMs),
        mostBodyBytes: bodies.length === 0 ? undefined : Math.min(...bodies),
        leave(actual, leftMs) {
          if (!isOpen) return;
          isOpen = false;
          for (const one of covering) {
            one.open -= 1;
            if (actual !== undefined) one.tokens.add(leftMs, actual - tokens);
          }
        },
      };
    },

    hasSome: () => counted.size > 0,

    passed: (nowMs) =>
      [...counted].flatMap(([scope, { requests, tokens, open }]) => {
        const seconds = requests.seconds(nowMs, tokens);
        return seconds.length > 0 || open > 0 ? [{ scope, seconds, open }] : [];
      }),

    hear(others, nowMs) {
      const byScope = new Map(others.map((one) => [one.scope, one]));
      for (const [scope, one] of counted) {
        const { seconds = [], open = 0 } = byScope.get(scope) ?? {};
        one.requests.hear(
          seconds.map(([second, requests]) => [second, requests]),
          nowMs,
        );
        one.tokens.hear(
          seconds.map(([second, , tokens]) => [second, tokens]),
          nowMs,
        );
        one.openElsewhere = open;
      }
    },
  };
}

/** The seconds of a minute, counted in one slot each: what passed here, and what passed elsewhere. Whole numbers, so that
 *  their sums can be kept beside them and stay what they are. */
class Minute {
  readonly #here = new Float64Array(SECONDS);
  #elsewhere = new Float64Array(SECONDS);
  #sum = 0;
  #second = 0;

  add(nowMs: number, count: number): void {
    this.#turn(nowMs);
    this.#here[this.#second % SECONDS]! += count;
    this.#sum += count;
  }

  sum(nowMs: number): number {
    this.#turn(nowMs);
    return Math.max(0, this.#sum);
  }

  /** Whole seconds until the sum is not above `most`: at least one. */
  wait(nowMs: number, most: number): number {
    let sum = this.sum(nowMs);
    if (sum <= most) return 1;
    // What was counted in this second stays until the last one of its minute.
    if (this.#at(this.#second) > most) return SECONDS;
    for (let age = SECONDS - 1; age >= 0; age--) {
      if (sum <= most) return Math.max(1, SECONDS - 1 - age);
      sum -= this.#at(this.#second - age + SECONDS);
    }
    return SECONDS;
  }

  /** What passed here, where something did in it or in another one, oldest first. */
  seconds(nowMs: number, other: Minute): [second: number, count: number, ofOther: number][] {
    this.#turn(nowMs);
    other.#turn(nowMs);
    const found: [number, number, number][] = [];
    for (let second = this.#second - SECONDS + 1; second <= this.#second; second++) {
      const slot = (second + SECONDS) % SECONDS;
      const [count = 0, ofOther = 0] = [this.#here[slot], other.#here[slot]];
      if (count !== 0 || ofOther !== 0) found.push([second, count, ofOther]);
    }
    return found;
  }

  /** What passed elsewhere. A clock there may be ahead: what it calls a later second is of this one. */
  hear(counts: readonly (readonly [second: number, count: number])[], nowMs: number): void {
    this.#turn(nowMs);
    for (const count of this.#elsewhere) this.#sum -= count;
    this.#elsewhere = new Float64Array(SECONDS);
    for (const [second, count] of counts) {
      if (second <= this.#second - SECONDS) continue;
      this.#elsewhere[Math.min(second, this.#second) % SECONDS]! += count;
      this.#sum += count;
    }
  }

  #at(second: number): number {
    return (this.#here[second % SECONDS] ?? 0) + (this.#elsewhere[second % SECONDS] ?? 0);
  }

  /** Empties the slots of the seconds that have passed. A clock that goes back turns nothing. */
  #turn(nowMs: number): void {
    const second = Math.floor(nowMs / 1000);
    if (second <= this.#second) return;
    for (let passed = Math.min(second - this.#second, SECONDS); passed > 0; passed--) {
      const slot = (second - passed + 1) % SECONDS;
      this.#sum -= this.#at(slot);
      this.#here[slot] = 0;
      this.#elsewhere[slot] = 0;
    }
    this.#second = second;
  }
}

type Counted = { readonly limits: Limits; readonly requests: Minute; readonly tokens: Minute };

/** The tightest of requests and of tokens. */
function headersOf(covering: readonly Counted[], nowMs: number): string[] {
  return [
    ...tightest("requests", covering, nowMs, ({ limits, requests }) => [limits.requestsPerMinute, requests]),
    ...tightest("tokens", covering, nowMs, ({ limits, tokens }) => [limits.tokensPerMinute, tokens]),
  ];
}

function tightest(
  what: string,
  covering: readonly Counted[],
  nowMs: number,
  of: (one: Counted) => readonly [number | undefined, Minute],
): string[] {
  let least: { readonly limit: number; readonly left: number; readonly minute: Minute } | undefined;
  for (const one of covering) {
    const [limit, minute] = of(one);
    if (limit === undefined) continue;
    const left = Math.max(0, limit - minute.sum(nowMs));
    if (!least || left < least.left) least = { limit, left, minute };
  }
  if (!least) return [];
  return [
    `x-ratelimit-limit-${what}`,
    String(least.limit),
    `x-ratelimit-remaining-${what}`,
    String(least.left),
    `x-ratelimit-reset-${what}`,
    `${least.minute.wait(nowMs, 0)}s`,
  ];
}

function limited({ scope }: Limits, what: string, seconds: number, headers: readonly string[]): Refused {
  return new Refused("rate_limited", `${scope} may have ${what}; try again in ${seconds} s`, {
    headers: ["retry-after", String(seconds), ...headers],
  });
}
