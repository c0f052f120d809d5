// Which pages somebody sees: a lead the team's own, and its keys; everybody else all of them.
import { onlyTeamOf, seesTeam } from "../../ledger/usage/seen.ts";
import { readKeys } from "../../ledger/usage/read-keys.ts";
import type { Holder } from "../../ledger/usage/tokens.ts";
import type { PageContext, Query } from "./builder.ts";

const OF_LEAD: ReadonlySet<string> = new Set(["team", "keys", "key", "manage", "change"]);

/** Whether somebody sees that page at all. */
export function seesPage({ role }: Holder, path: string): boolean {
  return role !== "lead" || OF_LEAD.has(path);
}

/** Where somebody begins. */
export function homeOf({ role, team = "" }: Holder): string {
  return role === "lead" ? `/team?id=${encodeURIComponent(team)}` : "/overview";
}

/** Whether somebody sees this very one. */
export async function mayPage({ books, holder }: PageContext, path: string, query: Query): Promise<boolean> {
  if (!seesPage(holder, path)) return false;
  if (onlyTeamOf(holder) === undefined) return true;
  if (path === "team") return seesTeam(holder, query["id"]);
  if (path !== "key") return true;
  return (await readKeys(books.usage)).keys.some(({ id, team }) => id === query["id"] && seesTeam(holder, team));
}
