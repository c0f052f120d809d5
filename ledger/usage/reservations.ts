// Reservations: money held before dispatch. The settled and reserved sums of every budget window, in memory, and the
// one decision that needs them: does this request fit every hard budget? Knows no storage: the writer loads it from the
// books, asks it inside each transaction, and throws it away when a commit fails. One of several nodes decides by its own
// part of each window: what it was granted, and what was last heard of the others.
import {
  amountAt,
  covers,
  coversCaller,
  findBudget,
  holdFor,
  isOverridden,
  memberBudget,
  MOST_MEMBERS,
  OTHER_MEMBERS,
  placesOf,
  ruleOf,
  rulesBehind,
  splitTag,
  tagOf,
} from "../budgets.ts";
import type { Budget, BudgetRefusal, BudgetState, Caller, Freeze, Subject } from "../budgets.ts";
import { attemptAtMs } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import type { Calendar, Window } from "../windows.ts";
import { SEAT } from "./usage-event.ts";

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
  /** Who pays, where it is not whom the key stands for; of a subscription what it probably would cost. */
  readonly payer?: string | undefined;
  readonly seatNanoUsd?: NanoUsd | undefined;
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
  | {
      readonly admitted: false;
      readonly refusal: BudgetRefusal;
      /** This node has too little of some of these; absent: more would not help. */
      readonly needs?: readonly Need[];
    }
  | { readonly admitted: false; readonly frozen: Freeze };

/** What an attempt needs of a window in which nothing is held without a grant. `refusal`: this node has too little. */
export type Need = { readonly part: Part; readonly needNanoUsd: NanoUsd; readonly refusal: BudgetRefusal | undefined };

/** What an open attempt holds after it asked for more, or why it gets no more. */
export type Extension =
  | {
      readonly heldNanoUsd: NanoUsd;
      /** What a budget that is tried out would have refused. */
      readonly wouldRefuse: BudgetRefusal | undefined;
    }
  | { readonly refusal: BudgetRefusal; readonly needs?: readonly Need[] };

/** What one of several nodes knows of a window beside its own part. */
export type Share = {
  /** What may be settled and held here. */
  grantedNanoUsd: NanoUsd;
  /** From that instant on nothing new is held of it, until more is granted: it rests on more money, which ends then. */
  untilMs: number;
  /** What all others have, as last heard. */
  others: { readonly settled: NanoUsd; readonly held: NanoUsd; readonly most: NanoUsd };
};

/** A budget's window as a book has it. `reserved`: what is held; `most`: what all that is held can come to. */
export type Part = {
  readonly budget: Budget;
  readonly window: Window;
  readonly settled: NanoUsd;
  readonly reserved: NanoUsd;
  readonly most: NanoUsd;
  /** Undefined: there are no others. */
  readonly share: Share | undefined;
};

/** What an attempt holds of one budget. */
export type Held = { readonly part: Part; readonly amount: NanoUsd; readonly most: NanoUsd };

/** Reads from the books what is settled in a window: of a budget, and of each member of a rule. */
export type LoadSettled = {
  readonly of: (budget: Budget, window: Window) => NanoUsd;
  readonly members: (rule: Budget, window: Window) => ReadonlyMap<string, NanoUsd>;
};

