// Reconciliation: metered beside billed, tokens first, money second. Pure: arrays in, arrays out. A difference is taken
// apart into pieces that each have one cause out of a closed list, and that add up to it exactly; see README.md for the
// order in which causes are looked for, and why.
import type { BilledLine as BookedLine, BilledUsage } from "../ledger/billing/bills.ts";
import type { Comparison, Variance, VarianceCause } from "../ledger/billing/closed-days.ts";
import { allocate, formatUsd, scale } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { INPUT_CLASSES, isFee } from "../ledger/usage.ts";
import type { Unit } from "../ledger/usage.ts";
import { DAY_MS } from "../ledger/windows.ts";

type BilledLine = Omit<BookedLine, "raw">;

/** What was metered, as the bill could tell it: under the provider's key id where that is known. */
export type Metered = {
  readonly key: string;
  readonly model: string;
  readonly tier: string;
  readonly unit: Unit | "";
  readonly state: "reported" | "estimated" | "unknown";
  readonly quantity: number;
  readonly costNanoUsd: NanoUsd;
  readonly events: number;
};

/** One UTC day of one provider. */
export type Day = {
  readonly day: string;
  readonly metered: readonly Metered[];
  readonly billed: readonly BilledLine[];
  /** Quantities reported without money; undefined: the provider reports none, or not of this day. */
  readonly usage: readonly BilledUsage[] | undefined;
  /** Whether the bill of this day can still grow: what it lacks is late, not lost. */
  readonly isLate: boolean;
  /** Whether the meter began on this day: what is billed beyond it may be of the hours before. */
  readonly isFirst?: boolean;
};

export type Context = {
  readonly provider: string;
  /** Keys on which anything was ever metered. */
  readonly knownKeys: ReadonlySet<string>;
  /** Models that were metered in these days or shortly before, on any key. */
  readonly knownModels: ReadonlySet<string>;
  /** How much of a cell belongs to answers that were under way at the midnight after a day: the provider may book them
   *  on either. */
  readonly edge: (day: string, cell: { readonly [dimension in Dimension]: string | undefined }) => number;
};

type Dimension = "key" | "model" | "tier" | "unit";
const DIMENSIONS: readonly Dimension[] = ["key", "model", "tier", "unit"];

/** One place of the comparison: what both sides say of it. */
type Cell = {
  readonly key: string | undefined;
  readonly model: string | undefined;
  readonly tier: string | undefined;
  readonly unit: string | undefined;
  metered: {
    quantity: number;
    cost: NanoUsd;
    estimated: number;
    estimatedCost: NanoUsd;
    unseen: number;
    events: number;
  };
  billed: {
    quantity: number | undefined;
    cost: NanoUsd;
    list: NanoUsd | undefined;
    resolution: NanoUsd;
    lines: number;
  };
  /** Pieces of the quantity's difference that have a cause already. */
  readonly explained: { cause: VarianceCause; quantity: number; detail: string }[];
};
type DayOfCells = { readonly day: Day; readonly cells: Map<string, Cell>; readonly extra: Comparison[] };

/** Compares days that follow one another, oldest first; the money of each comparison's variances is billed minus
 *  metered. */
export function reconcile(context: Context, days: readonly Day[]): Comparison[] {
  const compared = days.map((day) => cellsOf(context, day));
  explainMidnights(context, compared);
  return compared.flatMap(({ day, cells, extra }) => {
    for (const group of groupsOf(cells.values(), ["key", "model", "unit"]))
      explainMoves(group, "tier or discount", "under another tier");
    for (const group of groupsOf(cells.values(), ["key", "model", "tier"]))
      for (const side of [true, false])
        explainMoves(
          group.filter(({ unit }) => INPUTS.has(unit ?? "") === side && !isFee((unit ?? "input") as Unit)),
          "token class",
          "as another token class",
        );
    for (const group of groupsOf(cells.values(), ["key", "model"])) explainEstimates(day, group);
    for (const cell of cells.values()) explainRest(context, day, cell);
    const discount = day.isLate ? undefined : commonRatio([...cells.values()]);
    const found = [...cells.values()].map((cell) => toComparison(context, day, cell, discount));
    return [...found, ...extra].filter(
      (one) =>
        one.meteredNanoUsd !== 0n ||
        one.billedNanoUsd !== 0n ||
        one.variances.length > 0 ||
        (one.billedQuantity ?? 0) > 0,
    );
  });
}

