// A node's parts of windows: what it was granted, what of that goes back, and what it asks for. Money that it does not
// need goes back after a second, or when another node waits for it; what a budget lacks that is not enforced is nobody's
// to grant.
import { LedgerError } from "../../books.ts";
import type { Budget } from "../../budgets.ts";
import type { NanoUsd } from "../../money.ts";
import type { Window } from "../../windows.ts";
import { isEnforced, surplusOf } from "../reservations.ts";
import type { CapMode, Held, Need, Part, Share } from "../reservations.ts";
import type { NodeMemory } from "./memory.ts";
import type { Ask, Booked, Row, Work } from "./work.ts";

export type NodeEscrow = {
  /** What is known of a window that comes into memory; undefined: it is not kept. */
  shareOf(budget: Budget, window: Window): Share | undefined;
  /** What the node has settled in it, by the books. */
  settledIn(budget: Budget, window: Window): NanoUsd;
  /** What was carried over is as the books have it. `spare`: parts that were granted more than they need. Throws where
   *  memory is not what the books have. */
  begin(spare: readonly Part[], carried: readonly Part[]): void;
  /** An attempt was admitted, and holds so much: as much may be needed in the next second. */
  spent(part: Part, amount: NanoUsd, nowMs: number): void;
  /** What was booked elsewhere cost more than was held for it: as far as there is some to spare, it comes from here. */
  pay(part: Part, amount: NanoUsd): void;
  /** What is to be written of the parts that were changed, and of those from which something goes back; and asks for those
   *  that have too little. */
  work(
    nowMs: number,
    waiting: readonly Waiting[],
  ): { readonly escrow: readonly Row[]; readonly asks: readonly Ask[]; readonly waiters: NonNullable<Work["waiters"]> };
  /** It is written, and answered. `looked`: the windows that were asked about. */
  committed(booked: Booked, looked: ReadonlySet<string>, nowMs: number): void;
  /** These holds are nobody's by now: the books have moved them. */
  handedOver(holds: readonly Held[]): void;
  /** Whether money lies here that others may wait for. */
  hasSurplus(): boolean;
};

/** What an attempt needs that waits, and its instant. */
export type Waiting = { readonly needs: readonly Need[]; readonly atMs: number };

type Figures = { settled: NanoUsd; held: NanoUsd; most: NanoUsd; granted: NanoUsd };

/** A part between batches. */
class Kept {
  /** As the books have it. */
  readonly written: Figures;
  usedMs = 0;
  /** When an ask gave nothing. */
  emptyMs = 0;
  #second = 0;
  #now = 0n;
  #before = 0n;

  constructor(written: Figures) {
    this.written = written;
  }

  handOver(amount: NanoUsd, most: NanoUsd): void {
    this.written.held -= amount;
    this.written.most -= most;
    this.written.granted -= amount;
  }

  spend(amount: NanoUsd, nowMs: number): void {
    this.rate(nowMs);
    this.#now += amount;
    this.usedMs = nowMs;
  }

  /** More is asked for before it runs out: whether less is left than such a part of what is given ahead. */
  isBelow(part: Part, nowMs: number, share: bigint): boolean {
    const ahead = AHEAD * this.rate(nowMs);
    return ahead > 0n && nowMs - this.emptyMs >= EMPTY_MS && surplusOf(part, nowMs) < ahead / share;
  }

  /** What was held in this second, or in the one before. */
  rate(nowMs: number): NanoUsd {
    const second = Math.floor(nowMs / SECOND);
    if (second > this.#second) {
      this.#before = second === this.#second + 1 ? this.#now : 0n;
      this.#now = 0n;
      this.#second = second;
    }
    return this.#now > this.#before ? this.#now : this.#before;
  }
}

/** What was not used for so long goes back. */
const UNUSED_MS = 1_000;
/** After an ask that gave nothing no more is asked for ahead for so long. */
const EMPTY_MS = 250;
const SECOND = 1_000;
/** So many seconds' needs are asked for ahead. */
const AHEAD = 4n;
/** Of what is asked for ahead: below the first part more is asked for, below the second where it is asked anyway. */
const LOW = 4n;
const NEAR = 2n;
const NO_SUMS = { settled: 0n, held: 0n, most: 0n };

