// What budgets promise, written down a second time and as simply as can be: lists, and sums over them. Shares no code
// with the product. Money is bigint; a window is a text that two instants share or do not.
export type Subject = {
  readonly keyId: string;
  readonly team: string;
  readonly project: string;
  readonly env: string;
  readonly user: string;
  readonly provider: string;
  readonly model: string;
  /** What it is tagged with; empty: nothing. */
  readonly customer: string;
};

export type Scope = { readonly [part in keyof Subject]?: string | undefined };
/** Parts of which each has a cap of its own. */
export type Each = "user" | "keyId" | "customer";
type Window = "hour" | "day" | "week" | "month" | "quarter" | "total";

export type ModelBudget = {
  readonly id: string;
  readonly scope: Scope;
  readonly window: Window;
  readonly amount: bigint;
  readonly hard: boolean;
  readonly strict: boolean;
  readonly observed: boolean;
  readonly each?: Each | undefined;
  /** Of a budget of each: whose cap it is. */
  readonly member?: string;
  readonly raises: {
    readonly id: string;
    readonly member?: string | undefined;
    readonly amount: bigint;
    readonly fromMs: number;
    readonly untilMs: number;
  }[];
};

export type ModelAttempt = {
  readonly id: number;
  readonly atMs: number;
  readonly subject: Subject;
  /** The name that it answers under, where that is known when it is asked for; for a settled one, the name it answered
   *  under. */
  served: string | undefined;
  readonly bound: bigint | undefined;
  expected: bigint | undefined;
  readonly most: bigint | undefined;
  state: "open" | "work" | "settled";
  cost: bigint;
};

export type Verdict = {
  readonly frozenBy: readonly string[];
  /** Why each budget that may refuse does, by its id. */
  readonly refusals: ReadonlyMap<string, string>;
  readonly wouldRefuse: boolean;
  readonly left: bigint | undefined;
  readonly isStrict: boolean;
};

export class Model {
  readonly budgets = new Map<string, ModelBudget>();
  readonly freezes = new Map<string, Scope>();
  readonly attempts = new Map<number, ModelAttempt>();
  readonly #enforces: boolean;
  readonly #clock: Intl.DateTimeFormat;
  readonly #windows = new Map<string, string>();

