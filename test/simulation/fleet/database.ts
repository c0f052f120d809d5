// What a node sees of Postgres, in memory: what the functions of ledger/migrations/postgres/ promise, written a second
// time, with the truth beside it. After each batch it looks whether the parts of all nodes are what was really settled and
// held, whether anybody took more than was his, and whether anything was decided by an old register.
import { amountAt, covers } from "../../../ledger/budgets.ts";
import type { Budget, Freeze, Subject } from "../../../ledger/budgets.ts";
import { attemptAtMs } from "../../../ledger/ids.ts";
import type { Elsewhere, NodeMemory, StoredReservation } from "../../../ledger/usage/nodes/memory.ts";
import { readHolds } from "../../../ledger/usage/nodes/entries.ts";
import { windowsAround } from "../../../ledger/usage/nodes/memory.ts";
import type { Ask, Booked, Row, Work } from "../../../ledger/usage/nodes/work.ts";
import { amountFor, mostOf } from "../../../ledger/usage/reservations.ts";
import type { Calendar } from "../../../ledger/windows.ts";

export class Refusal extends Error {
  readonly code: string;
  readonly gone: readonly number[];
  constructor(code: string, message: string, gone: readonly number[] = []) {
    super(message);
    this.code = code;
    this.gone = gone;
  }
}

/** What must never be. */
export class Violation extends Error {}

type Part = { settled: bigint; held: bigint; most: bigint; granted: bigint; wantedUntil: number };
type NodeRow = {
  epoch: number;
  epochBefore: number | undefined;
  state: "live" | "released" | "fenced";
  seenAt: number;
  since: number;
  lastBatch: number;
  digest: string;
  answer: { firsts: number[]; grants: Booked["grants"]; vain: Booked["vain"] };
};
type EventRow = { readonly id: number; readonly subject: Subject; readonly cost: bigint };
type Kept = StoredReservation & { readonly tiers?: string };

const NOBODY = 0;
const FENCE_MS = 15_000;
const GAP_MS = 2_000;
const REUSED_MS = 3_600_000;
const WANTED_MS = 600;

export class FleetDatabase {
  readonly nodes = new Map<number, NodeRow>();
  readonly reservations = new Map<number, Kept>();
  readonly events = new Map<number, EventRow>();
  readonly parts = new Map<string, Part>();
  readonly things = new Map<string, number>();
  readonly servedNames = new Map<string, string>();
  readonly opened = new Map<string, number>();
  budgets: Budget[] = [];
  freezes: Freeze[] = [];
  version = 1;
  names = 1;
  /** How often an attempt was reserved: never twice. */
  readonly reservedOnce = new Set<number>();
  /** Whether clocks agree, and costs stay below their bounds: then a cap is never passed, but by what is counted here. */
  isExact = false;
  /** Nothing is looked at after each batch: for long traffic. */
  isTrusted = false;
  readonly #excess = new Map<string, bigint>();
  readonly #ended = new Set<string>();
  /** Windows of which more is granted than there is, since a change, or since a raise ended. */
  readonly #over = new Map<string, number>();
  /** By node and part: what would really have fitted when it asked. */
  readonly asked = new Map<string, { readonly room: bigint; readonly atMs: number }[]>();
  readonly #now: () => number;
  readonly #calendar: Calendar;

  constructor(now: () => number, calendar: Calendar) {
    this.#now = now;
    this.#calendar = calendar;
  }

