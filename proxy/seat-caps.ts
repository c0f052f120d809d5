// Caps of tokens that subscriptions pay for: in five hours, which begin with the first request after the last five ended,
// and in a week. Kept in memory, and read from the books when a cap is new; of several proxies each hears what was booked
// at the others. No money: beyond a cap may pass what others let through before that is heard.
import type { UsageBooks } from "../ledger/books.ts";
import { attemptAtMs } from "../ledger/ids.ts";
import type { AttemptId } from "../ledger/ids.ts";
import { readOwnNames } from "../ledger/usage/budget-spend.ts";
import type { OwnNames } from "../ledger/usage/budget-spend.ts";
import type { Limits, Passed } from "../ledger/usage/limits.ts";
import { readSeatTokens } from "../ledger/usage/seat-tokens.ts";
import type { SeatTokens } from "../ledger/usage/seat-tokens.ts";
import { SEAT } from "../ledger/usage/usage-event.ts";
import type { UsageEvent } from "../ledger/usage/usage-event.ts";
import { countTokens } from "../ledger/usage.ts";
import { DAY_MS, HOUR_MS } from "../ledger/windows.ts";
import type { Calendar } from "../ledger/windows.ts";
import { Refused } from "./refusals.ts";

export type SeatCaps = {
  /** Takes the caps among limits; of scopes that had none, what was used is read from the books. */
  set(limits: readonly Limits[]): Promise<void>;
  /** Takes so many tokens in every cap that covers who asks, or in none: then throws Refused. What it returns gives them
   *  back: what is booked counts by itself. */
  enter(who: Who, tokens: number, nowMs: number): () => void;
  /** What was booked as a subscription's counts from now on; where nobody said what it used, as what it was taken for. */
  book(event: UsageEvent, expected: number, nowMs: number): void;
  /** Caps that cover somebody, as they stand. */
  states(who: Who, nowMs: number): SeatCapState[];
  /** Whether there are caps. */
  hasSome(): boolean;
  /** What was booked here in the last minute. */
  passed(nowMs: number): Passed[];
  /** What was booked at all other proxies in their last minute. */
  hear(others: readonly Passed[]): void;
};

/** Who asks, with the user that counts. */
type Who = { readonly keyId: string; readonly team: string; readonly user: string };

export type SeatCapState = {
  /** "user anna", or as it stands in limits where nobody knows the name. */
  readonly scope: string;
  readonly window: "5 hours" | "week";
  readonly tokens: number;
  readonly used: number;
  /** Undefined: no five hours have begun. */
  readonly endsAtMs: number | undefined;
};

/** What the cap of all is called. */
export const EVERYBODY = "everybody together";

const FIVE_HOURS_MS = 5 * HOUR_MS;
/** As far back five hours are followed from one to the next when a cap is new. */
const FOLLOWED_MS = DAY_MS;
const NOTHING_TAKEN = (): void => {};
/** So late at most it is heard that an attempt was booked. */
const LATE_WORD_MS = 60_000;
/** Among what proxies tell each other of limits. */
const TOLD = "seats ";
const MINUTE_SECONDS = 61;

/** The tokens of one scope. */
class Used {
  cap: Limits;
  /** Of requests under way here. */
  held = 0;
  #opensMs = Number.NEGATIVE_INFINITY;
  /** When the five hours before these ended. */
  #closedMs = Number.NEGATIVE_INFINITY;
  #fiveHours = 0;
  #weekId = "";
  #week = 0;
  /** Tokens by the second in which they were booked here, and as they were heard of elsewhere. */
  readonly #booked = new Map<number, number>();
  readonly #heard = new Map<number, number>();
  readonly #calendar: Calendar;
  /** What was booked before is known from the books. */
  readonly #readMs: number;

  constructor(cap: Limits, calendar: Calendar, readMs: number) {
    this.cap = cap;
    this.#calendar = calendar;
    this.#readMs = readMs;
  }

