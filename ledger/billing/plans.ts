// Planned events: spend that somebody expects to differ, so that a launch is no alarm. A plan multiplies what its scope
// is expected to spend from one instant to another; whatever shares spend with that scope (its organisation, its keys)
// moves in proportion to what it shared in the last four weeks. Frozen forecasts stay as they are: plans are laid over
// them when they are read, so that one made during the day counts at once, and one that is removed counts no more.
// billing.db; the collector is its only writer.
import { ChangeRefused } from "../usage/change-refused.ts";
import { and, desc, eq, gt, isNull, lt } from "../drizzle.ts";
import { readForecasts } from "./forecasts.ts";
import type { ForecastFilter, FrozenForecast } from "./forecasts.ts";
import type { NanoUsd } from "../money.ts";
import type { BillingBooks, UsageBooks } from "../books.ts";
import { tablesOf } from "../engine.ts";
import { plannedEvents } from "./schema.ts";
import { readHourlySpend, readSpendOfHours } from "../usage/hours.ts";
import type { ForecastScope, HourlySpend } from "../usage/hours.ts";

export type PlannedEvent = {
  readonly id: string;
  readonly scope: ForecastScope["scope"];
  /** Which one of them; "all" for the organisation. */
  readonly scopeId: string;
  readonly fromMs: number;
  readonly toMs: number;
  readonly factor: number;
  readonly why: string;
  readonly madeBy: string;
  readonly madeAtMs: number;
};

const HOUR_MS = 3_600_000;
const SHARED_MS = 28 * 24 * HOUR_MS;

export async function addPlan(books: BillingBooks, plan: PlannedEvent): Promise<void> {
  await books.transaction(async (own) => {
    await tablesOf(own).insert(plannedEvents).values(plan).run();
  });
}

/** Takes a plan back; it stays in the books. Throws ChangeRefused when there is none of that id. */
export async function removePlan(books: BillingBooks, id: string, nowMs: number): Promise<void> {
  const removed = await books.transaction((own) =>
    tablesOf(own)
      .update(plannedEvents)
      .set({ removedAtMs: nowMs })
      .where(and(eq(plannedEvents.id, id), isNull(plannedEvents.removedAtMs)))
      .returning({ id: plannedEvents.id })
      .all(),
  );
  if (removed.length === 0)
    throw new ChangeRefused(`there is no planned event ${id}; \`keymeter forecast plans\` lists them`);
}

/** Plans that stand and touch `[sinceMs, untilMs)`, the latest first. */
export async function readPlans(books: BillingBooks, sinceMs: number, untilMs: number): Promise<PlannedEvent[]> {
  return tablesOf(books)
    .select()
    .from(plannedEvents)
    .where(and(isNull(plannedEvents.removedAtMs), gt(plannedEvents.toMs, sinceMs), lt(plannedEvents.fromMs, untilMs)))
    .orderBy(desc(plannedEvents.fromMs))
    .all();
}

/** The forecasts of the windows that hold an instant, with what is planned. */
export async function readExpectations(
  { usage, billing }: { readonly usage: UsageBooks; readonly billing: BillingBooks },
  atMs: number,
  only: ForecastFilter = {},
): Promise<FrozenForecast[]> {
  return withPlans({ usage, billing }, await readForecasts(billing, atMs, only), atMs);
}

/** Lays what is planned over frozen forecasts. */
export async function withPlans(
  { usage, billing }: { readonly usage: UsageBooks; readonly billing: BillingBooks },
  frozen: readonly FrozenForecast[],
  nowMs: number,
): Promise<FrozenForecast[]> {
  const made = [...frozen];
  if (made.length === 0) return made;
  const plans = await readPlans(
    billing,
    Math.min(...made.map(({ startMs }) => startMs)),
    Math.max(...made.map(({ endMs }) => endMs)),
  );
  for (const plan of plans) {
    const sinceMs = Math.min(plan.fromMs, plan.madeAtMs) - SHARED_MS;
    for (const scope of new Set(made.map((one) => one.scope))) {
      const within = { scope: plan.scope, id: plan.scopeId };
      const shares = await sharesOf(usage, `${plan.id} ${scope}`, nowMs, async () => ({
        all: await readSpendOfHours(usage, sinceMs, plan.fromMs, scope),
        shared: await readSpendOfHours(usage, sinceMs, plan.fromMs, scope, within),
      }));
      made.forEach((one, i) => {
        if (one.scope !== scope) return;
        const isItself = one.scope === plan.scope && one.id === plan.scopeId;
        const share = isItself ? 1 : shareOf(shares.shared.get(one.id), shares.all.get(one.id));
        made[i] = planned(one, plan, 1 + (plan.factor - 1) * share);
      });
    }
  }
  return made;
}

