// One world: the product's own booking on books in memory, and the model beside it. A seed decides what happens, in
// which order and what goes wrong; after each step both have to say the same.
import Database from "better-sqlite3";
import { answerFrom } from "../../ledger/asking.ts";
import { readAdjustmentDifferences } from "../../ledger/usage/adjustments.ts";
import { checkAudit } from "../../ledger/usage/audit.ts";
import { createBooking } from "../../ledger/usage/booking.ts";
import type { Booking } from "../../ledger/usage/booking.ts";
import type { Change } from "../../ledger/usage/changes.ts";
import { eventRow } from "../../ledger/usage/event-columns.ts";
import { attemptAtMs, createAttemptIds } from "../../ledger/ids.ts";
import { openScratch } from "../../ledger/sqlite.ts";
import type { Sqlite } from "../../ledger/sqlite.ts";
import { askDayToSeal, readSealDifferences } from "../../ledger/usage/seals.ts";
import { sealOf } from "../seal-of.ts";
import { readFoldDifferences, readRegisterDifferences } from "../../ledger/usage/verify.ts";
import { decodeAnswers, decodeBatch, encodeAnswers, encodeBatch } from "../../ledger/usage/wire.ts";
import type { Answer, Operation } from "../../ledger/usage/wire.ts";
import { booksOn } from "../books.ts";
import { random } from "../seed.ts";
import { event } from "../usage-event.ts";
import type { Budget } from "../../ledger/budgets.ts";
import { Model, placeOf } from "./model.ts";
import type { ModelAttempt, ModelBudget, Scope, Subject } from "./model.ts";
import { verifyMemory } from "./verify-memory.ts";

const ZONES = ["UTC", "Asia/Tokyo", "Asia/Kathmandu", "America/Los_Angeles"];
const WINDOWS = ["hour", "day", "week", "month", "quarter", "total"] as const;
/** Names to ask for, and the one they answer under. */
const ALIASES = ["latest-1", "latest-2", "latest-3", "latest-4", "latest-5", "latest-6"];
const ALIASED = "gpt-5-2026";
const MINUTE = 60_000;
const DAY = 1_440 * MINUTE;
/** Places where a year turns: DST begins and ends, a leap day, months, quarters and years end. */
const STARTS = [
  "2026-03-08T09:30Z",
  "2026-11-01T08:10Z",
  "2028-02-28T22:00Z",
  "2026-12-31T14:00Z",
  "2026-03-31T22:40Z",
  "2026-07-12T10:00Z",
];

/** What the model has to hear when the product has booked an operation; checks what the product said. */
type Planned = { readonly operation: Operation; heard(answer: Answer): void; readonly mayFail?: boolean };

class Disagreement extends Error {}

export class World {
  readonly #next: () => number;
  readonly #database: Sqlite;
  readonly #zone: string;
  readonly #mode: "enforce" | "observe";
  readonly #model: Model;
  #booking!: Booking;
  #nextId!: () => number;
  #now: number;
  #made = 0;
  /** Aliases that have answered, by provider: what they stand for is known from then on. */
  readonly #aliased = new Set<string>();
  /** Writes until one fails; 0: none does. */
  #failsAfter = 0;

  constructor(seed: number) {
    this.#next = random(seed);
    this.#zone = this.#pick(ZONES);
    this.#mode = this.#next() < 0.9 ? "enforce" : "observe";
    this.#now = Date.parse(this.#pick(STARTS));
    this.#model = new Model(this.#zone, this.#mode === "enforce");
    this.#database = failing(openScratch("usage"), () => this.#failsAfter > 0 && --this.#failsAfter === 0);
    this.#start();
  }