const INPUTS: ReadonlySet<string> = new Set(INPUT_CLASSES);

function follows(day: string, next: string): boolean {
  return Date.parse(next) - Date.parse(day) === DAY_MS;
}

/** Both sides, side by side, along the dimensions that the bill knows. */
function cellsOf({ provider }: Context, day: Day): DayOfCells {
  const isUse = (line: BilledLine): boolean =>
    line.kind === "usage" || (line.kind === "fee" && line.unit !== undefined);
  const used = day.billed.filter(isUse);
  const told = (dimension: Dimension, of: readonly BilledLine[]): boolean =>
    of.some((line) => fieldOf(line, dimension) !== undefined);
  // A bill that is not there yet has the dimensions of what is metered.
  const has = new Set(used.length === 0 ? DIMENSIONS : DIMENSIONS.filter((dimension) => told(dimension, used)));
  const cells = new Map<string, Cell>();
  const at = (place: { readonly [dimension in Dimension]: string | undefined }): Cell => {
    const of = Object.fromEntries(DIMENSIONS.map((one) => [one, has.has(one) ? (place[one] ?? "") : undefined])) as {
      [dimension in Dimension]: string | undefined;
    };
    const name = DIMENSIONS.map((one) => of[one] ?? "\u0000").join("\n");
    let cell = cells.get(name);
    if (!cell)
      cells.set(
        name,
        (cell = {
          ...of,
          metered: { quantity: 0, cost: 0n, estimated: 0, estimatedCost: 0n, unseen: 0, events: 0 },
          billed: { quantity: undefined, cost: 0n, list: undefined, resolution: 0n, lines: 0 },
          explained: [],
        }),
      );
    return cell;
  };
  for (const line of day.metered) {
    const { metered } = at({ ...line, tier: tierOf(line.tier) });
    metered.quantity += line.quantity;
    metered.cost += line.costNanoUsd;
    metered.events += line.events;
    if (line.state === "reported") continue;
    metered.estimated += line.quantity;
    metered.estimatedCost += line.costNanoUsd;
    if (line.unit === "") metered.unseen += line.events;
  }
  for (const line of used) {
    const { billed } = at({ key: line.billedKey, model: line.model, tier: line.tier, unit: line.unit });
    billed.cost += line.amountNanoUsd;
    billed.lines += 1;
    if (line.resolutionNanoUsd > billed.resolution) billed.resolution = line.resolutionNanoUsd;
    if (line.listNanoUsd !== undefined) billed.list = (billed.list ?? 0n) + line.listNanoUsd;
    if (line.quantity !== undefined) billed.quantity = (billed.quantity ?? 0) + line.quantity;
  }
  addUsage(day, has, cells, at);
  // A bill that counts units counts none of what it does not name; and a bill that is not there yet counts nothing.
  if (used.length === 0 || [...cells.values()].some(({ billed }) => billed.quantity !== undefined))
    for (const { billed } of cells.values()) if (billed.lines === 0) billed.quantity ??= 0;
  const extra = day.billed
    .filter((line) => !isUse(line))
    .map((line): Comparison => ({
      provider,
      day: day.day,
      kind: line.kind === "usage" ? undefined : line.kind,
      key: line.billedKey,
      model: line.model,
      tier: line.tier,
      unit: line.unit,
      meteredQuantity: undefined,
      billedQuantity: line.quantity,
      meteredNanoUsd: 0n,
      billedNanoUsd: line.amountNanoUsd,
      variances:
        line.amountNanoUsd === 0n
          ? []
          : [{ cause: OTHER_CAUSES[line.kind], amountNanoUsd: line.amountNanoUsd, detail: line.lineItem ?? line.kind }],
    }));
  return { day, cells, extra };
}

const OTHER_CAUSES: { readonly [kind in BilledLine["kind"]]: VarianceCause } = {
  usage: "unknown",
  fee: "fee",
  credit: "credit or tax",
  tax: "credit or tax",
  adjustment: "credit or tax",
  rounding: "rounding",
};

/** Quantities that the provider reports apart from the money: where the money has none, and only when they can be told
 *  apart as far as the money can. */