/** Whose an open attempt is. */
export type Holder = {
  readonly attemptId: AttemptId;
  readonly keyId: string;
  readonly provider: string;
  readonly model: string;
};

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
  /** Holds money for an attempt that was admitted before, without asking again: for rebuilding the sums. `held`: what the
   *  books say that it holds, by budget; else it is worked out. */
  carry(
    request: ReservationRequest,
    held?: readonly (readonly [budgetId: string, amount: NanoUsd, most: NanoUsd])[],
  ): void;
  /** What an open attempt holds. */
  heldBy(attemptId: AttemptId): readonly Held[];
  /** Lets go of what an attempt holds, with nothing settled: it is another's by now. */
  handOver(attemptId: AttemptId): void;
  /** Budgets that hold for a subject, members' caps among them. */
  covering(subject: Subject): readonly Budget[];
  /** Those that hold for whoever asks, whatever is asked for; of nobody all, without rules. */
  holding(caller: Caller | undefined): readonly Budget[];
  /** The window's part in memory. */
  part(budget: Budget, atMs: number): Part;
  /** All parts in memory. */
  parts(): readonly Part[];
  /** Of one of several nodes: parts that were changed since the set was last cleared. */
  readonly touched: Set<Part>;
  /** Holds more for an open attempt, in every budget of mode `expected` or in none: as much as is wanted, or what is
   *  left, but not less than the least. Undefined for an attempt that is not open. */
  extend(attemptId: AttemptId, least: NanoUsd, wanted: NanoUsd, atMs: number): Extension | undefined;
  /** Whose an open attempt is. */
  holder(attemptId: AttemptId): Holder | undefined;
  /** Takes the hold away and books the cost, in the window of the reservation. `subject` has both model names. */
  settle(attemptId: AttemptId, cost: NanoUsd, subject: Subject): void;
  /** A correction of what was settled at an instant. Windows that are not in memory have it when they are read. */
  correct(atMs: number, subject: Subject, amount: NanoUsd): void;
  /** Reads the settled sums of budgets again: what counts in them is another than it was. */
  readAgain(isMeant: (budget: Budget) => boolean): void;
  /** Reads sums of budgets in their windows of an instant that are not in memory yet, at most so many. Whether none is
   *  missing now. */
  load(atMs: number, most: number): boolean;
  /** Sums of the budgets that hold for whoever asks, whatever is asked for, in the window of an instant; or of all, without
   *  rules. */
  states(atMs: number, caller?: Caller): BudgetState[];
  /** All money held now, and by how many attempts. Zero at rest. */
  reserved(): { readonly amount: NanoUsd; readonly attempts: number };
};

class Sums implements Part {
  reserved = 0n;
  most = 0n;
  budget: Budget;
  readonly window: Window;
  readonly share: Share | undefined;
  /** Over when its budget was made: nothing of it counts. */
  readonly isLeftOut: boolean;
  readonly #load: () => NanoUsd;
  #settled: NanoUsd | undefined;

  constructor(budget: Budget, window: Window, load: () => NanoUsd, share: Share | undefined, isLeftOut: boolean) {
    this.isLeftOut = isLeftOut;
    this.budget = budget;
    this.window = window;
    this.share = share;
    this.#load = load;
  }

  get isRead(): boolean {
    return this.#settled !== undefined;
  }

