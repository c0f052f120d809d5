// Reservations: money held before dispatch. The settled and reserved sums of every budget window, in memory, and the
// one decision that needs them: does this request fit every hard budget? Knows no storage: the writer loads it from the
// books, asks it inside each transaction, and throws it away when a commit fails.
import { amountAt, covers } from "../budgets.ts";
import type { Budget, BudgetRefusal, BudgetState, Freeze, Subject } from "../budgets.ts";
import { attemptAtMs } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import type { Calendar, Window } from "../windows.ts";

/** What an attempt asks to hold. `boundNanoUsd` undefined: no upper bound can be proven. `expectedNanoUsd` undefined:
 *  the model has no price. */
export type ReservationRequest = {
  readonly attemptId: AttemptId;
  readonly subject: Subject;
  readonly boundNanoUsd: NanoUsd | undefined;
  readonly expectedNanoUsd: NanoUsd | undefined;
  /** The most that it can come to while nobody holds it up, proven or reckoned. Undefined: the bound, else what is
   *  expected. */
  readonly mostNanoUsd?: NanoUsd | undefined;
};

/** What answers under way may come to beyond the amount of a budget of mode `expected`, whatever was learned of earlier
 *  ones: the amount once more, or, of a small budget, the most that so many such answers can cost; but never more than
 *  so many times the amount. */
const ANSWERS_BEYOND = 40n;
const TIMES_BEYOND = 7n;

/** How far settled money and the most that all answers under way can come to may reach, when one of them asks that can
 *  cost so much. */
function ceilingOf(amountNanoUsd: NanoUsd, mostNanoUsd: NanoUsd): NanoUsd {
  const answers = ANSWERS_BEYOND * mostNanoUsd;
  const atMost = TIMES_BEYOND * amountNanoUsd;
  const beyond = answers < atMost ? answers : atMost;
  return amountNanoUsd + (beyond > amountNanoUsd ? beyond : amountNanoUsd);
}

/** `observe` lets through what `enforce` refuses, and says what it would have refused. */
export type CapMode = "enforce" | "observe";

/** What has to be asked while a stream goes on past what is held for it. `enforced`: a hard budget of mode `expected`
 *  covers it. `counted`: only such as are tried out do. */
export type Growth = "none" | "counted" | "enforced";

export type Decision =
  | {
      readonly admitted: true;
      readonly leftNanoUsd: NanoUsd | undefined;
      /** A strict budget covers it: the bound is what is held, and what stands when nothing better is known. */
      readonly isStrict: boolean;
      readonly growth: Growth;
      readonly wouldRefuse: BudgetRefusal | undefined;
    }
  | { readonly admitted: false; readonly refusal: BudgetRefusal }
  | { readonly admitted: false; readonly frozen: Freeze };

/** What an open attempt holds after it asked for more, or why it gets no more. */
export type Extension =
  | {
      readonly heldNanoUsd: NanoUsd;
      /** What a budget that is tried out would have refused. */
      readonly wouldRefuse: BudgetRefusal | undefined;
    }
  | { readonly refusal: BudgetRefusal };

/** Reads a budget's settled sum in a window from the books. */
export type LoadSettled = (budget: Budget, window: Window) => NanoUsd;

export type ReservationBook = {
  /** Replaces the set of budgets; sums of new ones are read from the books, those of others stay, held money of open
   *  attempts is carried. */
  setBudgets(budgets: readonly Budget[]): void;
  /** Replaces the set of freezes: they bind the next admission. */
  setFreezes(freezes: readonly Freeze[]): void;
  freezes(): readonly Freeze[];
  /** Holds the money in every budget that covers the attempt, or in none. */
  reserve(request: ReservationRequest): Decision;
  /** A model that is asked for answers under this name: budgets on it hold too. False when that is known. */
  learnServedName(provider: string, model: string, servedModel: string): boolean;
  /** The name under which a model answered last, where that is another. */
  servedName(provider: string, model: string): string | undefined;
  /** Holds money for an attempt that was admitted before, without asking again: for rebuilding the sums. */
  carry(request: ReservationRequest): void;
  /** Holds more for an open attempt, in every budget of mode `expected` or in none: as much as is wanted, or what is
   *  left, but not less than the least. Undefined for an attempt that is not open. */
  extend(attemptId: AttemptId, least: NanoUsd, wanted: NanoUsd, atMs: number): Extension | undefined;
  /** Takes the hold away and books the cost, in the window of the reservation. `subject` has both model names. */
  settle(attemptId: AttemptId, cost: NanoUsd, subject: Subject): void;
  /** A correction of what was settled at an instant. Windows that are not in memory have it when they are read. */
  correct(atMs: number, subject: Subject, amount: NanoUsd): void;
  /** Reads the settled sums of budgets again: what counts in them is another than it was. */
  readAgain(isMeant: (budget: Budget) => boolean): void;
  /** Reads sums of budgets in their windows of an instant that are not in memory yet, at most so many. Whether none is
   *  missing now. */
  load(atMs: number, most: number): boolean;
  /** Sums of the budgets that cover a subject, or of all, in the window of an instant. */
  states(atMs: number, subject?: Subject): BudgetState[];
  /** Every settled sum in memory. */
  sums(): { readonly budget: Budget; readonly window: Window; readonly settledNanoUsd: NanoUsd }[];
  /** All money held now, and by how many attempts. Zero at rest. */
  reserved(): { readonly amount: NanoUsd; readonly attempts: number };
};