function addUsage(
  { usage }: Day,
  has: ReadonlySet<Dimension>,
  cells: ReadonlyMap<string, Cell>,
  at: (place: { readonly [dimension in Dimension]: string | undefined }) => Cell,
): void {
  if (!usage || !has.has("unit")) return;
  if ([...cells.values()].some(({ billed }) => billed.quantity !== undefined)) return;
  const isTold = (dimension: Dimension): boolean =>
    dimension === "unit" || !has.has(dimension) || usage.some((one) => fieldOf(one, dimension) !== undefined);
  if (!DIMENSIONS.every(isTold)) return;
  for (const one of usage) {
    if (one.unit === "requests") continue;
    const { billed } = at({ key: one.billedKey, model: one.model, tier: one.tier, unit: one.unit });
    billed.quantity = (billed.quantity ?? 0) + one.quantity;
  }
  // What a report of usage does not name was not used: tokens always, fees only where it counts such at all.
  const counted = new Set<string | undefined>(usage.map(({ unit }) => unit));
  for (const { unit, billed } of cells.values())
    if (counted.has(unit) || (billed.lines === 0 && !isFee((unit ?? "input") as Unit))) billed.quantity ??= 0;
}

function fieldOf(
  line: {
    readonly billedKey?: string | undefined;
    readonly model?: string | undefined;
    readonly tier?: string | undefined;
    readonly unit?: string | undefined;
  },
  dimension: Dimension,
): string | undefined {
  return dimension === "key" ? line.billedKey : line[dimension];
}

/** The one tier that bills tell apart; regions and variants are in the price. */
export function tierOf(tiers: string): string {
  return tiers.split(",").find((tier) => BILLED_TIERS.has(tier)) ?? "";
}
const BILLED_TIERS = new Set(["batch", "flex", "priority"]);

/** Billed minus metered units that have no cause yet. Undefined: the bill names no quantity. */
function restOf({ metered, billed, explained }: Cell): number | undefined {
  if (billed.quantity === undefined) return undefined;
  return explained.reduce((rest, piece) => rest - piece.quantity, billed.quantity - metered.quantity);
}

/** What ran over midnight. A provider books an answer by its beginning, as the meter does, or by its end: whichever
 *  leaves less unexplained is taken for all its answers that were under way. A day that can still grow explains
 *  nothing. */
function explainMidnights(context: Context, days: readonly DayOfCells[]): void {
  const moves: { readonly cell: Cell; readonly quantity: number }[] = [];
  days.forEach((today, i) => {
    const tomorrow = days[i + 1];
    if (!tomorrow || !follows(today.day.day, tomorrow.day.day) || today.day.isLate || tomorrow.day.isLate) return;
    for (const [name, before] of today.cells) {
      const after = tomorrow.cells.get(name);
      if (before.tier === "batch") {
        if (after) explainBatches(before, after);
        continue;
      }
      const size = context.edge(today.day.day, before);
      if (size === 0 || before.billed.quantity === undefined || (after && after.billed.quantity === undefined))
        continue;
      moves.push({ cell: before, quantity: -size });
      if (after) moves.push({ cell: after, quantity: size });
    }
  });
  const shifts = new Map<Cell, number>();
  for (const { cell, quantity } of moves) shifts.set(cell, (shifts.get(cell) ?? 0) + quantity);
  let [asMetered, asEnded] = [0, 0];
  for (const [cell, shift] of shifts) {
    asMetered += Math.abs(restOf(cell) ?? 0);
    asEnded += Math.abs((restOf(cell) ?? 0) - shift);
  }
  if (asEnded >= asMetered) return;
  for (const { cell, quantity } of moves)
    cell.explained.push({
      cause: "day boundary",
      quantity,
      detail: `${Math.abs(quantity)} ${cell.unit ?? "units"} were under way at midnight`,
    });
}

/** Batches are metered when they begin and billed when they end: more on one day and as much less on the other. */
function explainBatches(before: Cell, after: Cell): void {
  const [a, b] = [restOf(before), restOf(after)];
  if (!a || !b || a > 0 === b > 0) return;
  const size = Math.min(Math.abs(a), Math.abs(b));
  const detail = `${size} ${before.unit ?? "units"} of batches that ended on another day`;
  before.explained.push({ cause: "day boundary", quantity: a > 0 ? size : -size, detail });
  after.explained.push({ cause: "day boundary", quantity: b > 0 ? size : -size, detail });
}