  /** Tokens of an attempt that began at an instant; those of windows that are over are forgotten. */
  add(atMs: number, tokens: number): void {
    if (tokens === 0) return;
    const week = this.#calendar.window("week", atMs).id;
    if (week > this.#weekId) [this.#weekId, this.#week] = [week, 0];
    if (week === this.#weekId) this.#week += tokens;
    if (atMs >= this.#opensMs + FIVE_HOURS_MS) {
      this.#closedMs = this.#opensMs + FIVE_HOURS_MS;
      this.#opensMs = atMs;
      this.#fiveHours = 0;
    }
    // One that began earlier, and was booked later.
    else if (atMs < this.#opensMs && atMs >= this.#closedMs) this.#opensMs = atMs;
    if (atMs >= this.#opensMs) this.#fiveHours += tokens;
  }

  /** Booked here in this second: others hear of it. */
  note(nowMs: number, tokens: number): void {
    const second = Math.floor(nowMs / 1000);
    this.#booked.set(second, (this.#booked.get(second) ?? 0) + tokens);
    forgetBefore(this.#booked, second - MINUTE_SECONDS);
  }

  told(nowMs: number): Passed["seconds"] {
    forgetBefore(this.#booked, Math.floor(nowMs / 1000) - MINUTE_SECONDS);
    return [...this.#booked].map(([second, tokens]) => [second, 0, tokens]);
  }

  hear(seconds: Passed["seconds"]): void {
    for (const [second, , tokens] of seconds) {
      if (second * 1000 < this.#readMs) continue;
      // What one of them says no more, it said before: it is a minute old, or that proxy ended.
      const known = this.#heard.get(second) ?? 0;
      if (tokens <= known) continue;
      this.#heard.set(second, tokens);
      this.add(second * 1000, tokens - known);
    }
    forgetBefore(this.#heard, Math.max(0, ...this.#heard.keys()) - 10 * MINUTE_SECONDS);
  }

  states(scope: string, nowMs: number): SeatCapState[] {
    const { seatTokensPer5Hours: fiveHours, seatTokensPerWeek: perWeek } = this.cap;
    const week = this.#calendar.window("week", nowMs);
    const endsAtMs = this.#opensMs + FIVE_HOURS_MS;
    const isOpen = nowMs < endsAtMs;
    return [
      ...(fiveHours === undefined
        ? []
        : [
            {
              scope,
              window: "5 hours" as const,
              tokens: fiveHours,
              used: isOpen ? this.#fiveHours : 0,
              endsAtMs: isOpen ? endsAtMs : undefined,
            },
          ]),
      ...(perWeek === undefined
        ? []
        : [
            {
              scope,
              window: "week" as const,
              tokens: perWeek,
              used: week.id === this.#weekId ? this.#week : 0,
              endsAtMs: week.endMs,
            },
          ]),
    ];
  }
}

/** `nameOf`: a key or a user by its id, where it has a name. */
export function createSeatCaps(
  books: UsageBooks,
  calendar: Calendar,
  nameOf: (id: string) => string | undefined,
  refusalStatus: number,
): SeatCaps {
  const counted = new Map<string, Used>();
  let ownNames: OwnNames = (subject) => subject;
  /** Booked while the books are read. */
  let meanwhile: SeatTokens[] | undefined;
  /** Scopes whose sums were read from the books a moment ago, and what was in them: of an attempt that is there, the word
   *  that it was booked may come later. */
  let lately: { readonly scopes: ReadonlySet<string>; readonly attempts: ReadonlySet<AttemptId> } | undefined;

  const covering = (who: Who): (readonly [scope: string, used: Used])[] =>
    scopesOf(who).flatMap((scope) => {
      const used = counted.get(scope);
      return used ? [[scope, used] as const] : [];
    });
  /** What it names counts where it is the key's own, as in budgets. */
  const ownOf = ({ keyId, team, user }: Who): Who => {
    const own = ownNames({ keyId, team, user, project: "", env: "" });
    return { keyId, team: own.team, user: own.user };
  };
  const wordsOf = (scope: string): string => {
    if (scope === "org") return EVERYBODY;
    const [kind, id] = splitOnce(scope);
    return `${kind} ${nameOf(id) ?? id}`;
  };

  return {
    async set(limits) {
      const capped = limits.filter(
        ({ seatTokensPer5Hours, seatTokensPerWeek }) =>
          seatTokensPer5Hours !== undefined || seatTokensPerWeek !== undefined,
      );
      const scopes = new Set(capped.map(({ scope }) => scope));
      for (const scope of counted.keys()) if (!scopes.has(scope)) counted.delete(scope);
      for (const cap of capped) {
        const known = counted.get(cap.scope);
        if (known) known.cap = cap;
      }
      if (capped.length === 0) return;
      ownNames = await readOwnNames(books);
      const added = capped.filter(({ scope }) => !counted.has(scope));
      if (added.length === 0) return;
      const nowMs = Date.now();
      meanwhile = [];
      const fresh = new Map(added.map((cap) => [cap.scope, new Used(cap, calendar, nowMs)]));
      const addTo = (row: SeatTokens): void => {
        for (const scope of scopesOf(ownOf(row))) fresh.get(scope)?.add(attemptAtMs(row.attemptId), row.tokens);
      };
      const read = new Set<AttemptId>();
      try {
        const sinceMs = Math.min(calendar.window("week", nowMs).startMs, nowMs - FOLLOWED_MS);
        for await (const row of readSeatTokens(books, sinceMs)) {
          read.add(row.attemptId);
          addTo(row);
        }
        for (const row of meanwhile) if (!read.has(row.attemptId)) addTo(row);
      } finally {
        meanwhile = undefined;
      }
      for (const [scope, used] of fresh) counted.set(scope, used);
      const own = { scopes: new Set(fresh.keys()), attempts: read };
      lately = own;
      setTimeout(() => {
        if (lately === own) lately = undefined;
      }, LATE_WORD_MS).unref();
    },

    enter(who, tokens, nowMs) {
      if (counted.size === 0) return NOTHING_TAKEN;
      const caps = covering(ownOf(who));
      for (const [scope, used] of caps)
        for (const state of used.states(scope, nowMs)) {
          const before = state.used + used.held;
          // What is larger than the whole cap passes alone: what it will use is a guess.
          if (before === 0 || before + tokens <= state.tokens) continue;
          throw usedUp({ ...state, scope: wordsOf(scope) }, used.held, refusalStatus);
        }
      for (const [, used] of caps) used.held += tokens;
      let isOpen = true;
      return () => {
        if (!isOpen) return;
        isOpen = false;
        for (const [, used] of caps) used.held -= tokens;
      };
    },

    book(event, expected, nowMs) {
      if (event.payer !== SEAT || (counted.size === 0 && !meanwhile)) return;
      const { attemptId, keyId, team, user, usage, seatNanoUsd = 0n } = event;
      // Booked at what was expected of it, for nobody said what it used.
      const tokens = countTokens(usage) || (seatNanoUsd > 0n ? expected : 0);
      const row = { attemptId, keyId, team, user, tokens };
      meanwhile?.push(row);
      for (const [scope, used] of covering(ownOf(row))) {
        if (lately?.scopes.has(scope) && lately.attempts.has(attemptId)) continue;
        used.add(attemptAtMs(attemptId), row.tokens);
        used.note(nowMs, row.tokens);
      }
    },

    states: (who, nowMs) => covering(ownOf(who)).flatMap(([scope, used]) => used.states(wordsOf(scope), nowMs)),

    hasSome: () => counted.size > 0,

    passed: (nowMs) =>
      [...counted].flatMap(([scope, used]) => {
        const seconds = used.told(nowMs);
        return seconds.length === 0 ? [] : [{ scope: `${TOLD}${scope}`, seconds, open: 0 }];
      }),

    hear(others) {
      for (const { scope, seconds } of others)
        if (scope.startsWith(TOLD)) counted.get(scope.slice(TOLD.length))?.hear(seconds);
    },
  };
}

function usedUp({ scope, window, tokens, used, endsAtMs }: SeatCapState, held: number, status: number): Refused {
  const under = held > 0 ? `, with ${held} more under way` : "";
  const ends =
    endsAtMs === undefined
      ? ""
      : ` It starts anew on ${new Date(endsAtMs).toISOString().slice(0, 16).replace("T", " ")} UTC.`;
  return new Refused(
    "seat_tokens",
    `the request does not fit the cap of tokens by subscriptions of ${scope}: ${tokens} in ${window === "week" ? "a week" : window}, ${used} used${under}.${ends} Whoever runs Keymeter can raise it (keymeter limits set)`,
    { status, resetsAtMs: endsAtMs, headers: ["x-should-retry", "false"] },
  );
}

/** Limits that may cover somebody. */
function scopesOf({ keyId, team, user }: Who): readonly string[] {
  return [`key:${keyId}`, `user:${user}`, `team:${team}`, "org"];
}

function forgetBefore(bySecond: Map<number, number>, second: number): void {
  for (const one of bySecond.keys()) if (one < second) bySecond.delete(one);
}

function splitOnce(scope: string): readonly [kind: string, id: string] {
  const mark = scope.indexOf(":");
  return [scope.slice(0, mark), scope.slice(mark + 1)];
}