type Shares = { readonly all: ReadonlyMap<string, NanoUsd>; readonly shared: ReadonlyMap<string, NanoUsd> };
/** Sums of four weeks, kept for an hour: forecasts are read several times a minute. */
const kept = new WeakMap<UsageBooks, Map<string, { readonly hour: number; readonly shares: Shares }>>();

async function sharesOf(usage: UsageBooks, name: string, nowMs: number, read: () => Promise<Shares>): Promise<Shares> {
  const hour = Math.floor(nowMs / HOUR_MS);
  const own = kept.get(usage) ?? new Map<string, { readonly hour: number; readonly shares: Shares }>();
  kept.set(usage, own);
  const known = own.get(name);
  if (known?.hour === hour) return known.shares;
  const shares = await read();
  own.set(name, { hour, shares });
  return shares;
}

/** Past spend by one dimension, without what was planned on top: what the next forecast is to learn from. */
export async function withoutPlans(
  usage: UsageBooks,
  plans: readonly PlannedEvent[],
  by: ForecastScope["scope"],
  hours: readonly HourlySpend[],
): Promise<HourlySpend[]> {
  if (plans.length === 0) return [...hours];
  // What is left of the spend that a plan covers, and of what several cover: all but what each added.
  const rest = new Map<string, number>();
  const all = new Map(hours.map(({ hourMs, id, costNanoUsd }) => [`${hourMs} ${id}`, costNanoUsd]));
  for (const { scope, scopeId, fromMs, toMs, factor } of plans) {
    const since = Math.floor(fromMs / HOUR_MS) * HOUR_MS;
    for (const { hourMs, id, costNanoUsd } of await readHourlySpend(usage, since, toMs, by, { scope, id: scopeId })) {
      const name = `${hourMs} ${id}`;
      const inside = (Math.min(hourMs + HOUR_MS, toMs) - Math.max(hourMs, fromMs)) / HOUR_MS;
      const added = (1 - 1 / (1 + (factor - 1) * inside)) * shareOf(costNanoUsd, all.get(name));
      rest.set(name, (rest.get(name) ?? 1) * (1 - added));
    }
  }
  return hours.map((hour) => {
    const left = rest.get(`${hour.hourMs} ${hour.id}`);
    return left === undefined ? hour : { ...hour, costNanoUsd: times(hour.costNanoUsd, left) };
  });
}

/** A forecast whose hours inside the plan are multiplied; the band moves with them. */
function planned(forecast: FrozenForecast, { fromMs, toMs }: PlannedEvent, factor: number): FrozenForecast {
  if (factor === 1 || forecast.p50NanoUsd === 0n) return forecast;
  let largest = 1;
  const hours = forecast.hours.map((hour, i) => {
    const startMs = forecast.startMs + i * HOUR_MS;
    const insideMs = Math.min(startMs + HOUR_MS, toMs) - Math.max(startMs, fromMs);
    if (insideMs <= 0) return hour;
    const here = 1 + (factor - 1) * (insideMs / HOUR_MS);
    largest = Math.max(largest, here);
    return times(hour, here);
  });
  const p50NanoUsd = hours.reduce((sum, hour) => sum + hour, 0n);
  const moved = Number(p50NanoUsd) / Number(forecast.p50NanoUsd);
  return {
    ...forecast,
    hours,
    p10NanoUsd: times(forecast.p10NanoUsd, moved),
    p50NanoUsd,
    p90NanoUsd: times(forecast.p90NanoUsd, moved),
    largestHourNanoUsd: times(forecast.largestHourNanoUsd, largest),
  };
}

function shareOf(part: NanoUsd | undefined, whole: NanoUsd | undefined): number {
  return part === undefined || whole === undefined || whole <= 0n ? 0 : Number(part) / Number(whole);
}

function times(amount: NanoUsd, factor: number): NanoUsd {
  return BigInt(Math.round(Number(amount) * factor));
}
