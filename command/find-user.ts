// Users as people name them: by name or by id.
import type { Change } from "../ledger/usage/changes.ts";
import { cleanName, foldName, newPersonId, readPeople } from "../ledger/usage/people.ts";
import { onlyTeamOf } from "../ledger/usage/seen.ts";
import { findAsker } from "./asker.ts";
import { requireUsage } from "./books.ts";
import { didYouMean } from "../service/closest.ts";
import { loadCommandConfig } from "./config.ts";
import { UsageError } from "./usage-error.ts";

/** Names by id. */
export async function allUsers(): Promise<ReadonlyMap<string, string>> {
  const books = await requireUsage(loadCommandConfig());
  try {
    return await readPeople(books);
  } finally {
    await books.close();
  }
}

/** The id of a user that is there. Throws UsageError for one that is not. */
export async function findUser(wanted: string): Promise<string> {
  const users = await allUsers();
  const found = idOf(users, wanted);
  if (found !== undefined) return found;
  // A lead is told no names of others.
  const guess = onlyTeamOf(findAsker()) === undefined ? didYouMean(wanted, [...users.values()]) : "";
  throw new UsageError(`there is no user ${wanted}${guess || "; `keymeter users list` shows them"}`);
}

/** The id of a user, who is made where nobody has the name: by a change that goes before the one that names him. */
export async function userFor(wanted: string): Promise<{ readonly id: string; readonly made: readonly Change[] }> {
  if (cleanName(wanted) === "") return { id: "", made: [] };
  const found = idOf(await allUsers(), wanted);
  if (found !== undefined) return { id: found, made: [] };
  const id = newPersonId();
  return { id, made: [{ type: "nameUser", userId: id, name: cleanName(wanted) }] };
}

function idOf(users: ReadonlyMap<string, string>, wanted: string): string | undefined {
  if (users.has(wanted)) return wanted;
  return [...users].find(([, name]) => foldName(name) === foldName(wanted))?.[0];
}
