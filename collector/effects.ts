// Why spend moved: more requests, other models, or dearer ones. Pure. The three add up to the difference exactly.
import { scale } from "../ledger/money.ts";
import type { NanoUsd } from "../ledger/money.ts";

/** What was asked of one model, and what it cost. */
export type ModelSpend = { readonly model: string; readonly requests: number; readonly costNanoUsd: NanoUsd };

export type Effects = {
  /** More or fewer requests, at what a request cost before. */
  readonly volumeNanoUsd: NanoUsd;
  /** Requests that went to other models, at what those cost before (what they cost now, where they are new). */
  readonly mixNanoUsd: NanoUsd;
  /** Requests of the same model that cost more or less: longer, less cached, or at another price. */
  readonly requestNanoUsd: NanoUsd;
};

export function effects(before: readonly ModelSpend[], after: readonly ModelSpend[]): Effects {
  const [cost0, cost1] = [costOf(before), costOf(after)];
  const [requests0, requests1] = [requestsOf(before), requestsOf(after)];
  // Nothing to compare a request with: all of it is new, or gone.
  if (requests0 === 0) return { volumeNanoUsd: cost1 - cost0, mixNanoUsd: 0n, requestNanoUsd: 0n };
  const asBefore = scale(cost0, BigInt(requests1), BigInt(requests0));
  const known = new Map(before.map((one) => [one.model, one]));
  const atOldCost = after.reduce((total, one) => {
    const old = known.get(one.model);
    if (!old || old.requests === 0) return total + one.costNanoUsd;
    return total + scale(old.costNanoUsd, BigInt(one.requests), BigInt(old.requests));
  }, 0n);
  return {
    volumeNanoUsd: asBefore - cost0,
    mixNanoUsd: atOldCost - asBefore,
    requestNanoUsd: cost1 - atOldCost,
  };
}

/** What all of it cost. */
export function costOf(list: readonly ModelSpend[]): NanoUsd {
  return list.reduce((total, one) => total + one.costNanoUsd, 0n);
}

function requestsOf(list: readonly ModelSpend[]): number {
  return list.reduce((total, one) => total + one.requests, 0);
}
