// Where cells lead: to a team, a key, a day's bill.
import { text } from "./page.ts";
import type { Link, Value } from "./page.ts";

const teamLink = (team: string): Link => ({ page: "team", query: { id: team } });

export const keyLink = (id: string): Link => ({ page: "key", query: { id } });

/** A user by name, where it is known. */
export const userCell = (id: string, name: string | undefined): Value =>
  text(name ?? id, { page: "user", query: { id } });

export const sessionLink = (id: string): Link => ({ page: "session", query: { id } });

export const repositoryLink = (id: string): Link => ({ page: "repository", query: { id } });

export const dayLink = (provider: string, day: string): Link => ({ page: "bill", query: { provider, day } });

export const teamCell = (team: string): Value => text(team === "" ? "(no team)" : team, teamLink(team));
