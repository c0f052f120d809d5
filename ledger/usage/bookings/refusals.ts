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

export function createRefusals({ database }: Ledger): Refusals {
  const findKey = database.prepare("SELECT 1 FROM keys WHERE id = ?");
  const add = database.prepare(
    "INSERT INTO refused (minute_ms, key_id, model, reason, budget_id, observed, count) VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
  );
  const isKnownKey = (keyId: string): boolean => keyId === "" || findKey.get(keyId) !== undefined;
  const names = createNames();
  return {
    count(atMs, keyId, model, reason, budgetId = "", isTried = false) {
      const minuteMs = atMs - (atMs % MINUTE_MS);
      const [who, what] = names.of(isKnownKey(keyId) ? keyId : UNPROVEN_KEY_ID, model, minuteMs);
      add.run(minuteMs, who, what, reason, budgetId, isTried ? 1 : 0);
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
