// Keys as the books have them. Apart from what keys are (keys.ts): reading a policy needs a checker of shapes, which no
// thread that only writes has to load.
import { getTableColumns } from "../drizzle.ts";
import { tablesOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import { readPolicy } from "./key-policy.ts";
import type { Key, KeySecret } from "./keys.ts";
import { keys, keySecrets } from "./schema.ts";

/** When the newest secret of each key was made. */
export async function readSecretAges(books: UsageBooks): Promise<Map<string, number>> {
  const ages = new Map<string, number>();
  for (const { keyId, createdAtMs } of await tablesOf(books).select().from(keySecrets).orderBy(keySecrets.digest).all())
    ages.set(keyId, Math.max(ages.get(keyId) ?? 0, createdAtMs));
  return ages;
}

const { owner: _ofBefore, ...keyColumns } = getTableColumns(keys);

/** All keys and secrets. */
export async function readKeys(books: UsageBooks): Promise<{ keys: Key[]; secrets: KeySecret[] }> {
  const tables = tablesOf(books);
  return {
    keys: (await tables.select(keyColumns).from(keys).orderBy(keys.id).all()).map(
      ({ provider, expiresAtMs, policy, ...row }) => ({
        ...row,
        provider: provider ?? undefined,
        expiresAtMs: expiresAtMs ?? undefined,
        policy: readPolicy(policy),
      }),
    ),
    secrets: (await tables.select().from(keySecrets).orderBy(keySecrets.digest).all()).map((row) => ({
      digest: row.digest,
      keyId: row.keyId,
      validUntilMs: row.validUntilMs ?? undefined,
    })),
  };
}
