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

/** Why the spend of one key moved, by model: the parts add up over models, and over keys, to any sum of them. */
export function effectsByModel(
  before: readonly ModelSpend[],
  after: readonly ModelSpend[],
): ReadonlyMap<string, Effects> {
  const [requests0, requests1] = [BigInt(requestsOf(before)), BigInt(requestsOf(after))];
  const [old, now] = [before, after].map((list) => new Map(list.map((one) => [one.model, one])));
  const found = new Map<string, Effects>();
  for (const model of new Set([...before, ...after].map((one) => one.model))) {
    const [was, is] = [old?.get(model), now?.get(model)];
    const [cost0, cost1] = [was?.costNanoUsd ?? 0n, is?.costNanoUsd ?? 0n];
    // Nothing to compare a request with: all of it is new.
    if (requests0 === 0n) {
      found.set(model, { volumeNanoUsd: cost1 - cost0, mixNanoUsd: 0n, requestNanoUsd: 0n });
      continue;
    }
    const asBefore = scale(cost0, requests1, requests0);
    const atOldCost = was && was.requests > 0 ? scale(cost0, BigInt(is?.requests ?? 0), BigInt(was.requests)) : cost1;
    found.set(model, {
      volumeNanoUsd: asBefore - cost0,
      mixNanoUsd: atOldCost - asBefore,
      requestNanoUsd: cost1 - atOldCost,
    });
  }
  return found;
}

/** The same, of all its models together. */
export function effects(before: readonly ModelSpend[], after: readonly ModelSpend[]): Effects {
  return [...effectsByModel(before, after).values()].reduce(addEffects, NO_EFFECTS);
}

export const NO_EFFECTS: Effects = { volumeNanoUsd: 0n, mixNanoUsd: 0n, requestNanoUsd: 0n };

export function addEffects(one: Effects, other: Effects): Effects {
  return {
    volumeNanoUsd: one.volumeNanoUsd + other.volumeNanoUsd,
    mixNanoUsd: one.mixNanoUsd + other.mixNanoUsd,
    requestNanoUsd: one.requestNanoUsd + other.requestNanoUsd,
  };
}

function requestsOf(list: readonly ModelSpend[]): number {
  return list.reduce((total, one) => total + one.requests, 0);
}