/** `isKept`: whether the books keep a window of a budget. */
export function createNodeEscrow(
  memory: NodeMemory,
  mode: CapMode,
  touched: () => Set<Part>,
  isKept: (budget: Budget, window: Window) => boolean,
): NodeEscrow {
  const stored = new Map(memory.parts.map((part) => [`${part.budgetId}\n${part.windowId}`, part]));
  const shares: Shares = new Map();
  const kept = new Map<Part, Kept>();
  /** Parts that were granted more than they need. */
  const loose = new Set<Part>();
  const wanted = new Set<string>();

  const keptOf = (part: Part): Kept => {
    let one = kept.get(part);
    if (!one) {
      const { settled, held, most, granted } = stored.get(partName(part)) ?? { ...NO_SUMS, granted: 0n };
      kept.set(part, (one = new Kept({ settled, held, most, granted })));
      const known = shares.get(partName(part));
      if (known) known.part = part;
    }
    return one;
  };
  const isGranted = ({ budget }: Part): boolean => budget.kind === "hard" && isEnforced(budget, mode);

  const balance = (part: Part, nowMs: number): void =>
    balancePart(part, nowMs, !isGranted(part) || wanted.has(partName(part)) || nowMs - keptOf(part).usedMs > UNUSED_MS);

  return {
    shareOf(budget, window) {
      if (!isKept(budget, window)) return undefined;
      const { settled = 0n, held = 0n, others = NO_SUMS } = stored.get(partName({ budget, window })) ?? {};
      // What it was granted beyond that may have been another budget's amount, or raised: it goes back, and so does what
      // becomes free, until more is granted.
      const share = { grantedNanoUsd: settled + held, untilMs: 0, others };
      shares.set(partName({ budget, window }), { windowId: window.id, share });
      return share;
    },

    settledIn: (budget, window) => stored.get(partName({ budget, window }))?.settled ?? 0n,

    begin(spare, carried) {
      for (const part of carried) checkCarried(part, keptOf(part).written);
      touched().clear();
      for (const part of [...spare, ...carried]) {
        if (keptOf(part).written.granted > part.settled + part.reserved) loose.add(part);
      }
    },

    pay(part, amount) {
      const spare = spareOf(part);
      if (part.share && spare > 0n) part.share.grantedNanoUsd -= spare < amount ? spare : amount;
    },

    spent: (part, amount, nowMs) => keptOf(part).spend(amount, nowMs),

    work(nowMs, waiting) {
      const escrow: Row[] = [];
      const asked = new Map<Part, number>();
      for (const { needs, atMs } of waiting) for (const { part } of needs) if (!asked.has(part)) asked.set(part, atMs);
      const near: Part[] = [];
      for (const part of new Set([...touched(), ...loose])) {
        const { written } = keptOf(part);
        balance(part, nowMs);
        const row = changeOf(part, written);
        if (row) escrow.push(row);
        if (asked.has(part)) continue;
        if (!isGranted(part)) continue;
        if (keptOf(part).isBelow(part, nowMs, LOW)) asked.set(part, nowMs);
        else if (keptOf(part).isBelow(part, nowMs, NEAR)) near.push(part);
      }
      // Who asks for one asks for those that will be low soon: each ask waits for the asks of others.
      if (asked.size > 0) for (const part of near) asked.set(part, nowMs);
      const order = new Map([...asked.keys()].map((part, i) => [part, i]));
      return {
        escrow,
        asks: [...asked].map(([part, atMs]) => askFor(part, atMs, AHEAD * keptOf(part).rate(nowMs))),
        waiters: waiting.map(({ needs }) =>
          needs.map(({ part, needNanoUsd }) => [order.get(part) ?? 0, needNanoUsd.toString()] as const),
        ),
      };
    },

    committed({ grants, saw }, looked, nowMs) {
      const changed = new Set([...touched(), ...loose]);
      for (const part of changed) Object.assign(keptOf(part).written, figuresOf(part));
      touched().clear();
      for (const grant of grants) {
        if (!grant) continue;
        const { budgetId, windowId, given, untilMs, ...sums } = grant;
        const { share, part } = shares.get(`${budgetId}\n${windowId}`) ?? {};
        if (!share || !part) continue;
        const one = keptOf(part);
        one.usedMs = nowMs;
        if (given === "0") one.emptyMs = nowMs;
        share.grantedNanoUsd += BigInt(given);
        one.written.granted += BigInt(given);
        // All that is granted by now is there: what was left over of before has gone back with the batch.
        if (given !== "0") share.untilMs = untilMs ?? Infinity;
        share.others = sumsOf(sums.settled, sums.held, sums.most);
        changed.add(part);
      }
      for (const part of changed) void (spareOf(part) > 0n ? loose.add(part) : loose.delete(part));
      if (!saw) return;
      wanted.clear();
      for (const [budgetId, windowId] of saw.wanted) wanted.add(`${budgetId}\n${windowId}`);
      hearOthers(shares, saw, looked);
    },

    handedOver(holds) {
      for (const { part, amount, most } of holds) {
        keptOf(part).handOver(amount, most);
        if (part.share) part.share.grantedNanoUsd -= amount;
      }
    },

    hasSurplus: () => loose.size > 0,
  };
}

