// What spend and events are narrowed to: a team, a key, a model ... as people name them.
import type { Within } from "../ledger/usage/within.ts";
import { onlyTeamOf } from "../ledger/usage/seen.ts";
import { findAsker } from "./asker.ts";
import { findKey } from "./find-key.ts";
import { findUser } from "./find-user.ts";
import { bookedProvider } from "./providers.ts";
import { UsageError } from "./usage-error.ts";

const text = { type: "string" } as const;
export const FILTER_OPTIONS = {
  team: text,
  project: text,
  env: text,
  user: text,
  key: text,
  provider: text,
  model: text,
};
export const FILTER_USAGE = `--team T --project P --env E --user U --key KEY --provider P --model 'gpt-5*'`;

/** Reads the filter options. Throws UsageError for a key that does not exist. */
export async function withinOf({
  key,
  user,
  provider,
  ...parts
}: {
  readonly [option in keyof typeof FILTER_OPTIONS]?: string | undefined;
}): Promise<Within> {
  const { project, env, model } = parts;
  const own = onlyTeamOf(findAsker());
  const team = own ?? parts.team;
  if (own !== undefined && (parts.team ?? own) !== own)
    throw new UsageError(`--team ${parts.team}: this token is of team ${own}`);
  const within = {
    team,
    project,
    env,
    model,
    user: user === undefined ? undefined : await findUser(user),
    key: key === undefined ? undefined : (await findKey(key)).id,
    provider: provider === undefined ? undefined : bookedProvider(provider),
  };
  return Object.fromEntries(Object.entries(within).filter(([, value]) => value !== undefined)) as Within;
}

/** " of team search, model gpt-5*" for what is narrowed, or nothing. */
export function describeWithin(within: Within, names: ReadonlyMap<string, string> = new Map()): string {
  const parts = Object.entries(within).map(
    ([part, value]) => `${part} ${part === "key" || part === "user" ? (names.get(value) ?? value) : value}`,
  );
  return parts.length === 0 ? "" : ` of ${parts.join(", ")}`;
}
