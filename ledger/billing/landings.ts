// Where running windows land, seen from now: what is spent so far and what is to come. Made anew every hour; what was
// frozen at the window's start (forecasts.ts) is another figure, for alerts and for the track record. billing.db; the
// collector is its only writer.
import { and, eq, gt, lte } from "../drizzle.ts";
import type { ForecastFilter, FrozenForecast } from "./forecasts.ts";
import type { NanoUsd } from "../money.ts";
import type { BillingBooks, UsageBooks } from "../books.ts";
import { tablesOf } from "../engine.ts";
import { withPlans } from "./plans.ts";
import { landings } from "./schema.ts";

const HOUR_MS = 3_600_000;

/** What is to come in a window from `startMs` on, the start of an hour, to its end. */
export type Rest = FrozenForecast;

/** The total of a window as it looks now. */
export type Landing = { readonly p10NanoUsd: NanoUsd; readonly p50NanoUsd: NanoUsd; readonly p90NanoUsd: NanoUsd };

/** Replaces all of them. */
export async function replaceRests(books: BillingBooks, made: readonly Rest[]): Promise<void> {
  await books.transaction(async (own) => {
    const tables = tablesOf(own);
    await tables.delete(landings).run();
    for (const { id, hours, ...rest } of made)
      await tables
        .insert(landings)
        .values({ ...rest, scopeId: id, hours: JSON.stringify(hours.map(String)) })
        .run();
  });
}

/** What is to come in the windows that hold an instant, with what is planned laid over it. */
export async function readRests(
  { usage, billing }: { readonly usage: UsageBooks; readonly billing: BillingBooks },
  atMs: number,
  { scope, id, window }: ForecastFilter = {},
): Promise<Rest[]> {
  const found = await tablesOf(billing)
    .select()
    .from(landings)
    .where(
      and(
        lte(landings.startMs, atMs),
        gt(landings.endMs, atMs),
        scope === undefined ? undefined : eq(landings.scope, scope),
        id === undefined ? undefined : eq(landings.scopeId, id),
        window === undefined ? undefined : eq(landings.window, window),
      ),
    )
    .orderBy(landings.scope, landings.scopeId, landings.window)
    .all();
  const rows = found.map(({ scopeId, hours, ...row }) => ({
    ...row,
    id: scopeId,
    hours: (JSON.parse(hours) as string[]).map(BigInt),
  }));
  return withPlans({ usage, billing }, rows, atMs);
}

/** Where a window lands: what is spent, and of what is to come the part that lies after now. Never below what is
 *  spent. */
export function landingOf(rest: Rest, spentNanoUsd: NanoUsd, nowMs: number): Landing {
  const left = leftOf(rest, nowMs);
  const share = (quantile: NanoUsd): NanoUsd => (rest.p50NanoUsd > 0n ? (quantile * left) / rest.p50NanoUsd : quantile);
  return {
    p10NanoUsd: spentNanoUsd + share(rest.p10NanoUsd),
    p50NanoUsd: spentNanoUsd + left,
    p90NanoUsd: spentNanoUsd + share(rest.p90NanoUsd),
  };
}

/** The hours after now, the running one in part. */
function leftOf({ startMs, hours }: Rest, nowMs: number): NanoUsd {
  let left = 0n;
  for (const [i, hour] of hours.entries()) {
    const endMs = startMs + (i + 1) * HOUR_MS;
    const ahead = Math.min(HOUR_MS, Math.max(0, endMs - nowMs));
    left += (hour * BigInt(Math.round(ahead))) / BigInt(HOUR_MS);
  }
  return left;
}