/** More of one thing and as much less of another: the same tokens, billed as something else. */
function explainMoves(cells: readonly Cell[], cause: VarianceCause, how: string): void {
  const more = cells.filter((cell) => (restOf(cell) ?? 0) > 0);
  const fewer = cells.filter((cell) => (restOf(cell) ?? 0) < 0);
  const sum = (list: readonly Cell[]): number => list.reduce((total, cell) => total + Math.abs(restOf(cell) ?? 0), 0);
  const moved = Math.min(sum(more), sum(fewer));
  if (moved === 0) return;
  for (const side of [more, fewer]) {
    const parts = allocate(
      BigInt(moved),
      side.map((cell) => BigInt(Math.abs(restOf(cell) ?? 0))),
    );
    side.forEach((cell, i) => {
      const size = Number(parts[i] ?? 0n);
      if (size > 0)
        cell.explained.push({
          cause,
          quantity: side === more ? size : -size,
          detail: `${size} ${cell.unit ?? "units"} billed ${how}`,
        });
    });
  }
}

/** What the meter only estimated, the bill knows: it may be as much less as was estimated, and as much more again as
 *  was held or estimated in money; an answer that nobody saw may have cost as much as four that were seen. */
function explainEstimates({ isLate, isFirst = false }: Day, cells: readonly Cell[]): void {
  let room = 0n;
  for (const { metered } of cells) {
    room += metered.estimatedCost;
    if (metered.unseen > 0 && metered.estimatedCost === 0n) {
      const seen = cells.reduce((sum, cell) => sum + cell.metered.cost, 0n);
      const events = Math.max(1, ...cells.map((cell) => cell.metered.events));
      room += (4n * seen * BigInt(metered.unseen)) / BigInt(events);
    }
  }
  for (const cell of cells) {
    const rest = restOf(cell);
    if (rest === undefined || rest === 0) continue;
    if (rest < 0) {
      if (isLate) continue;
      const size = Math.min(-rest, cell.metered.estimated);
      if (size > 0)
        cell.explained.push({
          cause: "estimate corrected",
          quantity: -size,
          detail: `${size} ${cell.unit ?? "units"} fewer than estimated`,
        });
      continue;
    }
    // On the meter's first day more is billed for what came before it: no estimate is corrected by that.
    if (isFirst) continue;
    const price = unitCost(cell);
    if (room <= 0n || !price) continue;
    const money = scale(BigInt(rest), price.cost, price.per);
    const size = money <= room ? rest : Number((BigInt(rest) * room) / money);
    if (size <= 0) continue;
    room -= scale(BigInt(size), price.cost, price.per);
    cell.explained.push({
      cause: "estimate corrected",
      quantity: size,
      detail: `${size} ${cell.unit ?? "units"} more than estimated`,
    });
  }
}

/** What a unit costs by the bill, else by the meter. */
function unitCost({ metered, billed }: Cell): { readonly cost: NanoUsd; readonly per: bigint } | undefined {
  if (billed.quantity !== undefined && billed.quantity > 0) return { cost: billed.cost, per: BigInt(billed.quantity) };
  return metered.quantity > 0 ? { cost: metered.cost, per: BigInt(metered.quantity) } : undefined;
}

/** What no other cause explains. */
function explainRest(context: Context, day: Day, cell: Cell): void {
  const rest = restOf(cell);
  if (rest === undefined || rest === 0) return;
  const units = `${Math.abs(rest)} ${cell.unit ?? "units"}`;
  if (rest < 0)
    cell.explained.push(
      day.isLate
        ? { cause: "late", quantity: rest, detail: `${units} are metered and not billed yet` }
        : { cause: "unknown", quantity: rest, detail: `${units} are metered and were never billed` },
    );
  else cell.explained.push({ ...beyond(context, day, cell), quantity: rest });
}