/** What the part took beyond what it was given is granted; what it does not need goes back. */
function balancePart(part: Part, nowMs: number, goesBack: boolean): void {
  const { share } = part;
  if (!share) return;
  const spare = spareOf(part);
  if (spare < 0n || goesBack || nowMs >= share.untilMs) share.grantedNanoUsd -= spare;
  // More is granted than there is: what becomes free is not the node's to use.
  if (spare < 0n) share.untilMs = 0;
}

function checkCarried(part: Part, { held, most }: Figures): void {
  if (part.share && (part.reserved !== held || part.most !== most))
    throw new LedgerError(
      `${partName(part).replace("\n", ", ")}: open attempts hold ${part.reserved}, its part ${held}`,
    );
}

function askFor({ budget, window }: Part, atMs: number, rate: NanoUsd): Ask {
  return { budget_id: budget.id, window_id: window.id, at_ms: atMs, rate: rate.toString() };
}

type Shares = Map<string, { readonly windowId: string; readonly share: Share; part?: Part }>;

/** What others have in the windows that were asked about: none where nothing was said. */
function hearOthers(shares: Shares, { others }: NonNullable<Booked["saw"]>, looked: ReadonlySet<string>): void {
  const heard = new Map(others.map(([budgetId, windowId, ...sums]) => [`${budgetId}\n${windowId}`, sums]));
  for (const [name, { share, windowId }] of shares)
    if (looked.has(windowId)) share.others = sumsOf(...(heard.get(name) ?? ["0", "0", "0"]));
}

/** What it was granted beyond its needs. */
function spareOf({ settled, reserved, share }: Part): NanoUsd {
  return (share?.grantedNanoUsd ?? 0n) - settled - reserved;
}

export function partName({ budget, window }: { readonly budget: Budget; readonly window: Window }): string {
  return `${budget.id}\n${window.id}`;
}

function sumsOf(settled: string, held: string, most: string): Share["others"] {
  return { settled: BigInt(settled), held: BigInt(held), most: BigInt(most) };
}

function figuresOf({ settled, reserved, most, share }: Part): Figures {
  return { settled, held: reserved, most, granted: share?.grantedNanoUsd ?? 0n };
}

/** What is added to the row of a part. */
function changeOf(part: Part, written: Figures): Row | undefined {
  const { settled, held, most, granted } = figuresOf(part);
  const isSame =
    settled === written.settled && held === written.held && most === written.most && granted === written.granted;
  if (isSame) return undefined;
  return {
    budget_id: part.budget.id,
    window_id: part.window.id,
    settled_nano_usd: (settled - written.settled).toString(),
    held_nano_usd: (held - written.held).toString(),
    most_nano_usd: (most - written.most).toString(),
    granted_nano_usd: (granted - written.granted).toString(),
  };
}