  lease(before?: { readonly node: number; readonly epoch: number }): {
    node: number;
    epoch: number;
    lastBefore: { batch: number; firsts: number[] } | undefined;
  } {
    const own = before && this.nodes.get(before.node);
    let node: number | undefined;
    let lastBefore: { batch: number; firsts: number[] } | undefined;
    if (own && (own.epoch === before.epoch || (own.state === "fenced" && own.epochBefore === before.epoch))) {
      node = before.node;
      lastBefore = { batch: own.lastBatch, firsts: own.answer.firsts };
    }
    for (let n = 1; node === undefined; n++)
      if (this.#isFree(n) && ![...this.reservations.values()].some((one) => one.node === n)) node = n;
    const epoch = Math.max((this.nodes.get(node)?.epoch ?? 0) + 1, this.#now());
    const now = this.#now();
    this.nodes.set(node, {
      epoch,
      epochBefore: undefined,
      state: "live",
      seenAt: now,
      since: now,
      lastBatch: 0,
      digest: "",
      answer: { firsts: [], grants: [], vain: [] },
    });
    this.#freeSurplus(node);
    return { node, epoch, lastBefore };
  }

  #isFree(node: number): boolean {
    const { state, seenAt = 0 } = this.nodes.get(node) ?? {};
    return state !== "live" && !(state === "fenced" && this.#now() - seenAt < REUSED_MS);
  }

  /** As if one had committed without a gap for so long, and the other not at all. */
  age(one: number, other: number, ms: number): void {
    const [mine, theirs] = [this.nodes.get(one), this.nodes.get(other)];
    if (mine) Object.assign(mine, { seenAt: this.#now(), since: mine.since - ms });
    if (theirs) theirs.seenAt -= ms;
  }

  fence(by: number, epoch: number, other: number): void {
    const [mine, theirs] = [this.nodes.get(by), this.nodes.get(other)];
    const now = this.#now();
    if (!mine || mine.epoch !== epoch || mine.state !== "live" || !theirs || theirs.state !== "live" || by === other)
      return;
    if (now - mine.since < FENCE_MS || now - mine.seenAt > GAP_MS || now - theirs.seenAt <= FENCE_MS) return;
    Object.assign(theirs, { epochBefore: theirs.epoch, epoch: Math.max(theirs.epoch + 1, now), state: "fenced" });
    this.#freeSurplus(other);
  }

  /** A batch: all of it, or nothing. */
  book(node: number, epoch: number, number: number, version: number, work: Work): Booked {
    const now = this.#now();
    const mine = this.nodes.get(node);
    if (!mine || mine.epoch !== epoch || mine.state !== "live") throw new Refusal("KM001", "fenced");
    const digest = JSON.stringify(work);
    const touch = (): void => {
      mine.since = now - mine.seenAt <= GAP_MS ? mine.since : now;
      mine.seenAt = now;
    };
    if (number === mine.lastBatch && digest === mine.digest) {
      touch();
      return { ...mine.answer, saw: null, atMs: now, names: this.names };
    }
    if (number !== mine.lastBatch + 1) throw new Refusal("KM002", `batch ${number} after ${mine.lastBatch}`);
    if (version !== this.version) throw new Refusal("KM004", "stale");
    const gone = (work.requires ?? []).filter((id, i) => {
      const there = this.reservations.get(id);
      if (there && (there.node ?? NOBODY) !== work.owners?.[i]) return true;
      return !there || !this.#maySettle(node, there);
    });
    if (gone.length > 0) throw new Refusal("KM003", "gone", gone);
    touch();
    this.#noteEnds();

    for (const row of work.reservations ?? []) this.#reserve(node, row);
    for (const row of work.extended ?? []) this.#extend(node, row);
    this.#checkRaises(node, work);
    this.#noteDebts(work);
    for (const row of work.escrow ?? []) this.#move(row, node);
    for (const row of work.shared ?? []) {
      this.#move(row, Number(row["node"]));
      const [settled, held, granted] = ["settled_nano_usd", "held_nano_usd", "granted_nano_usd"].map((name) =>
        BigInt(String(row[name])),
      );
      same(granted, (settled ?? 0n) + (held ?? 0n), `what is granted of what is not node ${node}'s`);
    }
    const firsts: number[] = [];
    for (const row of work.suspended ?? []) if (this.#suspend(node, row)) firsts.push(Number(row["attempt_id"]));
    const { grants, vain } = this.#grant(node, work.asks ?? [], work.waiters ?? []);
    for (const row of work.events ?? []) this.#settle(node, row, work.requires ?? []);
    for (const row of work.servedNames ?? [])
      this.servedNames.set(
        `${String(row["provider"])}\n${String(row["requested_model"])}`,
        String(row["served_model"]),
      );
    if ((work.servedNames ?? []).length > 0) this.names += 1;
    Object.assign(mine, { lastBatch: number, digest, answer: { firsts, grants, vain } });
    if (this.isTrusted)
      return { firsts, grants, vain, saw: this.#look(node, work.look ?? []), atMs: now, names: this.names };
    this.#checkCaps(work);
    for (const budget of this.budgets)
      for (const [name, sum] of this.#grantedOf(budget)) if (sum <= amountAt(budget, now)) this.#over.delete(name);
    this.check();
    const saw = work.look ? this.#look(node, work.look) : null;
    return { firsts, grants, vain, saw, atMs: now, names: this.names };
  }

  read(node: number, nowMs: number): NodeMemory {
    const open = [...this.reservations.values()].filter((one) => one.node === node);
    const windows = new Set(windowsAround(this.#calendar, nowMs));
    for (const { holds } of open) for (const [, windowId] of holds) windows.add(windowId);
    const sums = new Map<string, { own: Part; settled: bigint; held: bigint; most: bigint }>();
    for (const [name, part] of this.parts) {
      const [budgetId = "", windowId = "", owner] = name.split("\n");
      if (!windows.has(windowId)) continue;
      const key = `${budgetId}\n${windowId}`;
      const sum = sums.get(key) ?? { own: emptyPart(), settled: 0n, held: 0n, most: 0n };
      if (Number(owner) === node) sum.own = part;
      else {
        sum.settled += part.settled;
        sum.held += part.held;
        sum.most += part.most;
      }
      sums.set(key, sum);
    }
    return {
      version: this.version,
      names: this.names,
      budgets: this.budgets,
      freezes: this.freezes,
      owners: [],
      moves: new Map(),
      servedNames: [...this.servedNames].map(([name, servedModel]) => {
        const [provider = "", requestedModel = ""] = name.split("\n");
        return { provider, requestedModel, servedModel };
      }),
      sealedEnd: 0,
      keyIds: ["key_1", "key_2"],
      openedMs: new Map(this.opened),
      open,
      parts: [...sums].map(([name, { own, settled, held, most }]) => {
        const [budgetId = "", windowId = ""] = name.split("\n");
        const { settled: mine, held: holds, most: can, granted } = own;
        return { budgetId, windowId, settled: mine, held: holds, most: can, granted, others: { settled, held, most } };
      }),
    };
  }

  elsewhere(node: number, ids: readonly number[]): Elsewhere {
    const there = ids.flatMap((id) => this.reservations.get(id) ?? []);
    return {
      open: there.filter((one) => this.#maySettle(node, one)),
      others: new Set(there.filter((one) => !this.#maySettle(node, one)).map(({ attemptId }) => attemptId)),
      over: new Set(ids.filter((id) => this.events.has(id))),
    };
  }

  /** A change of the register: it waits for all batches, and lets none begin. */
  change(budgets: readonly Budget[], freezes: readonly Freeze[]): void {
    this.budgets = [...budgets];
    this.freezes = [...freezes];
    this.version += 1;
    for (const part of this.parts.values()) part.granted = part.settled + part.held;
    for (const budget of budgets) if (!this.opened.has(budget.id)) this.#open(budget);
    for (const budget of budgets) this.#noteExcess(budget);
  }

  /** What a batch takes beyond what was given: costs were above their holds. */
  #noteDebts(work: Work): void {
    const taken = new Map<string, bigint>();
    for (const row of [...(work.escrow ?? []), ...(work.shared ?? [])]) {
      const name = `${String(row["budget_id"])}\n${String(row["window_id"])}`;
      taken.set(name, (taken.get(name) ?? 0n) + BigInt(String(row["granted_nano_usd"])));
    }
    for (const [name, amount] of taken)
      if (amount > 0n) this.#excess.set(name, (this.#excess.get(name) ?? 0n) + amount);
  }

  /** What is used of a window beyond what the budget has by now, for it has less than before. */
  #noteExcess(budget: Budget): void {
    const now = this.#now();
    for (const [name, granted] of this.#grantedOf(budget))
      if (granted > amountAt(budget, now)) this.#over.set(name, now);
    for (const [name, used] of this.#usedOf(budget)) {
      const beyond = used - amountAt(budget, now);
      if (beyond > (this.#excess.get(name) ?? 0n)) this.#excess.set(name, beyond);
    }
  }

  /** More money that has ended by now. */
  #noteEnds(): void {
    for (const budget of this.budgets)
      for (const { id, untilMs } of budget.raises ?? [])
        if (untilMs <= this.#now() && !this.#ended.has(id)) {
          this.#ended.add(id);
          this.#noteExcess(budget);
        }
  }

  /** By part's name without the node. */
  #usedOf(budget: Budget): Map<string, bigint> {
    return this.#sumOf(budget, ({ settled, held }) => settled + held);
  }

  #grantedOf(budget: Budget): Map<string, bigint> {
    return this.#sumOf(budget, ({ granted }) => granted);
  }

  #sumOf({ id }: Budget, of: (part: Part) => bigint): Map<string, bigint> {
    const sums = new Map<string, bigint>();
    for (const [name, part] of this.parts) {
      const [budgetId, windowId = ""] = name.split("\n");
      if (budgetId !== id) continue;
      const window = `${id}\n${windowId}`;
      sums.set(window, (sums.get(window) ?? 0n) + of(part));
    }
    return sums;
  }

  /** After a batch with new attempts: no window is used beyond what its budget has. */
  #checkCaps(work: Work): void {
    if (!this.isExact) return;
    for (const row of work.reservations ?? [])
      for (const [budgetId, windowId] of readHolds(String(row["holds"]))) {
        const budget = this.budgets.find(({ id }) => id === budgetId);
        if (!budget || budget.kind !== "hard" || budget.observe) continue;
        const name = `${budgetId}\n${windowId}`;
        // It may have waited until there was more.
        const atMs = attemptAtMs(Number(row["attempt_id"]));
        const begins = (budget.raises ?? []).map(({ createdAtMs }) => createdAtMs).filter((ms) => ms > atMs);
        const amounts = [atMs, ...begins].map((ms) => amountAt(budget, ms));
        const amount = amounts.reduce((one, other) => (one > other ? one : other));
        const most = amount + (this.#excess.get(name) ?? 0n);
        const overSince = this.#over.get(name);
        if (overSince !== undefined && atMs >= overSince)
          throw new Violation(`more of ${name.replace("\n", ", ")} is held, though less is left than was granted`);
        const used = this.#usedOf(budget).get(name) ?? 0n;
        if (used > most) throw new Violation(`${used} of ${name.replace("\n", ", ")} are used, it may come to ${most}`);
      }
  }

  /** Orphans of nodes that have been silent for so long. */
  orphans(ms: number): StoredReservation[] {
    return [...this.reservations.values()].filter(({ node, workId }) => {
      const row = node === undefined ? undefined : this.nodes.get(node);
      return workId === undefined && row?.state === "fenced" && this.#now() - row.seenAt > ms;
    });
  }

  /** What is really settled and held in each window that is kept. */
  check(): void {
    for (const budget of this.budgets) {
      const since = this.opened.get(budget.id) ?? 0;
      const settled = new Map<string, bigint>();
      for (const { id, subject, cost } of this.events.values()) {
        const window = this.#calendar.window(budget.window, attemptAtMs(id));
        if (window.endMs <= since || !covers(budget.scope, subject)) continue;
        settled.set(window.id, (settled.get(window.id) ?? 0n) + cost);
      }
      const held = new Map<string, bigint>();
      const can = new Map<string, bigint>();
      for (const one of this.reservations.values())
        for (const [budgetId, windowId, amount, most] of one.holds)
          if (budgetId === budget.id) {
            const name = `${windowId}\n${one.node ?? NOBODY}`;
            held.set(name, (held.get(name) ?? 0n) + amount);
            can.set(name, (can.get(name) ?? 0n) + most);
          }
      const ofParts = new Map<string, bigint>();
      for (const [name, part] of this.parts) {
        const [budgetId, windowId = "", node = ""] = name.split("\n");
        if (budgetId !== budget.id) continue;
        ofParts.set(windowId, (ofParts.get(windowId) ?? 0n) + part.settled);
        same(part.held, held.get(`${windowId}\n${node}`) ?? 0n, `${name}: held`);
        same(part.most, can.get(`${windowId}\n${node}`) ?? 0n, `${name}: the most that it can come to`);
        held.delete(`${windowId}\n${node}`);
      }
      for (const [name, amount] of held) same(0n, amount, `${budget.id} ${name}: held without a part`);
      for (const [windowId, sum] of ofParts)
        same(sum, settled.get(windowId) ?? 0n, `${budget.id} ${windowId}: settled`);
      for (const [windowId, sum] of settled)
        if (!ofParts.has(windowId)) same(0n, sum, `${budget.id} ${windowId}: settled without a part`);
    }
  }

  #maySettle(node: number, { node: owner }: StoredReservation): boolean {
    return owner === undefined || owner === node || this.nodes.get(owner)?.state === "fenced";
  }

  #part(budgetId: string, windowId: string, node: number): Part {
    const name = `${budgetId}\n${windowId}\n${node}`;
    let part = this.parts.get(name);
    if (!part) this.parts.set(name, (part = emptyPart()));
    return part;
  }

  #freeSurplus(node: number): void {
    for (const [name, part] of this.parts)
      if (name.endsWith(`\n${node}`)) Object.assign(part, { granted: part.settled + part.held, wantedUntil: 0 });
  }

  #move(row: Row, node: number): void {
    const part = this.#part(String(row["budget_id"]), String(row["window_id"]), node);
    part.settled += BigInt(String(row["settled_nano_usd"]));
    part.held += BigInt(String(row["held_nano_usd"]));
    part.most += BigInt(String(row["most_nano_usd"]));
    part.granted += BigInt(String(row["granted_nano_usd"]));
    part.wantedUntil = 0;
    if (part.held < 0n || part.most < 0n) throw new Violation(`${JSON.stringify(row)}: less than nothing is held`);
    if (part.granted < part.settled + part.held)
      throw new Violation(
        `node ${node} uses more of ${String(row["budget_id"])} than it was granted: ${JSON.stringify(row)}`,
      );
  }

  /** A node may take more than it was given only where a cost was above its hold. */
  #checkRaises(node: number, work: Work): void {
    for (const row of work.escrow ?? []) {
      const budget = this.budgets.find(({ id }) => id === row["budget_id"]);
      const raised = BigInt(String(row["granted_nano_usd"]));
      if (!budget || budget.kind !== "hard" || budget.observe || raised <= 0n) continue;
      let beyond = 0n;
      for (const event of work.events ?? []) {
        const id = Number(event["attempt_id"]);
        const window = this.#calendar.window(budget.window, attemptAtMs(id));
        if (window.id !== row["window_id"] || !covers(budget.scope, subjectOf(event))) continue;
        const kept = this.reservations.get(id);
        const own = kept?.node === node ? kept.holds.find(([budgetId]) => budgetId === budget.id)?.[2] : undefined;
        const cost = costOf(event);
        if (cost > (own ?? 0n)) beyond += cost - (own ?? 0n);
      }
      if (raised > beyond)
        throw new Violation(`node ${node} took ${raised} of ${budget.id}, its costs were ${beyond} above their holds`);
    }
  }

  #reserve(node: number, row: Row): void {
    const id = Number(row["attempt_id"]);
    if (this.reservedOnce.has(id)) throw new Violation(`attempt ${id} was reserved twice`);
    this.reservedOnce.add(id);
    const subject = subjectOf(row);
    if (this.freezes.some(({ scope }) => covers(scope, subject)))
      throw new Violation(`attempt ${id} is in what is frozen`);
    const holds = readHolds(String(row["holds"]));
    for (const budget of this.budgets) {
      const request = amountsOf(row);
      const window = this.#calendar.window(budget.window, attemptAtMs(id));
      const there = holds.find(([budgetId]) => budgetId === budget.id);
      // Under another name the model may be covered too.
      if (!covers(budget.scope, subject) || window.endMs <= (this.opened.get(budget.id) ?? 0)) continue;
      same(there?.[1], window.id, `attempt ${id}: the window in which it holds of ${budget.id}`);
      same(there?.[2], amountFor(budget, request) ?? 0n, `attempt ${id}: what it holds of ${budget.id}`);
      same(there?.[3], mostOf(request), `attempt ${id}: the most that it can come to`);
    }
    this.reservations.set(id, {
      attemptId: id,
      node,
      keyId: String(row["key_id"]),
      provider: String(row["provider"]),
      endpoint: String(row["endpoint"]),
      requestedModel: String(row["requested_model"]),
      team: String(row["team"]),
      project: String(row["project"]),
      env: String(row["env"]),
      user: "",
      payer: "",
      seatNanoUsd: undefined,
      tags: undefined,
      ...amountsOf(row),
      workId: undefined,
      holds,
    });
  }

  #extend(node: number, row: Row): void {
    const id = Number(row["attempt_id"]);
    const kept = this.reservations.get(id);
    if (kept?.node !== node) return;
    const expectedNanoUsd = BigInt(String(row["expected_nano_usd"]));
    const holds = row["holds"] === undefined ? kept.holds : readHolds(String(row["holds"]));
    this.reservations.set(id, { ...kept, expectedNanoUsd, holds });
  }

  #grant(node: number, asks: readonly Ask[], waiters: NonNullable<Work["waiters"]>): Pick<Booked, "grants" | "vain"> {
    const now = this.#now();
    const all = asks.map((ask) => {
      const budget = this.budgets.find(({ id }) => id === ask.budget_id);
      const own = this.#part(ask.budget_id, ask.window_id, node);
      const others = { settled: 0n, held: 0n, most: 0n };
      let granted = 0n;
      let isWanted = false;
      for (const [name, part] of this.parts) {
        if (!name.startsWith(`${ask.budget_id}\n${ask.window_id}\n`)) continue;
        granted += part.granted;
        if (part === own) continue;
        others.settled += part.settled;
        others.held += part.held;
        others.most += part.most;
        isWanted ||= part.wantedUntil > now;
      }
      const amount = budget ? amountAt(budget, ask.at_ms) : 0n;
      const spare = own.granted - own.settled - own.held;
      const free = amount - granted;
      const unused = amount - others.settled - others.held - own.settled - own.held;
      const name = `${node}\n${ask.budget_id}\n${ask.window_id}`;
      if (!this.isTrusted) this.asked.set(name, [...(this.asked.get(name) ?? []), { room: unused, atMs: now }]);
      return { ask, budget, own, others, granted, amount, spare, free, unused, isWanted, met: 0n, isLacking: false };
    });
    const vain = waiters.map((waiter) => {
      const needs = waiter
        .map(([at, need]) => ({ at, one: all[at], need: BigInt(need) }))
        .toSorted((one, other) => one.at - other.at);
      const there = (one: (typeof all)[number] | undefined): bigint =>
        one ? (one.free > 0n ? one.free : 0n) + one.spare - one.met : 0n;
      const cannot = needs.find(({ one, need }) => need > there(one) && need > (one?.unused ?? 0n))?.at ?? null;
      const isMet = needs.every(({ one, need }) => need <= there(one));
      for (const { one, need } of needs) {
        if (!one) continue;
        if (isMet) one.met += need;
        else if (cannot === null && need > there(one)) one.isLacking = true;
      }
      return cannot;
    });
    const live = BigInt([...this.nodes.values()].filter(({ state }) => state === "live").length || 1);
    const grants = all.map(({ ask, budget, own, others, granted, amount, spare, free, isWanted, met, isLacking }) => {
      if (!budget) return null;
      const rate = BigInt(ask.rate);
      const share = free / (2n * live) < rate ? free / (2n * live) : rate;
      const wanted = (met > spare ? met - spare : 0n) + (isWanted || isLacking ? 0n : share);
      const most = wanted < free ? wanted : free;
      const given = most > 0n ? most : 0n;
      own.granted += given;
      own.wantedUntil = isLacking ? now + WANTED_MS : 0;
      if (given > 0n && granted + given > amount)
        throw new Violation(`${granted + given} of ${budget.id} are granted, it has ${amount}`);
      // An attempt of before the end of a raise, that is decided after it.
      const beyond = granted + given - amountAt(budget, now);
      const window = `${ask.budget_id}\n${ask.window_id}`;
      if (given > 0n && beyond > (this.#excess.get(window) ?? 0n)) this.#excess.set(window, beyond);
      const ends = (budget.raises ?? []).filter((one) => one.createdAtMs <= ask.at_ms && ask.at_ms < one.untilMs);
      return {
        budgetId: ask.budget_id,
        windowId: ask.window_id,
        given: given.toString(),
        untilMs: ends.length > 0 ? Math.min(...ends.map(({ untilMs }) => untilMs)) : null,
        settled: others.settled.toString(),
        held: others.held.toString(),
        most: others.most.toString(),
      };
    });
    return { grants, vain };
  }

  #suspend(node: number, row: Row): boolean {
    const id = Number(row["attempt_id"]);
    const kept = this.reservations.get(id);
    const name = `${String(row["provider"])}\n${String(row["work_id"])}`;
    if (kept?.node !== node || this.things.has(name)) return false;
    this.things.set(name, id);
    for (const [budgetId, windowId, amount, most] of kept.holds) {
      const [mine, nobodys] = [this.#part(budgetId, windowId, node), this.#part(budgetId, windowId, NOBODY)];
      mine.held -= amount;
      mine.most -= most;
      mine.granted -= amount;
      nobodys.held += amount;
      nobodys.most += most;
      nobodys.granted += amount;
    }
    this.reservations.set(id, { ...kept, node: undefined, workId: String(row["work_id"]) });
    return true;
  }

  #settle(node: number, row: Row, requires: readonly number[]): void {
    const id = Number(row["attempt_id"]);
    if (this.events.has(id)) throw new Violation(`attempt ${id} has two events`);
    this.events.set(id, { id, subject: subjectOf(row), cost: costOf(row) });
    const kept = this.reservations.get(id);
    if (kept && (kept.node === node || requires.includes(id))) this.reservations.delete(id);
    else if (kept) throw new Violation(`attempt ${id} is settled by node ${node}, and is ${kept.node ?? "nobody"}'s`);
  }

  #look(node: number, windowIds: readonly string[]): NonNullable<Booked["saw"]> {
    const now = this.#now();
    const others = new Map<string, { settled: bigint; held: bigint; most: bigint }>();
    const wanted: [string, string][] = [];
    for (const [name, part] of this.parts) {
      const [budgetId = "", windowId = "", owner] = name.split("\n");
      if (Number(owner) === node) continue;
      if (part.wantedUntil > now) wanted.push([budgetId, windowId]);
      if (!windowIds.includes(windowId)) continue;
      const sum = others.get(`${budgetId}\n${windowId}`) ?? { settled: 0n, held: 0n, most: 0n };
      sum.settled += part.settled;
      sum.held += part.held;
      sum.most += part.most;
      others.set(`${budgetId}\n${windowId}`, sum);
    }
    return {
      wanted,
      silent: [...this.nodes]
        .filter(([other, { state, seenAt }]) => other !== node && state === "live" && now - seenAt > FENCE_MS)
        .map(([other]) => other),
      others: [...others].map(([name, sum]) => {
        const [budgetId = "", windowId = ""] = name.split("\n");
        return [budgetId, windowId, `${sum.settled}`, `${sum.held}`, `${sum.most}`] as const;
      }),
    };
  }

  /** What was settled and is held before anybody kept it. */
  #open(budget: Budget): void {
    const now = this.#now();
    this.opened.set(budget.id, now);
    for (const { id, subject, cost } of this.events.values()) {
      const window = this.#calendar.window(budget.window, attemptAtMs(id));
      if (window.endMs <= now || !covers(budget.scope, subject)) continue;
      const part = this.#part(budget.id, window.id, NOBODY);
      part.settled += cost;
      part.granted += cost;
    }
    for (const [id, one] of this.reservations) {
      const servedModel = this.servedNames.get(`${one.provider}\n${one.requestedModel}`);
      if (!covers(budget.scope, { ...one, model: one.requestedModel, servedModel })) continue;
      const window = this.#calendar.window(budget.window, attemptAtMs(id));
      if (window.endMs <= now) continue;
      const [amount, most] = [amountFor(budget, one) ?? 0n, mostOf(one)];
      const part = this.#part(budget.id, window.id, one.node ?? NOBODY);
      part.held += amount;
      part.most += most;
      part.granted += amount;
      this.reservations.set(id, { ...one, holds: [...one.holds, [budget.id, window.id, amount, most]] });
    }
  }
}