/** `most`: what all that is reserved can come to. */
class Sums {
  reserved = 0n;
  most = 0n;
  readonly window: Window;
  readonly #load: () => NanoUsd;
  #settled: NanoUsd | undefined;

  constructor(window: Window, load: () => NanoUsd) {
    this.window = window;
    this.#load = load;
  }

  get isRead(): boolean {
    return this.#settled !== undefined;
  }

  /** Read from the books when it is first asked for. */
  get settled(): NanoUsd {
    return (this.#settled ??= this.#load());
  }

  /** What is not read yet has it when it is. */
  add(amount: NanoUsd): void {
    if (this.#settled !== undefined) this.#settled += amount;
  }

  forget(): void {
    this.#settled = undefined;
  }
}
type Hold = { readonly budget: Budget; readonly sums: Sums; readonly amount: NanoUsd; readonly most: NanoUsd };
type Open = { readonly request: ReservationRequest; readonly holds: readonly Hold[] };

const MOST_SUBJECTS = 20_000;

export function createReservationBook(calendar: Calendar, mode: CapMode, loadSettled: LoadSettled): ReservationBook {
  let freezes: readonly Freeze[] = [];
  const covering = createCovering();
  const windows = createWindows(calendar, loadSettled);
  const open = new Map<AttemptId, Open>();
  const names = createServedNames();

  const hold = (request: ReservationRequest): Hold[] =>
    covering.of(request.subject).map((budget) => {
      const sums = windows.at(budget, attemptAtMs(request.attemptId));
      const amount = amountFor(budget, request) ?? 0n;
      const most = mostOf(request);
      sums.reserved += amount;
      sums.most += most;
      return { budget, sums, amount, most };
    });

  const letGo = (holds: readonly Hold[]): void => {
    for (const { sums, amount, most } of holds) {
      sums.reserved -= amount;
      sums.most -= most;
    }
  };

  return {
    setBudgets(next) {
      covering.set(next);
      windows.keep(next);
      for (const [attemptId, { request }] of open) open.set(attemptId, { request, holds: hold(request) });
    },

    setFreezes(next) {
      freezes = next;
    },

    freezes: () => freezes,

    reserve(request) {
      const atMs = attemptAtMs(request.attemptId);
      let wouldRefuse: BudgetRefusal | undefined;
      let left: NanoUsd | undefined;
      let isStrict = false;
      let growth = "none" as Growth;
      const asked = withServedName(names, request);
      const frozen = freezes.find(({ scope }) => covers(scope, asked.subject));
      if (frozen) return { admitted: false, frozen };
      for (const budget of covering.of(asked.subject)) {
        if (budget.kind !== "hard") continue;
        isStrict ||= budget.mode === "strict";
        const enforces = mode === "enforce" && !budget.observe;
        if (budget.mode === "expected") growth = enforces || growth === "enforced" ? "enforced" : "counted";
        const sums = windows.at(budget, atMs);
        const refusal = refusalOf(budget, sums, request);
        if (refusal && enforces) return { admitted: false, refusal };
        wouldRefuse ??= refusal;
        const leftHere = amountAt(budget, atMs) - sums.settled - sums.reserved - (amountFor(budget, request) ?? 0n);
        if (left === undefined || leftHere < left) left = leftHere;
      }
      open.set(request.attemptId, { request: asked, holds: hold(asked) });
      return { admitted: true, leftNanoUsd: left, isStrict, growth, wouldRefuse };
    },

    ...names,

    carry(request) {
      const asked = withServedName(names, request);
      open.set(request.attemptId, { request: asked, holds: hold(asked) });
    },

    extend(attemptId, least, wanted, atMs) {
      const one = open.get(attemptId);
      if (!one) return undefined;
      const grant = grantOf(one.holds, least, wanted, attemptId, atMs, mode);
      if ("refusal" in grant) return grant;
      const request = { ...one.request, expectedNanoUsd: grant.heldNanoUsd };
      letGo(one.holds);
      open.set(attemptId, { request, holds: hold(request) });
      return grant;
    },

    settle(attemptId, cost, subject) {
      letGo(open.get(attemptId)?.holds ?? []);
      open.delete(attemptId);
      for (const budget of covering.of(subject)) windows.at(budget, attemptAtMs(attemptId)).add(cost);
    },

    correct(atMs, subject, amount) {
      for (const budget of covering.of(subject)) {
        const sums = windows.known(budget, atMs);
        sums?.add(amount);
      }
    },

    load: (atMs, most) => windows.read(covering.all(), atMs, most),

    readAgain: (isMeant) => windows.readAgain(covering.all().filter(isMeant)),

    states(atMs, subject) {
      const wanted = subject ? covering.of(subject) : covering.all();
      return wanted.map((budget) => {
        const { settled, reserved, window } = windows.at(budget, atMs);
        const amountNanoUsd = amountAt(budget, atMs);
        return { budget, window, amountNanoUsd, settledNanoUsd: settled, reservedNanoUsd: reserved };
      });
    },

    sums: () => windows.all(covering.all()),

    reserved() {
      let sum = 0n;
      for (const { holds } of open.values()) for (const { amount } of holds) sum += amount;
      return { amount: sum, attempts: open.size };
    },
  };
}

/** An alias is held against the budgets of the name it was last answered under, too. */
function withServedName(names: ReturnType<typeof createServedNames>, request: ReservationRequest): ReservationRequest {
  const { subject } = request;
  const servedModel = names.servedName(subject.provider, subject.model);
  return servedModel === undefined ? request : { ...request, subject: { ...subject, servedModel } };
}

function amountFor(budget: Budget, request: ReservationRequest): NanoUsd | undefined {
  return budget.mode === "strict" ? request.boundNanoUsd : request.expectedNanoUsd;
}

function refusalOf(budget: Budget, sums: Sums, request: ReservationRequest): BudgetRefusal | undefined {
  const asked = amountFor(budget, request);
  const amountNanoUsd = amountAt(budget, attemptAtMs(request.attemptId));
  const state = {
    budget,
    window: sums.window,
    amountNanoUsd,
    settledNanoUsd: sums.settled,
    reservedNanoUsd: sums.reserved,
    askedNanoUsd: asked,
    attemptId: request.attemptId,
  };
  if (request.expectedNanoUsd === undefined) return { ...state, reason: "unpriced" };
  if (asked === undefined) return { ...state, reason: "unbounded" };
  if (sums.settled + sums.reserved + asked > amountNanoUsd) return { ...state, reason: "budget_exceeded" };
  const most = mostOf(request);
  const mostNanoUsd = sums.settled + sums.most + most;
  // One alone always may: refusing it would refuse it for ever.
  return budget.mode === "expected" && sums.most > 0n && mostNanoUsd > ceilingOf(amountNanoUsd, most)
    ? { ...state, reason: "in_flight", mostNanoUsd }
    : undefined;
}

/** How much more an open attempt may hold. Nothing is held here. */
function grantOf(
  holds: readonly Hold[],
  least: NanoUsd,
  wanted: NanoUsd,
  attemptId: AttemptId,
  atMs: number,
  mode: CapMode,
): Extension {
  let held = wanted;
  let wouldRefuse: BudgetRefusal | undefined;
  for (const { budget, sums, amount } of holds) {
    if (budget.kind !== "hard" || budget.mode === "strict") continue;
    const amountNanoUsd = amountAt(budget, atMs);
    const left = amountNanoUsd - sums.settled - (sums.reserved - amount);
    if (left < least) {
      const refusal: BudgetRefusal = {
        budget,
        window: sums.window,
        amountNanoUsd,
        settledNanoUsd: sums.settled,
        reservedNanoUsd: sums.reserved,
        askedNanoUsd: least - amount,
        attemptId,
        reason: "budget_exceeded",
      };
      if (mode === "enforce" && !budget.observe) return { refusal };
      wouldRefuse ??= refusal;
    } else if (left < held) held = left;
  }
  return { heldNanoUsd: held, wouldRefuse };
}

/** Never less than what is held for it. */
function mostOf({ boundNanoUsd, expectedNanoUsd, mostNanoUsd }: ReservationRequest): NanoUsd {
  const held = expectedNanoUsd ?? 0n;
  const most = mostNanoUsd ?? boundNanoUsd ?? held;
  return most > held ? most : held;
}

type Covering = {
  set(budgets: readonly Budget[]): void;
  all(): readonly Budget[];
  of(subject: Subject): readonly Budget[];
};

/** The budgets, and which of them cover whom: found once for each subject. */
function createCovering(): Covering {
  let budgets: readonly Budget[] = [];
  const known = new Map<string, readonly Budget[]>();
  return {
    set(next) {
      budgets = next;
      known.clear();
    },
    all: () => budgets,
    of(subject) {
      const { keyId, provider, model, servedModel, team, project, env } = subject;
      const name = JSON.stringify([keyId, provider, model, servedModel, team, project, env]);
      let found = known.get(name);
      if (!found) {
        found = budgets.filter((budget) => covers(budget.scope, subject));
        if (known.size >= MOST_SUBJECTS) known.clear();
        known.set(name, found);
      }
      return found;
    },
  };
}

type Windows = {
  /** The sums in the window of an instant. */
  at(budget: Budget, atMs: number): Sums;
  /** The same, as far as they are in memory. */
  known(budget: Budget, atMs: number): Sums | undefined;
  /** Reads sums that are not in memory, at most so many. Whether none is missing now. */
  read(budgets: readonly Budget[], atMs: number, most: number): boolean;
  /** Forgets other budgets; of these stays what is settled, and what is held begins at nothing. */
  keep(budgets: readonly Budget[]): void;
  readAgain(budgets: readonly Budget[]): void;
  all(budgets: readonly Budget[]): ReturnType<ReservationBook["sums"]>;
};

/** Sums by budget and window. A budget's scope and window never change: another one has another id. */
function createWindows(calendar: Calendar, loadSettled: LoadSettled): Windows {
  const byBudget = new Map<string, Map<string, Sums>>();
  const of = ({ id }: Budget): Sums[] => [...(byBudget.get(id)?.values() ?? [])];
  return {
    at(budget, atMs) {
      const window = calendar.window(budget.window, atMs);
      let ofBudget = byBudget.get(budget.id);
      if (!ofBudget) byBudget.set(budget.id, (ofBudget = new Map()));
      let sums = ofBudget.get(window.id);
      if (!sums) {
        for (const [id, old] of ofBudget)
          if (old.reserved === 0n && old.window.endMs < window.startMs) ofBudget.delete(id);
        ofBudget.set(window.id, (sums = new Sums(window, () => loadSettled(budget, window))));
      }
      return sums;
    },
    read(budgets, atMs, most) {
      const missing = budgets.map((budget) => this.at(budget, atMs)).filter(({ isRead }) => !isRead);
      for (const sums of missing.slice(0, most)) void sums.settled;
      return missing.length <= most;
    },
    known: (budget, atMs) => byBudget.get(budget.id)?.get(calendar.window(budget.window, atMs).id),
    keep(budgets) {
      const ids = new Set(budgets.map(({ id }) => id));
      for (const [id, ofBudget] of byBudget) {
        if (!ids.has(id)) byBudget.delete(id);
        for (const sums of ofBudget.values()) [sums.reserved, sums.most] = [0n, 0n];
      }
    },
    readAgain(budgets) {
      for (const budget of budgets) for (const sums of of(budget)) sums.forget();
    },
    all: (budgets) =>
      budgets.flatMap((budget) =>
        of(budget)
          .filter(({ isRead }) => isRead)
          .map(({ window, settled }) => ({ budget, window, settledNanoUsd: settled })),
      ),
  };
}

/** Under which name a model that is asked for was served last. */
function createServedNames(): Pick<ReservationBook, "learnServedName" | "servedName"> {
  const names = new Map<string, string>();
  const nameOf = (provider: string, model: string): string => `${provider}\n${model}`;
  return {
    learnServedName(provider, model, servedModel) {
      if (model === servedModel || names.get(nameOf(provider, model)) === servedModel) return false;
      if (names.size >= MOST_SUBJECTS) names.clear();
      names.set(nameOf(provider, model), servedModel);
      return true;
    },
    servedName: (provider, model) => names.get(nameOf(provider, model)),
  };
}
