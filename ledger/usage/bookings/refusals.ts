// Refusals are counts, never a row each.
import { UNPROVEN_KEY_ID } from "../keys.ts";
import { DONE } from "./ledger.ts";
import type { Booker, Ledger } from "./ledger.ts";

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
const MOST_MODELS = 50;

export type Refusals = {
  /** `isTried`: it was let through, by a budget that is tried out. */
  count(atMs: number, keyId: string, model: string, reason: string, budgetId?: string, isTried?: boolean): void;
};

export function createRefusals(ledger: Ledger): Refusals {
  const names = createNames();
  return {
    count(atMs, keyId, model, reason, budgetId = "", isTried = false) {
      const minuteMs = atMs - (atMs % MINUTE_MS);
      const isKnown = keyId === "" || ledger.keyIds.has(keyId);
      const [who, what] = names.of(isKnown ? keyId : UNPROVEN_KEY_ID, model, minuteMs);
      ledger.entries.refusal({ minuteMs, keyId: who, model: what, reason, budgetId, isTried });
    },
  };
}

/** A request that was refused for another reason than money. */
export function bookRefused(refusals: Refusals): Booker<"refused"> {
  return ({ atMs, keyId, model, reason }) => {
    refusals.count(atMs, keyId, model, reason);
    return DONE;
  };
}

/** Of one key at most so many models in an hour have a row of their own. */
function createNames(): { of(keyId: string, model: string, atMs: number): readonly [string, string] } {
  const seen = new Map<string, Set<string>>();
  let hour = 0;
  return {
    of(keyId, model, atMs) {
      const now = Math.floor(atMs / HOUR_MS);
      if (now !== hour) seen.clear();
      hour = now;
      let models = seen.get(keyId);
      if (!models) seen.set(keyId, (models = new Set()));
      if (models.size < MOST_MODELS || models.has(model)) {
        models.add(model);
        return [keyId, model];
      }
      return [keyId, "other"];
    },
  };
}