  /** Read from the books when it is first asked for. */
  get settled(): NanoUsd {
    return (this.#settled ??= this.#load());
  }

  /** What is not read yet has it when it is; of one of several nodes all is read beforehand. */
  add(amount: NanoUsd): void {
    if (this.share) this.#settled = this.settled + amount;
    else if (this.#settled !== undefined) this.#settled += amount;
  }

  /** Read with others. */
  begin(settled: NanoUsd): void {
    this.#settled = settled;
  }

  forget(): void {
    this.#settled = undefined;
  }
}
type Hold = { readonly part: Sums; readonly amount: NanoUsd; readonly most: NanoUsd };
type Open = { readonly request: ReservationRequest; readonly holds: readonly Hold[] };

/** With what others have. */
function settledOf({ settled, share }: Part): NanoUsd {
  return share ? settled + share.others.settled : settled;
}

function reservedOf({ reserved, share }: Part): NanoUsd {
  return share ? reserved + share.others.held : reserved;
}

function mostIn({ most, share }: Part): NanoUsd {
  return share ? most + share.others.most : most;
}

/** What a node may still hold of its part. */
export function surplusOf({ settled, reserved, share }: Part, atMs: number): NanoUsd {
  if (!share || atMs >= share.untilMs) return 0n;
  return share.grantedNanoUsd - settled - reserved;
}

const MOST_SUBJECTS = 20_000;

/** `shareOf`: of one of several nodes, what it knows of a window; undefined: one that was over when its budget was made,
 *  in which nothing is held or looked at. */
export function createReservationBook(
  calendar: Calendar,
  mode: CapMode,
  loadSettled: LoadSettled,
  shareOf?: (budget: Budget, window: Window) => Share | undefined,
): ReservationBook {
  let freezes: readonly Freeze[] = [];
  const covering = createCovering();
  const windows = createWindows(calendar, loadSettled, covering.seats, shareOf);
  const names = createServedNames();
  const { open, hold, holdIn, holdOf, letGo, handOver, touched, touch } = createHolds(covering, windows);

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
      const asked = withServedName(names, request);
      const frozen = freezes.find(({ scope }) => covers(scope, asked.subject));
      if (frozen) return { admitted: false, frozen };
      // What a subscription pays is in no budget of money.
      const parts = (asked.payer === SEAT ? [] : covering.of(asked.subject))
        .map((budget) => windows.at(budget, attemptAtMs(request.attemptId)))
        .filter(({ isLeftOut }) => !isLeftOut);
      const decision = decide(parts, request, mode);
      if (decision.admitted) open.set(request.attemptId, { request: asked, holds: hold(asked) });
      return decision;
    },

    ...names,

    carry(request, held) {
      const asked = withServedName(names, request);
      const atMs = attemptAtMs(request.attemptId);
      const known = held?.flatMap(([id, ...amounts]) => {
        const budget = findBudget(covering.all(), id);
        return budget ? [holdOf(budget, atMs, ...amounts)] : [];
      });
      open.set(request.attemptId, { request: asked, holds: known ?? hold(asked) });
    },

    extend(attemptId, least, wanted, atMs) {
      const one = open.get(attemptId);
      if (!one) return undefined;
      const grant = grantOf(one.holds, least, wanted, attemptId, atMs, mode);
      if ("refusal" in grant) return grant;
      const request = { ...one.request, expectedNanoUsd: grant.heldNanoUsd };
      letGo(one.holds);
      // In the budgets in which it was looked at: under a name that was learned since it may be in others too.
      const budgets = one.holds.map(({ part }) => part.budget);
      open.set(attemptId, { request, holds: holdIn(budgets, request) });
      return grant;
    },

    holder(attemptId) {
      const one = open.get(attemptId);
      if (!one) return undefined;
      const { keyId, provider, model } = one.request.subject;
      return { attemptId, keyId, provider, model };
    },

    heldBy: (attemptId) => open.get(attemptId)?.holds ?? [],

    handOver,

    settle(attemptId, cost, subject) {
      handOver(attemptId);
      for (const budget of covering.of(subject)) {
        const part = windows.at(budget, attemptAtMs(attemptId));
        part.add(cost);
        touch(part);
      }
    },

    correct(atMs, subject, amount) {
      for (const budget of covering.of(subject)) {
        windows.known(budget, atMs)?.add(amount);
      }
    },

    covering: (subject) => covering.of(subject),
    holding: (caller) => covering.holding(caller),
    part: (budget, atMs) => windows.at(budget, atMs),
    parts: () => windows.all(),
    touched,

    load: (atMs, most) => windows.read(covering.all(), atMs, most),

    readAgain: (isMeant) => windows.readAgain(covering.all().filter(isMeant)),

    states(atMs, caller) {
      return covering.holding(caller).map((budget) => stateOf(windows.at(budget, atMs), atMs));
    },

    reserved() {
      let sum = 0n;
      for (const { holds } of open.values()) for (const { amount } of holds) sum += amount;
      return { amount: sum, attempts: open.size };
    },
  };
}

