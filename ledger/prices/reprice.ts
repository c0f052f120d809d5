// What an event would cost by the price book of today, as an adjustment of what it stands at. Pure.
import type { Adjusted, Adjustment } from "../usage/adjustments.ts";
import { cost } from "../cost.ts";
import { SEAT, SUMMED_ENDPOINTS } from "../usage/usage-event.ts";
import type { EventRecord } from "../usage/events.ts";
import { readAttemptId } from "../ids.ts";
import type { Price, PriceBook } from "./price-book.ts";

/** Undefined: nothing changes, or it cannot be told. `now`: what earlier adjustments made of it. `listOf` says by which
 *  price list it would go today. Events of several models are left alone, for their usage is one sum; so are those that
 *  stand at the amount reserved, or at the provider's own word. */
export function repriced(
  event: EventRecord,
  now: Adjusted | undefined,
  book: PriceBook,
  listOf: (provider: string, model: string) => string | undefined,
): Adjustment | undefined {
  const model = event.servedModel ?? event.requestedModel;
  const tiers = event.tier === null ? [] : event.tier.split(",");
  const priceIn = (list: string | null | undefined): Price | undefined =>
    list === null || list === undefined ? undefined : book.find(list, model, Date.parse(event.at), tiers);
  // The list that it went by; where that has no price for it, the one that it would go by today.
  const price = priceIn(event.priceList) ?? priceIn(listOf(event.provider, model));
  const used = Object.keys(event.usage).length > 0;
  if (!price || !used || isOfManyModels(event.costLines) || isBounded(event) || isStated(event)) return undefined;
  // A subscription is billed by the month.
  if (event.payer === SEAT) return undefined;
  // How long each answer of a batch was is no longer known: only prices that do not ask for it can be applied.
  const asksContext = Object.values(price.units).some(({ steps }) => steps.length > 0);
  if (asksContext && SUMMED_ENDPOINTS.includes(event.endpoint)) return undefined;
  const { lines, unpricedUnits } = cost(event.usage, price);
  const costNanoUsd = lines.reduce((sum, line) => sum + line.costNanoUsd, 0n);
  const isUnpriced = unpricedUnits.length > 0;
  const isInferred =
    !isUnpriced && (price.confidence === "inferred" || lines.some(({ unit }) => price.guessedUnits.has(unit)));
  const was = now ?? {
    costNanoUsd: BigInt(event.costNanoUsd ?? 0),
    isUnpriced: event.priceConfidence === "unpriced",
    isInferred: event.priceConfidence === "inferred",
  };
  const amountNanoUsd = costNanoUsd - was.costNanoUsd;
  if (amountNanoUsd === 0n && isUnpriced === was.isUnpriced && isInferred === was.isInferred) return undefined;
  return {
    source: "reprice",
    // The nth correction of this event: the same run twice is one, and the way back is another.
    sourceId: `${event.attemptId}:${now?.count ?? 0}`,
    attemptId: readAttemptId(event.attemptId),
    amountNanoUsd,
    unpriced: Number(isUnpriced) - Number(was.isUnpriced),
    inferred: Number(isInferred) - Number(was.isInferred),
    detail: price.version.slice(0, 200),
  };
}

/** Whether it stands at what the provider says that it cost. */
function isStated({ costNanoUsd, statedCostNanoUsd }: EventRecord): boolean {
  return statedCostNanoUsd !== null && statedCostNanoUsd === costNanoUsd;
}

/** Whether a unit was priced twice: then by two models. */
function isOfManyModels(lines: EventRecord["costLines"]): boolean {
  const units = lines.map(({ unit }) => unit);
  return new Set(units).size < units.length;
}

/** Whether it stands at the most that it could cost, because what went by would have made more. */
function isBounded({ costNanoUsd, costLines }: EventRecord): boolean {
  return costNanoUsd !== null && costNanoUsd !== "0" && costLines.length === 0;
}