  /** Lets something happen: a batch of operations, a change of the clock, a failure, a crash. Returns how many steps
   *  that were. */
  step(): number {
    this.#tick();
    const dice = this.#next();
    if (dice < 0.015) return this.#crash();
    if (dice < 0.025) return this.#check();
    const batch = Array.from({ length: this.#next() < 0.6 ? 1 : 1 + this.#whole(5) }, () => this.#plan);
    if (dice < 0.05) this.#failsAfter = 1 + this.#whole(batch.length * 2);
    const planned: Planned[] = [];
    // Attempts that this batch ends already: a second end is planned on purpose, never by accident.
    const busy = new Set<number>();
    for (const plan of batch) planned.push(plan.call(this, busy));
    this.#book(planned);
    return planned.length;
  }

  /** Ends everything, and checks all that must hold at rest. */
  async end(): Promise<void> {
    this.#failsAfter = 0;
    for (const attempt of this.#model.open()) this.#book([this.#settle(attempt, new Set())]);
    for (const attempt of this.#model.work()) this.#book([this.#settle(attempt, new Set())]);
    this.#check();
    const before = this.#states();
    this.#start();
    same(this.#states(), before, "a restart changed the sums");
    same(this.#verified(), { differences: [], reservedNanoUsd: 0n }, "at rest");
    same(await readFoldDifferences(booksOn(this.#database)), [], "sums fold");
    same(await readRegisterDifferences(booksOn(this.#database)), [], "register");
    same(await readSealDifferences(booksOn(this.#database)), [], "seals");
    same(await readAdjustmentDifferences(booksOn(this.#database)), [], "adjustments");
    same((await checkAudit(booksOn(this.#database))).broken, undefined, "audit");
    const rows = this.#database
      .prepare("SELECT attempt_id AS id, cost_nano_usd AS cost FROM events ORDER BY 1")
      .all() as { id: bigint; cost: bigint | null }[];
    const adjusted = new Map(
      (
        this.#database
          .prepare("SELECT attempt_id AS id, SUM(amount_nano_usd) AS sum FROM adjustments GROUP BY 1")
          .all() as { id: bigint; sum: bigint }[]
      ).map(({ id, sum }) => [id, sum]),
    );
    same(
      rows.map(({ id, cost }) => [Number(id), (cost ?? 0n) + (adjusted.get(id) ?? 0n)]),
      [...this.#model.attempts.values()]
        .map(({ id, cost }) => [id, cost])
        .toSorted(([a], [b]) => Number(a) - Number(b)),
      "one event an attempt, with its cost",
    );
    this.#database.close();
  }

  #start(): void {
    this.#booking = createBooking(this.#database, this.#zone, this.#mode, this.#now);
    this.#nextId = createAttemptIds(this.#booking.lastAttemptId, () => this.#now);
  }

  /** The process dies: what is in memory is gone, and what was begun is rolled back. */
  #crash(): number {
    if (this.#next() < 0.3) {
      this.#failsAfter = 1;
      this.#booking.book(wired([this.#reserve(new Set()).operation]));
      this.#failsAfter = 0;
    }
    const open = this.#model.open();
    for (const attempt of open) this.#settleAsHeld(attempt);
    this.#readAgain();
    this.#start();
    same(this.#booking.recovered, open.length, "attempts found open");
    return this.#check();
  }

  #tick(): void {
    const dice = this.#next();
    if (dice < 0.9) this.#now += this.#whole(2_000);
    else if (dice < 0.96) this.#now += this.#whole(3 * 60) * MINUTE;
    else if (dice < 0.98) this.#now += this.#whole(3 * DAY);
    else if (dice < 0.985) this.#now += this.#whole(100 * DAY);
    else this.#now -= this.#whole(2 * 60) * MINUTE;
  }

  #plan(busy: Set<number>): Planned {
    const dice = this.#next();
    const open = this.#model.open().filter(({ id }) => !busy.has(id));
    const attempt = open.length > 0 ? this.#pick(open) : undefined;
    if (dice < 0.36 || !attempt) return dice < 0.02 ? this.#change() : this.#reserve(busy);
    if (dice < 0.62) return this.#settle(attempt, busy);
    if (dice < 0.76) return this.#extend(attempt, busy);
    if (dice < 0.81) return this.#suspend(attempt, busy);
    if (dice < 0.86) return this.#settleTwice(busy);
    if (dice < 0.92) return this.#endWork(busy);
    if (dice < 0.95) return this.#adjust(busy);
    if (dice < 0.96) return this.#seal(busy);
    return this.#change();
  }

  #book(planned: readonly Planned[]): void {
    const isFailing = this.#failsAfter > 0;
    const answers = decodeAnswers(encodeAnswers(this.#booking.book(wired(planned.map(({ operation }) => operation)))));
    const hasFailed = isFailing && this.#failsAfter === 0;
    this.#failsAfter = 0;
    // What fails has memory read from the books again: what was asked for under the alias is then held under both
    // names.
    const hasFailure = answers.some(({ type }) => type === "failure");
    planned.forEach(({ operation, heard, mayFail }, i) => {
      if (hasFailure && (i === 0 || answers[i - 1]?.type === "failure")) this.#readAgain();
      const answer = answers[i];
      if (!answer) throw new Disagreement(`no answer to ${operation.type}`);
      if (answer.type === "failure") {
        if (!(hasFailed && answer.kind === "storage") && !mayFail)
          throw new Disagreement(`${operation.type} failed: ${answer.message}`);
        return;
      }
      heard(answer);
    });
    if (answers.at(-1)?.type === "failure") this.#readAgain();
  }

  #isKnown({ provider, model }: Subject): boolean {
    return this.#aliased.has(`${provider} ${model}`);
  }

  #readAgain(): void {
    for (const attempt of [...this.#model.open(), ...this.#model.work()])
      if (this.#isKnown(attempt.subject)) attempt.served = ALIASED;
  }

  #ask(operation: Operation): Answer {
    const [answer] = decodeAnswers(encodeAnswers(this.#booking.book(wired([operation]))));
    if (!answer) throw new Disagreement("no answer");
    return answer;
  }

  #subject(): Subject {
    return {
      keyId: this.#pick(["k1", "k2", "k3"]),
      team: this.#pick(["search", "ads", ""]),
      project: this.#pick(["", "p"]),
      env: this.#pick(["prod", "dev"]),
      user: this.#pick(["", "user_1", "user_2"]),
      provider: this.#pick(["openai", "anthropic"]),
      model: this.#pick(["gpt-5", "gpt-5-mini", "claude", this.#pick(ALIASES)]),
      customer: this.#pick(["", ...MEMBERS.customer]),
    };
  }

  #reserve(busy: Set<number>): Planned {
    const subject = this.#subject();
    const bound = this.#next() < 0.9 ? BigInt(this.#whole(400)) : undefined;
    const share = this.#next() < 0.95 ? BigInt(this.#whole(300)) : undefined;
    const expected = share !== undefined && bound !== undefined && share > bound ? bound : share;
    // What is only reckoned may be far above what is expected, and above a bound that counts otherwise.
    const most = this.#next() < 0.5 ? BigInt(this.#whole(900)) : undefined;
    const id = this.#nextId();
    busy.add(id);
    const attempt: ModelAttempt = {
      id,
      atMs: attemptAtMs(id),
      subject,
      served: undefined,
      bound,
      expected,
      most,
      state: "open",
      cost: 0n,
    };
    const request = { attemptId: id, subject, boundNanoUsd: bound, expectedNanoUsd: expected, mostNanoUsd: most };
    return {
      operation: { type: "reserve", request, endpoint: "c", tags: tagsOf(subject) },
      heard: (answer) => {
        if (answer.type !== "decision") throw new Disagreement(`answered ${answer.type}`);
        const { decision } = answer;
        if (this.#isKnown(subject)) attempt.served = ALIASED;
        const verdict = this.#model.judge(attempt);
        if ("frozen" in decision) {
          if (!verdict.frozenBy.includes(decision.frozen.id)) throw new Disagreement("frozen by nothing");
          return;
        }
        same(verdict.frozenBy, [], "a freeze was passed");
        if (!decision.admitted) {
          const { budget, reason, settledNanoUsd, reservedNanoUsd, amountNanoUsd, askedNanoUsd } = decision.refusal;
          same(reason, verdict.refusals.get(budget.id), `refused by ${budget.id}, left ${verdict.left}`);
          const own = this.#model.covering(attempt).find(({ id: its }) => its === budget.id);
          if (!own) throw new Disagreement(`refused by ${budget.id}, which is no budget`);
          const { settled, reserved } = this.#model.sums(own, attempt.atMs);
          const wanted = [settled, reserved, this.#model.amountAt(own, attempt.atMs), own.strict ? bound : expected];
          same([settledNanoUsd, reservedNanoUsd, amountNanoUsd, askedNanoUsd], wanted, "numbers of a refusal");
          return;
        }
        same([...verdict.refusals.keys()], [], "admitted against a budget");
        same(decision.wouldRefuse !== undefined, verdict.wouldRefuse, "said what it would refuse");
        same(decision.leftNanoUsd, verdict.left, "left");
        same(decision.isStrict, verdict.isStrict, "strict");
        this.#model.attempts.set(id, attempt);
        this.#checkCaps(attempt);
      },
    };
  }

  /** The promise itself: what was admitted fits each hard budget that holds, whatever came before. */
  #checkCaps(attempt: ModelAttempt): void {
    if (this.#mode === "observe") return;
    for (const budget of this.#model.covering(attempt)) {
      if (!budget.hard || budget.observed) continue;
      const { settled, reserved, most } = this.#model.sums(budget, attempt.atMs);
      const amount = this.#model.amountAt(budget, attempt.atMs);
      if (settled + reserved > amount) throw new Disagreement(`${budget.id} is passed`);
      // One alone always may.
      const isAlone = most === this.#model.mostOf(attempt);
      if (!budget.strict && !isAlone && settled + most > this.#model.ceiling(amount, this.#model.mostOf(attempt)))
        throw new Disagreement(`${budget.id} can be passed by too much`);
    }
  }

  #settle(attempt: ModelAttempt, busy: Set<number>): Planned {
    busy.add(attempt.id);
    const dice = this.#next();
    const most = attempt.bound ?? attempt.expected ?? 100n;
    // Exact, nothing at all (released), or, rarely, more than was ever thought possible.
    const cost =
      dice < 0.2 ? 0n : dice < 0.97 ? BigInt(this.#whole(Number(most) + 1)) : most + BigInt(this.#whole(200));
    return {
      operation: settleOf(attempt, cost),
      heard: () => {
        this.#model.settle(attempt, cost);
        const { provider, model } = attempt.subject;
        if (!ALIASES.includes(model)) return;
        attempt.served = ALIASED;
        this.#aliased.add(`${provider} ${model}`);
      },
    };
  }

  #settleAsHeld(attempt: ModelAttempt): void {
    if (this.#isKnown(attempt.subject)) attempt.served = ALIASED;
    this.#model.settle(attempt, this.#model.asHeld(attempt));
  }

  #settleTwice(busy: Set<number>): Planned {
    const settled = [...this.#model.attempts.values()].filter(({ state }) => state === "settled");
    const attempt = settled.length > 0 ? this.#pick(settled) : undefined;
    if (!attempt) return this.#reserve(busy);
    return {
      operation: settleOf(attempt, 7n),
      mayFail: true,
      heard: () => {
        throw new Disagreement(`attempt ${attempt.id} was booked twice`);
      },
    };
  }

  #extend(attempt: ModelAttempt, busy: Set<number>): Planned {
    busy.add(attempt.id);
    const least = (attempt.expected ?? 0n) + 1n + BigInt(this.#whole(50));
    const wanted = least + BigInt(this.#whole(300));
    const atMs = this.#now;
    return {
      operation: { type: "extend", attemptId: attempt.id, leastNanoUsd: least, wantedNanoUsd: wanted, atMs },
      heard: (answer) => {
        if (answer.type !== "extended") throw new Disagreement(`answered ${answer.type}`);
        const { granted, refusing, wouldRefuse } = this.#model.judgeMore(attempt, least, wanted, atMs);
        if ("refusal" in answer.extension) {
          if (!refusing.includes(answer.extension.refusal.budget.id))
            throw new Disagreement(`extension refused by ${answer.extension.refusal.budget.id}`);
          return;
        }
        same(refusing, [], "extended against a budget");
        same(answer.extension.heldNanoUsd, granted, "held after an extension");
        same(answer.extension.wouldRefuse !== undefined, wouldRefuse, "said what it would refuse");
        attempt.expected = granted;
      },
    };
  }

  #suspend(attempt: ModelAttempt, busy: Set<number>): Planned {
    busy.add(attempt.id);
    return {
      operation: { type: "suspend", attemptId: attempt.id, workId: `work_${attempt.id}`, tiers: [], proven: undefined },
      heard: (answer) => {
        same(answer, { type: "suspended", isFirst: true }, "suspended");
        attempt.state = "work";
      },
    };
  }

  #endWork(busy: Set<number>): Planned {
    const all = this.#model.work().filter(({ id }) => !busy.has(id));
    const attempt = all.length > 0 ? this.#pick(all) : undefined;
    if (!attempt) return this.#reserve(busy);
    if (this.#next() < 0.7) return this.#settle(attempt, busy);
    busy.add(attempt.id);
    return this.#changed({ type: "closeWork", workId: `work_${attempt.id}` }, () => this.#settleAsHeld(attempt));
  }

  #adjust(busy: Set<number>): Planned {
    const settled = [...this.#model.attempts.values()].filter(({ state }) => state === "settled");
    const attempt = settled.length > 0 ? this.#pick(settled) : undefined;
    if (!attempt) return this.#reserve(busy);
    const amount = BigInt(this.#whole(40)) - 20n;
    const sourceId = `line ${(this.#made += 1)}`;
    const one = {
      source: "bill",
      sourceId,
      attemptId: attempt.id,
      amountNanoUsd: amount,
      unpriced: 0,
      inferred: 0,
      detail: "",
    } as const;
    // The same correction twice is one.
    const adjustments = this.#next() < 0.3 ? [one, one] : [one];
    return this.#changed({ type: "adjust", adjustments }, () => (attempt.cost += amount));
  }

  #seal(busy: Set<number>): Planned {
    const first = answerFrom(this.#database, askDayToSeal(this.#now));
    if (first === undefined) return this.#reserve(busy);
    return {
      operation: { type: "seal", seal: sealOf(this.#database, first), atMs: this.#now },
      // Another one in this batch may have been first.
      mayFail: true,
      heard: () => {},
    };
  }

  #change(): Planned {
    const dice = this.#next();
    const ids = [...this.#model.budgets.keys()];
    const id = ids.length > 0 ? this.#pick(ids) : undefined;
    if (dice < 0.45 || id === undefined) return this.#setBudget();
    if (dice < 0.6)
      return this.#changed({ type: "removeBudget", budgetId: id }, () => this.#model.budgets.delete(id), true);
    if (dice < 0.72) {
      const each = this.#model.budgets.get(id)?.each;
      const member = each === undefined || this.#next() < 0.3 ? undefined : this.#pick(MEMBERS[each]);
      const raise = {
        id: `raise ${(this.#made += 1)}`,
        budgetId: member === undefined ? id : `${id}/${encodeURIComponent(member)}`,
        amountNanoUsd: BigInt(1 + this.#whole(500)),
        reason: "because",
        createdAtMs: this.#now,
        untilMs: this.#now + 1 + this.#whole(DAY),
      };
      return this.#changed(
        { type: "raiseBudget", raise },
        () =>
          this.#model.budgets.get(id)?.raises.push({
            id: raise.id,
            member,
            amount: raise.amountNanoUsd,
            fromMs: raise.createdAtMs,
            untilMs: raise.untilMs,
          }),
        true,
      );
    }
    if (dice < 0.78) {
      const owner = [...this.#model.budgets.values()].find(({ raises }) => raises.length > 0);
      const raise = owner?.raises[0];
      if (!raise) return this.#setBudget();
      return this.#changed(
        { type: "endRaise", raiseId: raise.id },
        () => {
          // It goes with its budget when that is set anew.
          for (const { raises } of this.#model.budgets.values()) {
            const i = raises.findIndex((one) => one.id === raise.id);
            if (i >= 0) raises.splice(i, 1);
          }
        },
        true,
      );
    }
    if (dice < 0.82) {
      const freeze = {
        id: `freeze ${(this.#made += 1)}`,
        scope: this.#scope(),
        reason: "because",
        createdAtMs: this.#now,
      };
      return this.#changed({ type: "freeze", freeze: { ...freeze, scope: scopeOf(freeze.scope) } }, () =>
        this.#model.freezes.set(freeze.id, freeze.scope),
      );
    }
    const [frozen] = this.#model.freezes.keys();
    if (frozen === undefined) return this.#setBudget();
    return this.#changed({ type: "lift", freezeId: frozen }, () => this.#model.freezes.delete(frozen), true);
  }

  #setBudget(): Planned {
    const hard = this.#next() < 0.85;
    const old =
      this.#next() < 0.3 ? [...this.#model.budgets.values()][this.#whole(this.#model.budgets.size)] : undefined;
    // Now and then in the place of a member's cap.
    const rule = [...this.#model.budgets.values()].find((one) => one.each !== undefined);
    const isMember = rule?.each !== undefined && this.#next() < 0.2;
    const scope = isMember ? { ...rule.scope, [rule.each]: this.#pick(MEMBERS[rule.each]) } : this.#scope();
    const each =
      !isMember && this.#next() < 0.3 ? this.#pick(EACH.filter((part) => scope[part] === undefined)) : undefined;
    const budget: ModelBudget = {
      id: `budget ${(this.#made += 1)}`,
      scope: old?.scope ?? scope,
      window:
        old?.window ?? (isMember ? rule.window : undefined) ?? (this.#next() < 0.2 ? "hour" : this.#pick(WINDOWS)),
      amount: BigInt(this.#whole(3_000)),
      hard,
      strict: hard && this.#next() < 0.5,
      observed: hard && this.#next() < 0.15,
      each: old ? old.each : each,
      raises: [],
    };
    return this.#changed(
      {
        type: "setBudget",
        budget: {
          id: budget.id,
          scope: scopeOf(budget.scope),
          ...(budget.each === undefined ? {} : { each: EACH_NAMES[budget.each] }),
          window: budget.window,
          amountNanoUsd: budget.amount,
          kind: hard ? "hard" : "soft",
          mode: budget.strict ? "strict" : "expected",
          ...(budget.observed ? { observe: true } : {}),
          createdAtMs: this.#now,
        },
      },
      () => {
        for (const [id, old] of this.#model.budgets) {
          if (placeOf(old) !== placeOf(budget)) continue;
          this.#model.budgets.delete(id);
          budget.raises.push(...old.raises);
        }
        this.#model.budgets.set(budget.id, budget);
      },
    );
  }

  #scope(): { [part in keyof Subject]?: string } {
    const dice = this.#next();
    if (dice < 0.15) return {};
    if (dice < 0.35) return { keyId: this.#pick(["k1", "k2", "k3"]) };
    if (dice < 0.45) return { team: this.#pick(["search", "ads"]) };
    if (dice < 0.55) return { user: this.#pick(["user_1", "user_2"]) };
    if (dice < 0.6) return { customer: this.#pick(MEMBERS.customer) };
    if (dice < 0.65) return { env: this.#pick(["prod", "dev"]), team: this.#pick(["search", "ads"]) };
    if (dice < 0.75)
      return { model: this.#pick(["gpt-5", "gpt-5*", "claude*", "latest-1", ALIASED, ALIASED, ALIASED, ALIASED]) };
    if (dice < 0.85) return { provider: this.#pick(["openai", "anthropic"]), project: "p" };
    return { provider: this.#pick(["openai", "anthropic"]) };
  }

  #changed(change: Change, heard: () => void, mayFail = false): Planned {
    // What a change in the same batch took away already is refused, as it must be.
    return { operation: { type: "change", change, author: { actor: "simulation", atMs: this.#now } }, heard, mayFail };
  }

  /** Each budget's sums, in memory, are the model's; memory is the books. */
  #check(): number {
    const caller = this.#subject();
    same(this.#states(caller), this.#wantedStates(caller), "sums of whoever asks");
    same(this.#states(), this.#wantedStates(), "sums");
    same(this.#verified(), { differences: [], reservedNanoUsd: this.#model.reserved() }, "verify");
    return 1;
  }

  #verified(): unknown {
    return verifyMemory((operation) => this.#ask(operation));
  }

  #states(subject?: Subject): unknown {
    const caller = subject && { ...subject, tags: tagsOf(subject) };
    const answer = this.#ask({ type: "states", atMs: this.#now, caller });
    if (answer.type !== "states") throw new Disagreement(`answered ${answer.type}`);
    return answer.states
      .map(({ budget, amountNanoUsd, settledNanoUsd, reservedNanoUsd }) => [
        budget.id,
        amountNanoUsd,
        settledNanoUsd,
        reservedNanoUsd,
      ])
      .toSorted(byName);
  }

  #wantedStates(subject?: Subject): unknown {
    const budgets = subject
      ? this.#model.holding(subject)
      : [...this.#model.budgets.values()].filter(({ each }) => each === undefined);
    return budgets
      .map((budget) => {
        const { settled, reserved } = this.#model.sums(budget, this.#now);
        return [budget.id, this.#model.amountAt(budget, this.#now), settled, reserved];
      })
      .toSorted(byName);
  }

  #whole(below: number): number {
    return Math.floor(this.#next() * below);
  }

  #pick<T>(from: readonly T[]): T {
    return from[this.#whole(from.length)] as T;
  }
}

function byName([a]: unknown[], [b]: unknown[]): number {
  return String(a) < String(b) ? -1 : 1;
}

/** As operations arrive at the writer's thread. */
function wired(operations: readonly Operation[]): ReturnType<typeof decodeBatch> {
  return decodeBatch(encodeBatch(operations));
}

/** As the product has it. */
function tagsOf({ customer }: Subject): string | undefined {
  return customer === "" ? undefined : JSON.stringify({ customer });
}

function scopeOf({ customer, ...scope }: Scope): Budget["scope"] {
  return { ...scope, ...(customer === undefined ? {} : { tag: `customer=${customer}` }) };
}

const EACH = ["user", "keyId", "customer"] as const;
const EACH_NAMES = { user: "user", keyId: "key", customer: "tag:customer" } as const;
const MEMBERS = { user: ["user_1", "user_2"], keyId: ["k1", "k2", "k3"], customer: ["acme", "a/b %"] } as const;

function settleOf({ id, subject }: ModelAttempt, cost: bigint): Operation {
  const { keyId, team, project, env, user, provider, model } = subject;
  const row = eventRow(
    event(id, cost, {
      keyId,
      team,
      user,
      project,
      env,
      provider,
      requestedModel: model,
      tags: tagsOf(subject),
      servedModel: ALIASES.includes(model) ? ALIASED : undefined,
    }),
  );
  return { type: "settle", row, proven: undefined };
}

/** Books of which a write, or the commit, fails when it is told to. Each text is prepared once: that is most of the
 *  time. */
function failing(database: Sqlite, fails: () => boolean): Sqlite {
  const prepare = database.prepare.bind(database);
  const canFail = /^(COMMIT|INSERT INTO (reservations|events|rollup_hour)|DELETE FROM reservations)/;
  const known = new Map<string, unknown>();
  const wrap = (sql: string): unknown => {
    const statement = prepare(sql);
    if (!canFail.test(sql)) return statement;
    const run = (...values: unknown[]): unknown => {
      if (fails()) throw new Database.SqliteError("disk I/O error", "SQLITE_IOERR_WRITE");
      return statement.run(...values);
    };
    return { run };
  };
  database.prepare = ((sql: string) => {
    let found = known.get(sql);
    if (!found) known.set(sql, (found = wrap(sql)));
    return found;
  }) as typeof database.prepare;
  return database;
}

function same(actual: unknown, wanted: unknown, what: string): void {
  const [a, b] = [show(actual), show(wanted)];
  if (a !== b) throw new Disagreement(`${what}: the product says ${a}, the model ${b}`);
}

function show(value: unknown): string {
  return JSON.stringify(value, (_name, part: unknown) => (typeof part === "bigint" ? `${part}n` : part)) ?? "nothing";
}