/** Open attempts, and what each holds. `touch`: of one of several nodes, a part that was changed. */
function createHolds(
  covering: Covering,
  windows: Windows,
): {
  readonly open: Map<AttemptId, Open>;
  readonly touched: Set<Part>;
  readonly touch: (part: Part) => void;
  readonly holdOf: (budget: Budget, atMs: number, amount: NanoUsd, most: NanoUsd) => Hold;
  readonly holdIn: (budgets: readonly Budget[], request: ReservationRequest) => Hold[];
  readonly hold: (request: ReservationRequest) => Hold[];
  readonly letGo: (holds: readonly Hold[]) => void;
  readonly handOver: (attemptId: AttemptId) => void;
} {
  const open = new Map<AttemptId, Open>();
  const touched = new Set<Part>();
  const touch = (part: Part): void => {
    if (part.share) touched.add(part);
  };

  const holdOf = (budget: Budget, atMs: number, amount: NanoUsd, most: NanoUsd): Hold => {
    const part = windows.at(budget, atMs);
    touch(part);
    part.reserved += amount;
    part.most += most;
    return { part, amount, most };
  };

  const holdIn = (budgets: readonly Budget[], request: ReservationRequest): Hold[] => {
    const atMs = attemptAtMs(request.attemptId);
    return budgets
      .filter((budget) => !windows.at(budget, atMs).isLeftOut)
      .map((budget) => holdOf(budget, atMs, amountFor(budget, request) ?? 0n, mostOf(request)));
  };

  const hold = (request: ReservationRequest): Hold[] =>
    request.payer === SEAT ? [] : holdIn(covering.of(request.subject), request);

  const letGo = (holds: readonly Hold[]): void => {
    for (const { part, amount, most } of holds) {
      touch(part);
      part.reserved -= amount;
      part.most -= most;
    }
  };

  const handOver = (attemptId: AttemptId): void => {
    letGo(open.get(attemptId)?.holds ?? []);
    open.delete(attemptId);
  };

  return { open, touched, touch, holdOf, holdIn, hold, letGo, handOver };
}

function stateOf(part: Part, atMs: number): BudgetState {
  return {
    budget: part.budget,
    window: part.window,
    amountNanoUsd: amountAt(part.budget, atMs),
    settledNanoUsd: settledOf(part),
    reservedNanoUsd: reservedOf(part),
  };
}

/** Whether a request fits every hard budget that covers it. Nothing is held here. */
function decide(parts: readonly Sums[], request: ReservationRequest, mode: CapMode): Decision {
  const atMs = attemptAtMs(request.attemptId);
  let wouldRefuse: BudgetRefusal | undefined;
  let left: NanoUsd | undefined;
  let isStrict = false;
  let growth = "none" as Growth;
  const needs: Need[] = [];
  for (const sums of parts) {
    const { budget } = sums;
    if (budget.kind !== "hard") continue;
    isStrict ||= budget.mode === "strict";
    const enforces = isEnforced(budget, mode);
    if (budget.mode === "expected") growth = enforces || growth === "enforced" ? "enforced" : "counted";
    const refusal = refusalOf(sums, request, enforces);
    const asked = amountFor(budget, request) ?? 0n;
    // Another node may have what this one lacks.
    if (refusal && enforces && (!sums.share || refusal.reason !== "budget_exceeded"))
      return { admitted: false, refusal };
    if (enforces && sums.share) needs.push({ part: sums, needNanoUsd: asked, refusal });
    else wouldRefuse ??= refusal;
    const leftHere = amountAt(budget, atMs) - settledOf(sums) - reservedOf(sums) - asked;
    if (left === undefined || leftHere < left) left = leftHere;
  }
  const refusal = needs.find((need) => need.refusal)?.refusal;
  if (refusal) return { admitted: false, refusal, needs };
  return { admitted: true, leftNanoUsd: left, isStrict, growth, wouldRefuse };
}

/** An alias is held against the budgets of the name it was last answered under, too. */
function withServedName(names: ReturnType<typeof createServedNames>, request: ReservationRequest): ReservationRequest {
  const { subject } = request;
  const servedModel = names.servedName(subject.provider, subject.model);
  return servedModel === undefined ? request : { ...request, subject: { ...subject, servedModel } };
}

export function amountFor(
  budget: Budget,
  request: Pick<ReservationRequest, "boundNanoUsd" | "expectedNanoUsd">,
): NanoUsd | undefined {
  return budget.mode === "strict" ? request.boundNanoUsd : request.expectedNanoUsd;
}

export function isEnforced(budget: Budget, mode: CapMode): boolean {
  return mode === "enforce" && !budget.observe;
}

