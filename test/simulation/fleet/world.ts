// One world: a few nodes with the product's own booking, and the database between them. A seed decides who does what,
// which answer gets lost or comes late, who is cut off, who dies, and what is changed meanwhile. The provider's journal is
// the truth: what went out is booked, once, and what a cap allows.
import type { Budget, Freeze } from "../../../ledger/budgets.ts";
import { createAttemptIds } from "../../../ledger/ids.ts";
import { eventRow } from "../../../ledger/usage/event-columns.ts";
import { createNodeBooking } from "../../../ledger/usage/nodes/booking.ts";
import type { Asked, NodeBooking, NodeStore, NodeTask, Orphan } from "../../../ledger/usage/nodes/booking.ts";
import { DatabaseWentBack, NodeFenced } from "../../../ledger/usage/nodes/node.ts";
import type { Decision } from "../../../ledger/usage/reservations.ts";
import type { Booked } from "../../../ledger/usage/nodes/work.ts";
import type { Answer } from "../../../ledger/usage/wire.ts";
import { windowsAround } from "../../../ledger/usage/nodes/memory.ts";
import { createCalendar } from "../../../ledger/windows.ts";
import { random } from "../../seed.ts";
import { event } from "../../usage-event.ts";
import { FleetDatabase, Refusal, same, Violation } from "./database.ts";
import type { Mirror } from "./mirror.ts";

const START_MS = Date.parse("2026-11-24T09:58:00Z");
const TEAMS = ["search", "ads"];
const MODELS = ["m", "alias"];
const SERVED = "m-2026";
const CALENDAR = createCalendar("UTC");
const ORPHAN_MS = 600_000;
const RECALL_MS = 500;

/** A proxy's process: what dies with it. */
type Process = {
  readonly booking: NodeBooking;
  readonly nextId: () => number;
  /** Its clock beside the server's. */
  readonly offsetMs: number;
  readonly lease: { node: number; epoch: number; batches: number };
  /** Of nodes that it was. */
  readonly numbers: number[];
  queue: Waiter[];
  isBusy: boolean;
  isDead: boolean;
  /** Until then nothing it sends arrives. */
  cutUntil: number;
  lookedAt: number;
  /** When it could last be reached by others who wanted something back. */
  heardAt: number;
};

type Waiter = Asked & { readonly heard: (answer: Answer) => void };

/** What went out to the provider, as its journal has it. */
type Attempt = {
  readonly id: number;
  readonly model: string;
  readonly team: string;
  readonly bound: bigint;
  held: bigint;
  owner: Process;
  state: "open" | "ending" | "work" | "over" | "lost";
  cost?: bigint;
};

export class FleetWorld {
  readonly database: FleetDatabase;
  readonly #next: () => number;
  readonly #gates: { readonly process: Process; readonly open: () => void }[] = [];
  readonly #attempts = new Map<number, Attempt>();
  #processes: Process[] = [];
  #now = START_MS;
  #made = 0;
  #trouble: unknown;
  /** A real Postgres that has to answer the same. */
  #mirror: Mirror | undefined;
  #mirroring: Promise<unknown> = Promise.resolve();
  /** Nothing goes wrong any more. */
  #isCalm = false;
  /** Clocks agree, and costs stay below their bounds. */
  readonly #isExact: boolean;
  /** Nothing goes wrong, and everybody is heard of every few milliseconds. */
  readonly #isPrompt: boolean;