  constructor(zone: string, enforces: boolean) {
    this.#enforces = enforces;
    this.#clock = new Intl.DateTimeFormat("en-CA", {
      timeZone: zone,
      hourCycle: "h23",
      year: "numeric",
      month: "2-digit",
      day: "2-digit",
      hour: "2-digit",
      minute: "2-digit",
    });
  }

  /** The name of the window that an instant lies in. */
  windowOf(window: Window, atMs: number): string {
    const minute = Math.floor(atMs / 60_000);
    const name = `${window} ${minute}`;
    let found = this.#windows.get(name);
    if (found === undefined) this.#windows.set(name, (found = this.#name(window, minute * 60_000)));
    return found;
  }

  #name(window: Window, atMs: number): string {
    const [date = "", time = ""] = this.#clock.format(atMs).split(", ");
    const [year = "", month = "", day = ""] = date.split("-");
    switch (window) {
      case "hour": {
        // The same hour comes twice when clocks go back: how far the zone is from UTC tells them apart.
        const [hour = "", minutes = ""] = time.split(":");
        const local = Date.UTC(Number(year), Number(month) - 1, Number(day), Number(hour), Number(minutes));
        return `${date} ${hour} ${local - atMs}`;
      }
      case "day":
        return date;
      case "week": {
        const noon = Date.UTC(Number(year), Number(month) - 1, Number(day), 12);
        const sinceMonday = (new Date(noon).getUTCDay() + 6) % 7;
        return new Date(noon - sinceMonday * 86_400_000).toISOString().slice(0, 10);
      }
      case "month":
        return `${year}-${month}`;
      case "quarter":
        return `${year} ${Math.ceil(Number(month) / 3)}`;
      case "total":
        return "total";
    }
  }

  covers(scope: Scope, { subject, served }: Pick<ModelAttempt, "subject" | "served">): boolean {
    for (const part of ["keyId", "team", "project", "env", "user", "provider", "customer"] as const)
      if (scope[part] !== undefined && scope[part] !== subject[part]) return false;
    const wanted = scope.model;
    if (wanted === undefined) return true;
    const fits = (name: string): boolean =>
      wanted.endsWith("*") ? name.startsWith(wanted.slice(0, -1)) : name === wanted;
    return fits(subject.model) || (served !== undefined && fits(served));
  }

  covering(attempt: Pick<ModelAttempt, "subject" | "served">): ModelBudget[] {
    return [...this.budgets.values()]
      .filter(({ scope }) => this.covers(scope, attempt))
      .flatMap((budget) => this.#capOf(budget, attempt.subject));
  }

  /** Those that hold for whoever asks, whatever is asked for. */
  holding(subject: Subject): ModelBudget[] {
    return [...this.budgets.values()]
      .filter(({ scope: { provider: _provider, model: _model, ...scope } }) =>
        this.covers(scope, { subject, served: undefined }),
      )
      .flatMap((budget) => this.#capOf(budget, subject));
  }

  /** The budget itself; of one of each the cap of whom it is about, if it is not another budget's place. */
  #capOf(budget: ModelBudget, subject: Subject): ModelBudget[] {
    const { each } = budget;
    if (each === undefined) return [budget];
    const member = subject[each];
    const own = { ...budget.scope, [each]: member };
    const isTaken = [...this.budgets.values()].some(
      (other) => other.each === undefined && placeOf(other) === placeOf({ ...budget, each: undefined, scope: own }),
    );
    if (member === "" || isTaken) return [];
    const raises = budget.raises.filter((raise) => raise.member === undefined || raise.member === member);
    return [{ ...budget, id: `${budget.id}/${encodeURIComponent(member)}`, member, raises }];
  }

  amountAt(budget: ModelBudget, atMs: number): bigint {
    let sum = budget.amount;
    for (const { amount, fromMs, untilMs } of budget.raises) if (fromMs <= atMs && atMs < untilMs) sum += amount;
    return sum;
  }

  held(budget: ModelBudget, attempt: ModelAttempt): bigint {
    if (attempt.state === "settled") return 0n;
    return (budget.strict ? attempt.bound : attempt.expected) ?? 0n;
  }

  /** What an attempt can come to: never less than what is held for it. */
  mostOf({ bound, expected = 0n, most = bound ?? 0n }: ModelAttempt): bigint {
    return most > expected ? most : expected;
  }

  /** How far a budget of mode expected may be passed: by itself, or by forty answers, but by no more than seven times
   *  itself. */
  ceiling(amount: bigint, one: bigint): bigint {
    const many = 40n * one < 7n * amount ? 40n * one : 7n * amount;
    return amount + (many > amount ? many : amount);
  }

  sums(budget: ModelBudget, atMs: number): { settled: bigint; reserved: bigint; most: bigint } {
    const window = this.windowOf(budget.window, atMs);
    let [settled, reserved, most] = [0n, 0n, 0n];
    for (const attempt of this.attempts.values()) {
      if (!this.covers(budget.scope, attempt)) continue;
      if (budget.each !== undefined && attempt.subject[budget.each] !== budget.member) continue;
      if (this.windowOf(budget.window, attempt.atMs) !== window) continue;
      if (attempt.state === "settled") settled += attempt.cost;
      else {
        reserved += this.held(budget, attempt);
        most += this.mostOf(attempt);
      }
    }
    return { settled, reserved, most };
  }

  /** What has to be said to a request. */
  judge(attempt: ModelAttempt): Verdict {
    const refusals = new Map<string, string>();
    let wouldRefuse = false;
    let left: bigint | undefined;
    let isStrict = false;
    for (const budget of this.covering(attempt)) {
      if (!budget.hard) continue;
      isStrict ||= budget.strict;
      const { settled, reserved, most } = this.sums(budget, attempt.atMs);
      const asked = budget.strict ? attempt.bound : attempt.expected;
      const amount = this.amountAt(budget, attempt.atMs);
      const room = amount - settled - reserved - (asked ?? 0n);
      const why =
        attempt.expected === undefined
          ? "unpriced"
          : asked === undefined
            ? "unbounded"
            : room < 0n
              ? "budget_exceeded"
              : !budget.strict &&
                  most > 0n &&
                  settled + most + this.mostOf(attempt) > this.ceiling(amount, this.mostOf(attempt))
                ? "in_flight"
                : undefined;
      if (why !== undefined && this.#enforces && !budget.observed) refusals.set(budget.id, why);
      else if (why !== undefined) wouldRefuse = true;
      if (left === undefined || room < left) left = room;
    }
    const frozenBy = [...this.freezes].filter(([, scope]) => this.covers(scope, attempt)).map(([id]) => id);
    return { frozenBy, refusals, wouldRefuse, left, isStrict };
  }

  /** What an open attempt may hold that asks for more: the amount, or the budgets that refuse. */
  judgeMore(
    attempt: ModelAttempt,
    least: bigint,
    wanted: bigint,
    atMs: number,
  ): { granted: bigint; refusing: readonly string[]; wouldRefuse: boolean } {
    let granted = wanted;
    let wouldRefuse = false;
    const refusing: string[] = [];
    for (const budget of this.covering(attempt)) {
      if (!budget.hard || budget.strict) continue;
      const { settled, reserved } = this.sums(budget, attempt.atMs);
      const room = this.amountAt(budget, atMs) - settled - reserved + this.held(budget, attempt);
      if (room >= least) granted = room < granted ? room : granted;
      else if (this.#enforces && !budget.observed) refusing.push(budget.id);
      else wouldRefuse = true;
    }
    return { granted, refusing, wouldRefuse };
  }

  /** What is booked for an attempt that nobody can say more of. */
  asHeld(attempt: ModelAttempt): bigint {
    const isStrict = this.covering(attempt).some(({ strict }) => strict);
    return (isStrict ? attempt.bound : undefined) ?? attempt.expected ?? 0n;
  }

  settle(attempt: ModelAttempt, cost: bigint): void {
    attempt.state = "settled";
    attempt.cost = cost;
  }

  open(): ModelAttempt[] {
    return [...this.attempts.values()].filter(({ state }) => state === "open");
  }

  work(): ModelAttempt[] {
    return [...this.attempts.values()].filter(({ state }) => state === "work");
  }

  /** All that is held, in every budget that covers it. */
  reserved(): bigint {
    let sum = 0n;
    for (const attempt of this.attempts.values())
      if (attempt.state !== "settled") for (const budget of this.covering(attempt)) sum += this.held(budget, attempt);
    return sum;
  }
}

/** A scope has one budget a window. */
export function placeOf({ window, each, scope }: ModelBudget): string {
  return JSON.stringify([window, each, Object.entries(scope).toSorted()]);
}