function refusalOf(sums: Sums, request: ReservationRequest, enforces: boolean): BudgetRefusal | undefined {
  const { budget } = sums;
  const asked = amountFor(budget, request);
  const atMs = attemptAtMs(request.attemptId);
  const state = { ...stateOf(sums, atMs), askedNanoUsd: asked, attemptId: request.attemptId };
  const { amountNanoUsd, settledNanoUsd, reservedNanoUsd } = state;
  if (request.expectedNanoUsd === undefined) return { ...state, reason: "unpriced" };
  if (asked === undefined) return { ...state, reason: "unbounded" };
  const fits =
    sums.share && enforces ? asked <= surplusOf(sums, atMs) : settledNanoUsd + reservedNanoUsd + asked <= amountNanoUsd;
  if (!fits) return { ...state, reason: "budget_exceeded" };
  const most = mostOf(request);
  const mostNanoUsd = settledNanoUsd + mostIn(sums) + most;
  // One alone always may: refusing it would refuse it for ever.
  return budget.mode === "expected" && mostIn(sums) > 0n && mostNanoUsd > ceilingOf(amountNanoUsd, most)
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
  const needs: Need[] = [];
  for (const { part: sums, amount } of holds) {
    const { budget } = sums;
    if (budget.kind !== "hard" || budget.mode === "strict") continue;
    const enforces = isEnforced(budget, mode);
    const state = stateOf(sums, atMs);
    const left =
      sums.share && enforces
        ? amount + surplusOf(sums, atMs)
        : state.amountNanoUsd - state.settledNanoUsd - (state.reservedNanoUsd - amount);
    const refusal: BudgetRefusal | undefined =
      left < least ? { ...state, askedNanoUsd: least - amount, attemptId, reason: "budget_exceeded" } : undefined;
    if (enforces && sums.share) needs.push({ part: sums, needNanoUsd: least - amount, refusal });
    else if (refusal && enforces) return { refusal };
    else wouldRefuse ??= refusal;
    if (left >= least && left < held) held = left;
  }
  const refusal = needs.find((need) => need.refusal)?.refusal;
  if (refusal) return { refusal, needs };
  return { heldNanoUsd: held, wouldRefuse };
}

/** Never less than what is held for it. */
export function mostOf({
  boundNanoUsd,
  expectedNanoUsd,
  mostNanoUsd,
}: Pick<ReservationRequest, "boundNanoUsd" | "expectedNanoUsd" | "mostNanoUsd">): NanoUsd {
  const held = expectedNanoUsd ?? 0n;
  const most = mostNanoUsd ?? boundNanoUsd ?? held;
  return most > held ? most : held;
}

/** Members that have a cap of their own, by rule: as long as there are not too many. */
type Seats = {
  /** Whether it has one, or gets one. */
  take(ruleId: string, capId: string): boolean;
  leave(ruleId: string, capId: string): void;
  keep(ruleIds: ReadonlySet<string>): void;
};

/** `onFree`: a rule that was full has room again. */
function createSeats(onFree: () => void): Seats {
  const taken = new Map<string, Set<string>>();
  return {
    take(ruleId, capId) {
      const own = taken.get(ruleId) ?? new Set();
      taken.set(ruleId, own);
      return own.has(capId) || (own.size < MOST_MEMBERS && own.add(capId).size > 0);
    },
    leave(ruleId, capId) {
      const own = taken.get(ruleId);
      const isFull = own !== undefined && own.size >= MOST_MEMBERS;
      if (own?.delete(capId) && isFull) onFree();
    },
    keep(ruleIds) {
      for (const id of taken.keys()) if (!ruleIds.has(id)) taken.delete(id);
    },
  };
}

type Covering = {
  readonly seats: Seats;
  set(budgets: readonly Budget[]): void;
  all(): readonly Budget[];
  of(subject: Subject): readonly Budget[];
  /** Of whatever the caller may ask for; of nobody: all that are no rules. */
  holding(caller: Caller | undefined): readonly Budget[];
};

