// What somebody is shown of keys, and of what holds for them: a lead, what is of the team; everybody else everything.
import type { Scope } from "../budgets.ts";
import type { Key } from "./keys.ts";
import type { Holder } from "./tokens.ts";

/** The one team that is shown; undefined: all. */
export function onlyTeamOf(holder: Holder | undefined): string | undefined {
  return holder?.role === "lead" ? holder.team : undefined;
}

/** Whether what is of a team is shown; of a team that is not known, to who sees all. */
export function seesTeam(holder: Holder | undefined, team: string | undefined): boolean {
  const only = onlyTeamOf(holder);
  return only === undefined || team === only;
}

/** Whether what has a scope is shown, such as a budget. `keys`: all of them. */
export function seesScopes(
  holder: Holder | undefined,
  keys: readonly Pick<Key, "id" | "team">[],
): (scope: Pick<Scope, "team" | "keyId">) => boolean {
  const own = new Set(keys.filter(({ team }) => seesTeam(holder, team)).map(({ id }) => id));
  return ({ team, keyId }) =>
    onlyTeamOf(holder) === undefined ||
    (team === undefined ? keyId !== undefined && own.has(keyId) : seesTeam(holder, team));
}