export function same(actual: unknown, wanted: unknown, what: string): void {
  if (actual !== wanted) throw new Violation(`${what}: ${String(actual)}, and should be ${String(wanted)}`);
}

function emptyPart(): Part {
  return { settled: 0n, held: 0n, most: 0n, granted: 0n, wantedUntil: 0 };
}

function costOf(row: Row): bigint {
  const cost = row["cost_nano_usd"];
  return cost === null || cost === undefined ? 0n : BigInt(cost);
}

function amountsOf(row: Row): Pick<StoredReservation, "boundNanoUsd" | "expectedNanoUsd" | "mostNanoUsd"> {
  const amount = (name: string): bigint | undefined => {
    const value = row[name];
    return value === null || value === undefined ? undefined : BigInt(value);
  };
  return {
    boundNanoUsd: amount("bound_nano_usd"),
    expectedNanoUsd: amount("expected_nano_usd"),
    mostNanoUsd: amount("most_nano_usd"),
  };
}

function subjectOf(row: Row): Subject {
  const served = row["served_model"];
  return {
    keyId: String(row["key_id"]),
    team: String(row["team"]),
    project: String(row["project"]),
    env: String(row["env"]),
    user: "",
    provider: String(row["provider"]),
    model: String(row["requested_model"]),
    servedModel: served === null || served === undefined ? undefined : String(served),
  };
}