/** The budgets, and which of them cover whom: found once for each subject. */
function createCovering(): Covering {
  let budgets: readonly Budget[] = [];
  let places: ReadonlySet<string> = new Set();
  /** Tags that budgets look at. */
  let tagNames: readonly string[] = [];
  const known = new Map<string, readonly Budget[]>();
  const seats = createSeats(() => known.clear());
  const seat = (budget: Budget): Budget => {
    const { ruleId } = budget;
    if (ruleId === undefined || seats.take(ruleId, budget.id)) return budget;
    const rule = budgets.find(({ id }) => id === ruleId);
    return rule ? memberBudget(rule, OTHER_MEMBERS) : budget;
  };
  return {
    seats,
    set(next) {
      budgets = next;
      places = placesOf(next);
      tagNames = [...new Set(next.flatMap(tagNamesOf))];
      known.clear();
      seats.keep(new Set(next.map(({ id }) => id)));
    },
    all: () => budgets,
    holding: (caller) =>
      caller
        ? holdFor(budgets, caller, places, coversCaller).map(seat)
        : budgets.filter(({ each }) => each === undefined),
    of(subject) {
      const { keyId, provider, model, servedModel, team, project, env, user, tags } = subject;
      const tagged = tagNames.map((name) => tagOf(tags, name));
      const name = JSON.stringify([keyId, provider, model, servedModel, team, project, env, user, ...tagged]);
      let found = known.get(name);
      if (!found) {
        found = holdFor(budgets, subject, places, covers).map(seat);
        if (known.size >= MOST_SUBJECTS) known.clear();
        known.set(name, found);
      }
      return found;
    },
  };
}

function tagNamesOf({ scope, each }: Budget): string[] {
  return [
    ...(scope.tag === undefined ? [] : [splitTag(scope.tag)[0]]),
    ...(each?.startsWith("tag:") ? [each.slice("tag:".length)] : []),
  ];
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
  /** Those that were read. */
  all(): readonly Part[];
};

/** Sums by budget and window; those of a rule's members by the rule. A budget's scope and window never change: another one
 *  has another id. */
function createWindows(
  calendar: Calendar,
  load: LoadSettled,
  seats: Seats,
  shareOf?: (budget: Budget, window: Window) => Share | undefined,
): Windows {
  const byBudget = new Map<string, Map<string, Sums>>();
  const rules = new Map<string, Rule>();
  let all: readonly Budget[] = [];
  let places: ReadonlySet<string> = new Set();
  const sumsOf = (budget: Budget, window: Window): Sums => {
    let ofBudget = byBudget.get(budget.id);
    if (!ofBudget) byBudget.set(budget.id, (ofBudget = new Map()));
    let sums = ofBudget.get(window.id);
    if (!sums) {
      for (const [id, old] of ofBudget) {
        if (!isDone(old, window)) continue;
        ofBudget.delete(id);
        rules.get(budget.ruleId ?? "")?.windows.delete(id);
      }
      const share = shareOf?.(budget, window);
      const isLeftOut = shareOf !== undefined && share === undefined;
      sums = new Sums(budget, window, () => load.of(budget, window), share, isLeftOut);
      ofBudget.set(window.id, sums);
    }
    // It may have been raised since.
    sums.budget = budget;
    return sums;
  };

  /** All members of a rule are read at once: whom the books do not name has spent nothing. One of several nodes knows each
   *  by its own part. */
  const readMembers = (rule: Rule, window: Window): void => {
    if (shareOf || rule.windows.has(window.id)) return;
    forgetOver(rule, window, byBudget, seats);
    rule.windows.set(window.id, window);
    const others = memberBudget(rule.budget, OTHER_MEMBERS);
    let ofOthers = 0n;
    for (const [member, amount] of load.members(rule.budget, window)) {
      const own = memberBudget(rule.budget, member);
      if (isOverridden(own, places)) continue;
      // Who has a cap of his own keeps it; of the others those who have spent the most come first.
      if (!seats.take(rule.budget.id, own.id)) {
        ofOthers += amount;
        continue;
      }
      rule.members.add(own.id);
      sumsOf(own, window).begin(amount);
    }
    if (ofOthers > 0n) {
      rule.members.add(others.id);
      sumsOf(others, window).begin(ofOthers);
    }
    for (const id of rule.members) {
      const sums = byBudget.get(id)?.get(window.id);
      if (sums && !sums.isRead) sums.begin(0n);
    }
  };
  return {
    at(budget, atMs) {
      const window = calendar.window(budget.window, atMs);
      const rule = budget.ruleId === undefined ? undefined : rules.get(budget.ruleId);
      if (!rule) return sumsOf(budget, window);
      readMembers(rule, window);
      rule.members.add(budget.id);
      const sums = sumsOf(budget, window);
      if (!shareOf && !sums.isRead) sums.begin(0n);
      return sums;
    },
    read(budgets, atMs, most) {
      let left = most;
      for (const budget of budgets) {
        const window = calendar.window(budget.window, atMs);
        const rule = rules.get(budget.id);
        if (rule ? shareOf !== undefined || rule.windows.has(window.id) : sumsOf(budget, window).isRead) continue;
        if (left-- === 0) return false;
        if (rule) readMembers(rule, window);
        else void sumsOf(budget, window).settled;
      }
      return true;
    },
    known(budget, atMs) {
      const window = calendar.window(budget.window, atMs);
      const isRead = budget.ruleId !== undefined && rules.get(budget.ruleId)?.windows.has(window.id) === true;
      return isRead ? this.at(budget, atMs) : byBudget.get(budget.id)?.get(window.id);
    },
    keep(budgets) {
      const before = all;
      all = budgets;
      places = placesOf(budgets);
      const ids = new Set(budgets.map(({ id }) => id));
      for (const [id, ofBudget] of byBudget) {
        if (!ids.has(ruleOf(id).id)) byBudget.delete(id);
        for (const sums of ofBudget.values()) [sums.reserved, sums.most] = [0n, 0n];
      }
      for (const id of rules.keys()) if (!ids.has(id)) rules.delete(id);
      for (const budget of budgets) {
        if (budget.each === undefined) continue;
        const known = rules.get(budget.id);
        const isMoved = isPlaceMoved(budget, before, budgets);
        // Another budget stands, or has stood, in the place of a member's cap: all of them are read again.
        if (isMoved) for (const id of known?.members ?? []) byBudget.delete(id);
        const { windows: read, members } = (isMoved ? undefined : known) ?? { windows: new Map(), members: new Set() };
        rules.set(budget.id, { budget, windows: read, members });
      }
    },
    readAgain(budgets) {
      for (const { id } of budgets) {
        const rule = rules.get(id);
        const read = [...(rule?.windows.values() ?? [])];
        if (rule) forgetMembers(rule, byBudget);
        for (const window of read) if (rule) readMembers(rule, window);
        for (const sums of byBudget.get(id)?.values() ?? []) sums.forget();
      }
    },
    all: () => [...byBudget.values()].flatMap((ofBudget) => [...ofBudget.values()].filter(({ isRead }) => isRead)),
  };
}

