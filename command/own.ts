// What somebody is shown of budgets, freezes and limits: a lead, those of the team and of its keys.
import type { Scope } from "../ledger/budgets.ts";
import { seesScopes } from "../ledger/usage/seen.ts";
import { findAsker } from "./asker.ts";
import { allKeys } from "./find-key.ts";

/** Whether what has a scope is shown. */
export async function ownScopes(): Promise<(scope: Pick<Scope, "team" | "keyId">) => boolean> {
  const asker = findAsker();
  return seesScopes(asker, asker === undefined ? [] : await allKeys());
}
