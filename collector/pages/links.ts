// Where cells lead: to a team, a key, a day's bill.
import { text } from "./page.ts";
import type { Link, Value } from "./page.ts";

const teamLink = (team: string): Link => ({ page: "team", query: { id: team } });

export const keyLink = (id: string): Link => ({ page: "key", query: { id } });

export const dayLink = (provider: string, day: string): Link => ({ page: "bill", query: { provider, day } });

export const teamCell = (team: string): Value => text(team === "" ? "(no team)" : team, teamLink(team));
