// Keys as people name them: by id or by name.
import { readKeys, UNPROVEN_KEY_ID } from "../ledger/keys.ts";
import type { Key } from "../ledger/keys.ts";
import { openUsage } from "./books.ts";
import { loadCommandConfig } from "./config.ts";
import { UsageError } from "./usage-error.ts";

/** Every key but the one that stands for attempts no provider has accepted. */
export async function allKeys(): Promise<Key[]> {
  const books = openUsage(loadCommandConfig());
  const { keys } = await readKeys(books);
  books.close();
  return keys.filter((key) => key.id !== UNPROVEN_KEY_ID);
}

/** The key of an id, or of a name that is not revoked (else the last revoked one of that name). */
export async function findKey(wanted: string | undefined): Promise<Key> {
  if (wanted === undefined) throw new UsageError("which key? name one by its id or name");
  const keys = await allKeys();
  const named = keys.filter((key) => key.name === wanted);
  const live = named.filter((key) => key.state !== "revoked");
  const byId = keys.filter((key) => key.id === wanted);
  const found = byId.length > 0 ? byId : live.length > 0 ? live : named.slice(-1);
  if (found.length === 1 && found[0]) return found[0];
  throw new UsageError(
    found.length === 0
      ? `there is no key ${wanted}; \`keymeter keys list\` shows them`
      : `${found.length} keys are named ${wanted}; use an id: ${found.map((key) => key.id).join(", ")}`,
  );
}
