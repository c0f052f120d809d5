// Keys as people name them: by id or by name.
import { UNPROVEN_KEY_ID } from "../ledger/usage/keys.ts";
import { readKeys } from "../ledger/usage/read-keys.ts";
import type { Key } from "../ledger/usage/keys.ts";
import { readLastUsed } from "../ledger/usage/key-use.ts";
import { seesTeam } from "../ledger/usage/seen.ts";
import { findAsker } from "./asker.ts";
import { requireUsage } from "./books.ts";
import { didYouMean } from "../service/closest.ts";
import { loadCommandConfig } from "./config.ts";
import { UsageError } from "./usage-error.ts";

/** A key, and the start of the UTC hour in which it was last used. */
type UsedKey = Key & { readonly lastUsedHourMs: number | undefined };

/** Every key but the one that stands for attempts no provider has accepted; for a lead, those of the team. */
export async function allKeys(): Promise<UsedKey[]> {
  const books = await requireUsage(loadCommandConfig());
  const { keys } = await readKeys(books);
  const lastUsed = await readLastUsed(books);
  await books.close();
  const asker = findAsker();
  return keys
    .filter((key) => key.id !== UNPROVEN_KEY_ID && seesTeam(asker, key.team))
    .map((key) => ({ ...key, lastUsedHourMs: lastUsed.get(key.id) }));
}

/** The key of an id, or of a name that is not revoked (else the last revoked one of that name). */
export async function findKey(wanted: string | undefined): Promise<UsedKey> {
  if (wanted === undefined) throw new UsageError("which key? name one by its id or name");
  const keys = await allKeys();
  const named = keys.filter((key) => key.name === wanted);
  const live = named.filter((key) => key.state !== "revoked");
  const byId = keys.filter((key) => key.id === wanted);
  const found = byId.length > 0 ? byId : live.length > 0 ? live : named.slice(-1);
  if (found.length === 1 && found[0]) return found[0];
  throw new UsageError(
    found.length === 0
      ? `there is no key ${wanted}${
          didYouMean(
            wanted,
            keys.map(({ name }) => name),
          ) || "; `keymeter keys list` shows them"
        }`
      : `${found.length} keys are named ${wanted}; use an id: ${found.map((key) => key.id).join(", ")}`,
  );
}