/** Why more is billed than was metered. */
function beyond(context: Context, day: Day, cell: Cell): { cause: VarianceCause; detail: string } {
  const { key, model, unit } = cell;
  if (day.isFirst)
    return { cause: "before the meter", detail: "the meter began on this day, and the bill is of all of it" };
  if (unit !== undefined && unit !== "" && isFee(unit as Unit))
    return { cause: "fee", detail: `${unit} is billed beyond what was metered` };
  if (key !== undefined && key !== "" && !context.knownKeys.has(key))
    return { cause: "unmetered key", detail: `nothing was ever metered on key ${key}` };
  if (model === "" || (unit === "" && cell.metered.cost === 0n))
    return { cause: "unmetered model or endpoint", detail: "the bill names no model or token class that is metered" };
  if (model !== undefined && !context.knownModels.has(model))
    return { cause: "unmetered model or endpoint", detail: `${model} was never metered` };
  return {
    cause: "unmetered key",
    detail:
      key === undefined || key === ""
        ? `${model ?? "use"} beyond what was metered`
        : `key ${key} is used beyond what was metered on it`,
  };
}

/** Turns the pieces of quantity into money, and what is left of the money's difference into price, discount or
 *  rounding. */
function toComparison(context: Context, day: Day, cell: Cell, common: Ratio | undefined): Comparison {
  const { metered, billed, explained } = cell;
  const difference = billed.cost - metered.cost;
  const pieces = new Map<VarianceCause, Variance>();
  const add = (cause: VarianceCause, amountNanoUsd: NanoUsd, detail: string, quantity?: number): void => {
    const known = pieces.get(cause);
    if (amountNanoUsd === 0n && !quantity) return;
    const units = (known?.quantity ?? 0) + (quantity ?? 0);
    pieces.set(cause, {
      cause,
      amountNanoUsd: (known?.amountNanoUsd ?? 0n) + amountNanoUsd,
      quantity: units === 0 ? undefined : units,
      detail: known ? `${known.detail}; ${detail}` : detail,
    });
  };
  const hasUnits = billed.quantity !== undefined && billed.quantity + metered.quantity > 0;
  if (!hasUnits) {
    if (difference !== 0n) addWithoutQuantity(context, day, cell, difference, add);
  } else {
    const price = unitCost(cell);
    let left = difference;
    for (const { cause, quantity, detail } of explained) {
      const money = price ? scale(BigInt(quantity), price.cost, price.per) : 0n;
      add(cause, money, detail, quantity);
      left -= money;
    }
    // Tokens are counted before they are billed: money that is missing from a bill that is not whole is late, not
    // cheaper.
    if (day.isLate && left < 0n) add("late", left, "counted already, and not billed yet");
    else addPrice(cell, left, common, add);
  }
  return {
    provider: context.provider,
    day: day.day,
    key: cell.key,
    model: cell.model,
    tier: cell.tier,
    unit: cell.unit,
    meteredQuantity: metered.quantity,
    billedQuantity: billed.quantity,
    meteredNanoUsd: metered.cost,
    billedNanoUsd: billed.cost,
    variances: [...pieces.values()].filter(
      ({ amountNanoUsd, quantity }) => amountNanoUsd !== 0n || quantity !== undefined,
    ),
  };
}

type Add = (cause: VarianceCause, amountNanoUsd: NanoUsd, detail: string, quantity?: number) => void;

/** The bill's own digits, and half a nano-USD for each line that the meter rounded. */
function toleranceOf({ metered, billed }: Cell): NanoUsd {
  return BigInt(billed.lines) * billed.resolution + BigInt(metered.events);
}

/** The same units at another price. */
function addPrice(cell: Cell, left: NanoUsd, common: Ratio | undefined, add: Add): void {
  const { metered, billed } = cell;
  if (left === 0n) return;
  const size = left < 0n ? -left : left;
  if (size <= toleranceOf(cell)) return add("rounding", left, "the last digits of rows");
  if (cell.unit !== undefined && isFee(cell.unit as Unit))
    return add("fee", left, `${cell.unit} costs another fee than metered, or a free allowance covers it`);
  if (metered.cost === 0n) return add("price", left, "the meter has no price for it");
  const ofBill = { above: billed.cost, below: BigInt(billed.quantity ?? 0) };
  const ofMeter = { above: metered.cost, below: BigInt(metered.quantity) };
  const detail = `billed at ${perMillion(ofBill)} USD a million, metered at ${perMillion(ofMeter)}`;
  if (billed.list !== undefined && billed.list !== billed.cost && billed.quantity) {
    const off = scale(billed.cost - billed.list, BigInt(metered.quantity), BigInt(billed.quantity));
    const rest = left - off;
    add("tier or discount", off, `the bill is ${formatUsd(billed.list - billed.cost)} under its list`);
    const isSmall = (rest < 0n ? -rest : rest) <= toleranceOf(cell);
    return add(isSmall ? "rounding" : "price", rest, isSmall ? "the last digits of rows" : detail);
  }
  const ratio = ratioOf(cell);
  if (ratio && common && isClose(ratio, common))
    return add("tier or discount", left, `everything is billed at ${percent(common)} of what was metered`);
  return add("price", left, detail);
}