/** Whether budgets that came or went stand in the place of a member's cap. */
export function isPlaceMoved(rule: Budget, before: readonly Budget[], after: readonly Budget[]): boolean {
  const [gone, come] = [placesOf(before), placesOf(after)];
  return [...before, ...after].some((budget) => {
    if (budget.each !== undefined) return false;
    const [place = ""] = placesOf([budget]);
    return gone.has(place) !== come.has(place) && rulesBehind(budget, [rule]).length > 0;
  });
}

/** A rule, its windows that were read, and the ids of its members' caps that were seen. */
type Rule = { readonly budget: Budget; readonly windows: Map<string, Window>; readonly members: Set<string> };

/** Nothing of it is asked for any more once a later window has begun. */
function isDone({ share, reserved, window }: Sums, later: Window): boolean {
  return !share && reserved === 0n && window.endMs < later.startMs;
}

/** Members that have nothing in windows of now are not kept. */
function forgetOver(
  { budget, windows, members }: Rule,
  now: Window,
  byBudget: Map<string, Map<string, Sums>>,
  seats: Seats,
): void {
  for (const [id, { endMs }] of windows) if (endMs < now.startMs) windows.delete(id);
  for (const member of members) {
    const ofMember = byBudget.get(member);
    for (const [id, sums] of ofMember ?? []) if (isDone(sums, now)) ofMember?.delete(id);
    if (ofMember && ofMember.size > 0) continue;
    byBudget.delete(member);
    members.delete(member);
    seats.leave(budget.id, member);
  }
}

function forgetMembers({ windows, members }: Rule, byBudget: ReadonlyMap<string, ReadonlyMap<string, Sums>>): void {
  windows.clear();
  for (const id of members) for (const sums of byBudget.get(id)?.values() ?? []) if (!sums.share) sums.forget();
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