  constructor(seed: number) {
    this.#next = random(seed);
    this.#isExact = this.#next() < 0.5;
    this.#isPrompt = this.#next() < 0.3;
    this.database = new FleetDatabase(() => this.#now, CALENDAR);
    this.database.isExact = this.#isExact;
    this.database.change(this.#firstBudgets(), []);
    const count = 1 + this.#whole(3);
    this.#processes = Array.from({ length: count }, () => this.#start());
  }

  /** From now on each batch is booked there too. */
  async mirrorTo(start: (calendar: typeof CALENDAR, now: () => number) => Promise<Mirror>): Promise<void> {
    this.#mirror = await start(CALENDAR, () => this.#now);
    await this.#mirror.follow();
  }

  async step(): Promise<void> {
    if (this.#isPrompt) return this.#stepPromptly();
    const dice = this.#next();
    if (dice < 0.3) this.#open();
    else if (dice < 0.5) this.#turn();
    else if (dice < 0.62) this.#reserve();
    else if (dice < 0.72) this.#settle();
    else if (dice < 0.75) this.#extend();
    else if (dice < 0.77) this.#suspend();
    else if (dice < 0.785) this.#settleWork();
    else if (dice < 0.79) this.#unheld();
    else if (dice < 0.8) this.#change();
    else if (dice < 0.81) this.#cutOff();
    else if (dice < 0.813) this.#die();
    else if (dice < 0.82) this.#giveUp();
    else if (dice < 0.824) this.#bookOrphans();
    else this.#tick();
    await this.#settled();
  }

  async #stepPromptly(): Promise<void> {
    const dice = this.#next();
    if (dice < 0.5) this.#reserve();
    else if (dice < 0.8) this.#settle();
    else if (dice < 0.87) this.#extend();
    else if (dice < 0.9) this.#suspend();
    else if (dice < 0.93) this.#settleWork();
    else if (dice < 0.94) this.#change();
    this.#now += 10 + this.#whole(30);
    for (const process of this.#processes) this.#send(process, this.#now - process.lookedAt >= 100);
    await this.#letThrough();
  }

  /** Everything ends; then all that must hold at rest is looked at. */
  async end(): Promise<void> {
    this.#isCalm = true;
    for (const one of this.#processes) one.cutUntil = 0;
    for (let round = 0; round < 4; round++) {
      await this.#drain();
      for (const attempt of this.#attempts.values()) {
        if (attempt.state === "open" || attempt.state === "work") this.#end(attempt, this.#some(this.#processes));
        // Who had it, or was to settle it, died.
        const isWork = this.database.reservations.get(attempt.id)?.workId !== undefined;
        if (isWork && (attempt.state === "lost" || attempt.state === "ending")) attempt.state = "work";
      }
      await this.#drain();
      // Who died is given up, and what it left is booked.
      for (let i = 0; i < 12; i++) {
        this.#now += 1_500;
        for (const one of this.#processes) this.#send(one, true);
        await this.#drain();
      }
      this.#fence();
      this.#now += ORPHAN_MS + 1;
      this.#bookOrphans();
      await this.#drain();
    }
    this.database.check();
    await this.#mirror?.compare();
    for (const one of this.#processes) same(one.queue.length, 0, "what waits for its answer at the end");
    for (const attempt of this.#attempts.values())
      if (!this.database.events.has(attempt.id))
        throw new Violation(`attempt ${attempt.id} (${attempt.state}) has no event`);
    // Who was given up may come back when others have booked what it left.
    for (const { id, owner, cost } of this.#attempts.values())
      if (cost !== undefined && owner.numbers.length === 1)
        same(this.database.events.get(id)?.cost, cost, `what ${id} cost`);
    same(this.database.events.size >= this.#attempts.size, true, "an event for each attempt");
    same(this.database.reservations.size, 0, "reservations at rest");
    const inForce = new Set(this.database.budgets.map(({ id }) => id));
    for (const [name, part] of this.database.parts)
      if (inForce.has(name.slice(0, name.indexOf("\n")))) same(part.held, 0n, `${name}: held at rest`);
    // Memory, read again, is what the books have: opening it looks.
    for (const one of this.#processes) {
      const known = one.booking.ledger();
      for (const part of known?.book.parts() ?? []) {
        const row = this.database.parts.get(`${part.budget.id}\n${part.window.id}\n${one.lease.node}`);
        // Of windows that are long over a node knows what it has added.
        if (
          !windowsAround(CALENDAR, this.#now).includes(part.window.id) ||
          !part.share ||
          known?.memory.version !== this.database.version
        )
          continue;
        same(part.settled, row?.settled ?? 0n, `${part.budget.id} ${part.window.id}: settled in memory`);
        same(part.reserved, row?.held ?? 0n, `${part.budget.id} ${part.window.id}: held in memory`);
      }
    }
  }

  #firstBudgets(): Budget[] {
    const base = { createdAtMs: START_MS, kind: "hard", mode: "strict" } as const;
    const org = {
      ...base,
      id: "org",
      scope: {},
      window: "day",
      amountNanoUsd: BigInt(200 + this.#whole(2_000)),
    } as const;
    const team = {
      ...base,
      id: "team",
      scope: { team: "search" },
      window: "hour",
      amountNanoUsd: BigInt(100 + this.#whole(500)),
    } as const;
    const expected = { ...team, id: "expected", mode: "expected", scope: { team: "ads" } } as const;
    const soft = {
      ...base,
      id: "soft",
      kind: "soft",
      scope: { model: "m" },
      window: "total",
      amountNanoUsd: 50n,
    } as const;
    const tried = { ...org, id: "tried", observe: true, amountNanoUsd: 100n, window: "total" } as const;
    const served = { ...org, id: "served", scope: { model: SERVED }, window: "total" } as const;
    return [org, team, expected, soft, tried, served].filter(() => this.#next() < 0.7);
  }

  #start(): Process {
    const lease = { ...this.database.lease(), batches: 0 };
    const offsetMs = this.#isExact ? 0 : this.#whole(3_800) - 1_900;
    const now = (): number => this.#now + offsetMs;
    const process: Process = {
      booking: undefined as unknown as NodeBooking,
      nextId: createAttemptIds(0, now, [], () => process.lease.node),
      offsetMs,
      lease,
      numbers: [lease.node],
      queue: [],
      isBusy: false,
      isDead: false,
      cutUntil: 0,
      lookedAt: 0,
      heardAt: this.#now,
    };
    const booking = createNodeBooking(
      this.#store(process),
      { calendar: CALENDAR, capMode: "enforce", tagsCount: true },
      now,
    );
    return Object.assign(process, { booking });
  }

  /** Each call waits at a gate on its way there, and its answer on its way back; either may take long, or get lost. */
  #store(process: Process): NodeStore {
    const gate = (): Promise<void> => new Promise((open) => this.#gates.push({ process, open }));
    const { lease } = process;
    return {
      book: async (work, version) => {
        for (;;) {
          await gate();
          const batch = { node: lease.node, epoch: lease.epoch, number: lease.batches + 1, version, work };
          try {
            const booked = this.#book(batch);
            if (!this.#isCalm && !this.#isPrompt && this.#next() < 0.1) continue;
            await gate();
            lease.batches += 1;
            process.heardAt = this.#now;
            return booked;
          } catch (error) {
            if (!(error instanceof Refusal)) throw error;
            if (error.code === "KM001") throw new NodeFenced("fenced");
            if (error.code === "KM002") throw new DatabaseWentBack(error.message);
            await gate();
            return error.code === "KM003" ? { gone: error.gone } : { stale: true };
          }
        }
      },
      read: async (nowMs) => {
        await gate();
        const memory = this.database.read(lease.node, nowMs);
        await gate();
        return memory;
      },
      servedNames: async () => {
        await gate();
        return this.database.read(lease.node, this.#now).servedNames;
      },
      elsewhere: async (ids) => {
        await gate();
        const found = this.database.elsewhere(lease.node, ids);
        await gate();
        return found;
      },
      again: async () => {
        await gate();
        const { lastBefore, ...again } = this.database.lease({ node: lease.node, epoch: lease.epoch });
        const isBooked = lastBefore !== undefined && lastBefore.batch > lease.batches;
        Object.assign(lease, again, { batches: 0 });
        process.numbers.push(lease.node);
        return isBooked ? { firsts: lastBefore.firsts } : undefined;
      },
    };
  }

  #book(batch: Parameters<Mirror["book"]>[0]): Booked {
    const { node, epoch, number, version, work } = batch;
    const mirror = this.#mirror;
    const tell = (answer: Booked | Refusal): void => {
      if (mirror) this.#mirroring = this.#mirroring.then(() => mirror.book(batch, answer));
    };
    try {
      const booked = this.database.book(node, epoch, number, version, work);
      tell(booked);
      return booked;
    } catch (error) {
      if (error instanceof Refusal) tell(error);
      throw error;
    }
  }

  /** A call that waits goes on. */
  #open(): void {
    const ready = this.#gates.filter(({ process }) => !process.isDead && process.cutUntil <= this.#now);
    const one = ready.length > 0 ? this.#some(ready) : undefined;
    if (!one) return;
    this.#gates.splice(this.#gates.indexOf(one), 1);
    one.open();
  }

  #turn(): void {
    const process = this.#some(this.#processes);
    this.#send(process, this.#now - process.lookedAt > 100);
  }

  #send(process: Process, look: boolean): void {
    if (process.isBusy || process.isDead || (process.queue.length === 0 && !look)) return;
    const all = process.queue.splice(0, 8);
    process.isBusy = true;
    if (look) process.lookedAt = this.#now;
    process.booking
      .turn(all, look)
      .then(({ answers, booked }) => {
        process.isBusy = false;
        const waiting = all.filter((one) => !answers.has(one));
        process.queue.unshift(...waiting);
        for (const one of all) {
          const answer = answers.get(one);
          if (answer) one.heard(answer);
        }
        for (const silent of booked?.saw?.silent ?? [])
          this.database.fence(process.lease.node, process.lease.epoch, silent);
      })
      .catch((error: unknown) => (this.#trouble ??= error));
  }

  #put(process: Process, task: NodeTask | Orphan, heard: (answer: Answer) => void): void {
    process.queue.push({ task, waits: new Map(), heard });
  }

  #reserve(): void {
    const process = this.#some(this.#processes);
    const [team, model] = [this.#some(TEAMS), this.#some(MODELS)];
    const bound = BigInt(1 + this.#whole(60));
    const expected = bound > 1n ? bound / 2n : bound;
    const attemptId = process.nextId();
    const subject = { keyId: "key_1", team, project: "", env: "", user: "", provider: "openai", model };
    const request = { attemptId, subject, boundNanoUsd: bound, expectedNanoUsd: expected, mostNanoUsd: bound };
    const sinceMs = this.#now;
    this.#put(process, { type: "reserve", request, endpoint: "chat", tags: null }, (answer) => {
      if (answer.type === "failure") throw new Violation(`a reservation failed: ${answer.message}`);
      if (answer.type !== "decision") throw new Violation(`a reservation was answered ${answer.type}`);
      if (!answer.decision.admitted) return this.#checkRefusal(process, answer.decision, sinceMs);
      const attempt: Attempt = { id: attemptId, model, team, bound, held: expected, owner: process, state: "open" };
      this.#attempts.set(attemptId, attempt);
    });
  }

  /** Who fits is refused only if others did not give back in time. */
  #checkRefusal(process: Process, decision: Extract<Decision, { admitted: false }>, sinceMs: number): void {
    if (!("refusal" in decision) || decision.refusal.reason !== "budget_exceeded") return;
    const { budget, window, askedNanoUsd = 0n } = decision.refusal;
    const asks = process.numbers
      .flatMap((node) => this.database.asked.get(`${node}\n${budget.id}\n${window.id}`) ?? [])
      .filter(({ atMs }) => atMs >= sinceMs);
    if (asks.length === 0) throw new Violation(`refused for ${budget.id} without asking anybody`);
    const isLate = (this.#isCalm || !this.#isPrompt) && this.#now - sinceMs >= RECALL_MS;
    if (asks.every(({ room }) => room >= askedNanoUsd) && !isLate)
      throw new Violation(`refused what fits into ${budget.id}, without waiting`);
  }

  #settle(): void {
    const open = [...this.#attempts.values()].filter(({ state }) => state === "open");
    if (open.length > 0) this.#end(this.#some(open));
  }

  #settleWork(): void {
    const work = [...this.#attempts.values()].filter(({ state }) => state === "work");
    if (work.length > 0) this.#end(this.#some(work), this.#some(this.#processes));
  }

  #end(attempt: Attempt, by = attempt.owner): void {
    if (by.isDead) return;
    const process = attempt.state === "work" ? by : attempt.owner;
    if (process.isDead) return void (attempt.state = "lost");
    const wasWork = attempt.state === "work";
    attempt.state = "ending";
    const isBeyond = !this.#isExact && this.#next() < 0.1;
    const most = attempt.bound + (isBeyond ? 20n : 0n);
    const cost = BigInt(this.#whole(Number(most) + 1));
    const servedModel = attempt.model === "alias" ? SERVED : undefined;
    const row = eventRow(
      event(attempt.id, cost, { requestedModel: attempt.model, servedModel, team: attempt.team, usage: { input: 1 } }),
    );
    this.#put(process, { type: "settle", row, proven: null }, (answer) => {
      if (answer.type !== "done")
        throw new Violation(`settling ${attempt.id}${wasWork ? " (work)" : ""}: ${JSON.stringify(answer)}`);
      attempt.state = "over";
      attempt.cost = cost;
    });
    // Two proxies fetch the same result.
    if (wasWork && this.#next() < 0.3)
      this.#put(this.#some(this.#processes), { type: "settle", row, proven: null }, () => {});
  }

  #extend(): void {
    const open = [...this.#attempts.values()].filter(({ state, owner }) => state === "open" && !owner.isDead);
    if (open.length === 0) return;
    const attempt = this.#some(open);
    const [least, wanted] = [attempt.held + 1n, attempt.held + BigInt(1 + this.#whole(30))];
    const atMs = this.#now + attempt.owner.offsetMs;
    const task = { type: "extend", attemptId: attempt.id, leastNanoUsd: least, wantedNanoUsd: wanted, atMs } as const;
    this.#put(attempt.owner, task, (answer) => {
      // It may have ended meanwhile.
      if (answer.type === "extended" && "heldNanoUsd" in answer.extension) attempt.held = answer.extension.heldNanoUsd;
    });
  }

  #suspend(): void {
    const open = [...this.#attempts.values()].filter(({ state, owner }) => state === "open" && !owner.isDead);
    if (open.length === 0) return;
    const attempt = this.#some(open);
    attempt.state = "ending";
    const workId = `work_${this.#whole(2) === 0 ? "shared" : (this.#made += 1)}`;
    const task = { type: "suspend", attemptId: attempt.id, workId, tiers: [], proven: undefined } as const;
    this.#put(attempt.owner, task, (answer) => {
      // Whoever gave its node up has booked it.
      if (answer.type !== "suspended" && attempt.owner.numbers.length > 1) return void (attempt.state = "open");
      if (answer.type !== "suspended") throw new Violation(`suspending ${attempt.id}: ${JSON.stringify(answer)}`);
      same(
        answer.isFirst,
        this.database.things.get(`openai\n${workId}`) === attempt.id,
        `${workId}: who stands for it`,
      );
      attempt.state = answer.isFirst ? "work" : "open";
    });
  }

  /** What was used without a reservation. */
  #unheld(): void {
    const process = this.#some(this.#processes);
    const row = eventRow(event(process.nextId(), this.#isExact ? 0n : 5n, { requestedModel: "m", team: "search" }));
    this.#put(process, { type: "settle", row, proven: null }, (answer) =>
      same(answer.type, "done", "what nothing was held for"),
    );
  }

  #change(): void {
    const budgets = [...this.database.budgets];
    const freezes: Freeze[] = [...this.database.freezes];
    const dice = this.#next();
    const at = this.#whole(budgets.length || 1);
    const old = budgets[at];
    const createdAtMs = this.#now;
    if (dice < 0.25 || !old)
      budgets.push({
        ...(this.#firstBudgets()[0] ?? {
          scope: {},
          window: "hour",
          kind: "hard",
          mode: "strict",
          amountNanoUsd: 300n,
        }),
        id: `budget_${(this.#made += 1)}`,
        createdAtMs,
      });
    else if (dice < 0.5)
      budgets[at] = {
        ...old,
        id: `budget_${(this.#made += 1)}`,
        amountNanoUsd: BigInt(this.#whole(1_500)),
        createdAtMs,
      };
    else if (dice < 0.6) budgets.splice(at, 1);
    else if (dice < 0.8) {
      const raise = {
        id: `raise_${(this.#made += 1)}`,
        budgetId: old.id,
        amountNanoUsd: BigInt(1 + this.#whole(300)),
        reason: "r",
      };
      // While it is used, or long after.
      const untilMs = this.#now + 300 + this.#whole(this.#next() < 0.5 ? 1_000 : 60_000);
      budgets[at] = { ...old, raises: [...(old.raises ?? []), { ...raise, createdAtMs: this.#now, untilMs }] };
    } else if (dice < 0.9)
      freezes.push({ id: `freeze_${(this.#made += 1)}`, scope: { team: this.#some(TEAMS) }, reason: "r", createdAtMs });
    else freezes.pop();
    this.database.change(budgets, freezes);
  }

  #cutOff(): void {
    const long = this.#next() < 0.3;
    this.#some(this.#processes).cutUntil = this.#now + (long ? 40_000 : this.#whole(3_000));
  }

  /** A process dies; another one starts. */
  #die(): void {
    const at = this.#whole(this.#processes.length);
    const dead = this.#processes[at];
    if (!dead) return;
    dead.isDead = true;
    for (const attempt of this.#attempts.values())
      if (attempt.owner === dead && (attempt.state === "open" || attempt.state === "ending")) attempt.state = "lost";
    this.#processes[at] = this.#start();
  }

  #fence(): void {
    for (const { lease } of this.#processes)
      for (const other of this.database.nodes.keys()) this.database.fence(lease.node, lease.epoch, other);
  }

  /** Somebody is taken for dead who is only late; or long after that. */
  #giveUp(): void {
    const waiting = this.#processes.filter(({ isBusy }) => isBusy);
    const [one, other] = [
      this.#some(this.#processes),
      this.#some(waiting.length > 0 && this.#next() < 0.5 ? waiting : this.#processes),
    ];
    if (one === other) return;
    this.database.age(one.lease.node, other.lease.node, this.#next() < 0.3 ? ORPHAN_MS + 1_000 : 20_000);
    this.database.fence(one.lease.node, one.lease.epoch, other.lease.node);
    if (this.#next() < 0.5) this.#bookOrphans();
  }

  #bookOrphans(): void {
    for (const row of this.database.orphans(ORPHAN_MS)) {
      // All of them see it.
      for (const process of this.#processes) this.#put(process, { type: "orphan", row, outcome: "crash" }, () => {});
    }
  }

  #tick(): void {
    const dice = this.#next();
    this.#now += dice < 0.9 ? this.#whole(60) : dice < 0.99 ? this.#whole(2_000) : this.#whole(120_000);
  }

  async #drain(): Promise<void> {
    for (let i = 0; i < 4_000; i++) {
      const waits = this.#processes.some(({ isBusy, queue }) => isBusy || queue.length > 0);
      if (!waits) return;
      for (const process of this.#processes) this.#send(process, false);
      await this.#settled();
      await this.#letThrough();
      this.#now += 30;
    }
    throw new Violation(
      `what waits is never answered: ${this.#processes.map(({ queue, isBusy }) => `${queue.length}${isBusy ? " busy" : ""}`).join(", ")}`,
    );
  }

  /** All calls that wait go on, until none does. */
  async #letThrough(): Promise<void> {
    await this.#settled();
    for (let i = 0; this.#gates.some(({ process }) => !process.isDead); i++) {
      if (i > 2_000) throw new Violation("a node asks again and again");
      this.#open();
      await this.#settled();
    }
  }

  async #settled(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    if (this.#mirror) {
      await this.#mirroring;
      await this.#mirror.follow();
    }
    if (this.#trouble !== undefined) throw this.#trouble;
  }

  #whole(below: number): number {
    return Math.floor(this.#next() * below);
  }

  #some<T>(list: readonly T[]): T {
    return list[this.#whole(list.length)] as T;
  }
}