/** Money whose units nobody names. */
function addWithoutQuantity(context: Context, day: Day, cell: Cell, difference: NanoUsd, add: Add): void {
  const { metered, billed } = cell;
  const size = difference < 0n ? -difference : difference;
  if (size <= toleranceOf(cell)) return add("rounding", difference, "the last digits of rows");
  if (difference < 0n && day.isLate) return add("late", difference, "metered and not billed yet");
  if (difference < 0n) {
    // What was held or estimated, and is billed under the classes it turned out to be.
    const estimated = size < metered.estimatedCost ? size : metered.estimatedCost;
    if (estimated > 0n) add("estimate corrected", -estimated, "less than was held or estimated");
    const rest = difference + estimated;
    if (rest === 0n) return;
    return add(billed.cost === 0n ? "unknown" : "price", rest, "metered and not billed as much");
  }
  const corrected = day.isFirst ? 0n : metered.estimatedCost < size ? metered.estimatedCost : size;
  if (corrected > 0n) add("estimate corrected", corrected, "more than was held or estimated");
  const rest = difference - corrected;
  if (rest === 0n) return;
  if (!day.isFirst && metered.cost !== 0n && metered.events > 0 && cell.unit !== "")
    return add("unknown", rest, "more money, and the bill names no quantity");
  const { cause, detail } = beyond(context, day, cell);
  add(cause, rest, detail);
}

type Ratio = { readonly above: bigint; readonly below: bigint };

/** Billed price over metered price. */
function ratioOf({ metered, billed }: Cell): Ratio | undefined {
  if (!billed.quantity || metered.quantity === 0 || metered.cost === 0n) return undefined;
  return { above: billed.cost * BigInt(metered.quantity), below: metered.cost * BigInt(billed.quantity) };
}

/** Within one in two thousand: amounts are rounded. */
function isClose(a: Ratio, b: Ratio): boolean {
  const [x, y] = [a.above * b.below, b.above * a.below];
  return (x > y ? x - y : y - x) * 2_000n <= y;
}

/** The one ratio at which nearly everything is billed otherwise than metered: what was negotiated. It takes several
 *  classes of two models, else it is a price that changed. */
function commonRatio(cells: readonly Cell[]): Ratio | undefined {
  const priced = cells.flatMap((cell) => {
    const ratio = ratioOf(cell);
    return ratio && !isFee((cell.unit ?? "input") as Unit) && cell.metered.cost > 100_000n ? [{ cell, ratio }] : [];
  });
  const largest = priced.toSorted((a, b) => (a.cell.metered.cost > b.cell.metered.cost ? -1 : 1))[0];
  if (!largest || largest.ratio.above === largest.ratio.below) return undefined;
  const alike = priced.filter(({ ratio }) => isClose(ratio, largest.ratio));
  const models = new Set(alike.map(({ cell }) => cell.model));
  return models.size >= 2 && alike.length * 5 >= priced.length * 4 ? largest.ratio : undefined;
}

function percent({ above, below }: Ratio): string {
  return `${Number((above * 10_000n) / below) / 100} %`;
}

/** nano-USD a unit as USD a million units, for people. */
function perMillion({ above, below }: Ratio): string {
  return below === 0n ? "?" : String(Number((above * 1_000_000n) / below) / 1e9);
}

function groupsOf(cells: Iterable<Cell>, by: readonly Dimension[]): Cell[][] {
  const groups = new Map<string, Cell[]>();
  for (const cell of cells) {
    const name = by.map((one) => cell[one] ?? "\u0000").join("\n");
    groups.set(name, [...(groups.get(name) ?? []), cell]);
  }
  return [...groups.values()];
}
