// Which provider credential paid: a client's own provider key, or the one that a Keymeter key was swapped for at the
// time. Reads only.
import { and, asc, desc, eq, gte, lt, or, sql } from "../drizzle.ts";
import type { UsageBooks } from "../books.ts";
import { tablesOf } from "../engine.ts";
import type { NanoUsd } from "../money.ts";
import { credentials, keyAddresses, keys, rollupHour } from "./schema.ts";

/** Where a credential of ours has its history: its provider's own, or one of several that has a name. No provider has a
 *  slash in its name. */
export function placeOfCredential(provider: string, name: string): string {
  return name === "" ? provider : `${provider}/${name}`;
}

/** Says which provider credential paid for a key's request: its own, of a provider key; of a virtual key the one that
 *  it was swapped for at that time, as far back as that was written down. `payer`: who the event says pays, where it does. */
export async function readCredentials(
  usage: UsageBooks,
): Promise<(keyId: string, provider: string, atMs: number, payer?: string) => string> {
  const tables = tablesOf(usage);
  const own = new Set(
    (await tables.select({ id: keys.id }).from(keys).where(eq(keys.kind, "fingerprint")).orderBy(keys.id).all()).map(
      ({ id }) => id,
    ),
  );
  const byProvider = new Map<string, { sinceMs: number; credential: string }[]>();
  for (const row of await tables.select().from(credentials).orderBy(asc(credentials.sinceMs)).all())
    byProvider.set(row.provider, [...(byProvider.get(row.provider) ?? []), row]);
  return (keyId, provider, atMs, payer = "") => {
    if (payer !== "") return payer;
    if (own.has(keyId)) return keyId;
    const known = byProvider.get(provider) ?? [];
    return (known.findLast(({ sinceMs }) => sinceMs <= atMs) ?? known[0])?.credential ?? "";
  };
}

/** Credentials that paid for anything metered, and what is known of their secrets: the last characters. */
export type MeteredCredential = {
  readonly provider: string;
  readonly credential: string;
  readonly hint: string;
  readonly name: string;
};

/** Every provider credential that the meter has seen: provider keys of clients, and what virtual keys are swapped
 *  for. */
export async function readMeteredCredentials(usage: UsageBooks): Promise<MeteredCredential[]> {
  const tables = tablesOf(usage);
  const found = new Map<string, MeteredCredential>();
  for (const { provider: place, credential, hint } of await tables
    .select()
    .from(credentials)
    .orderBy(credentials.provider, credentials.sinceMs)
    .all()) {
    const [provider = "", name] = place.split("/");
    const what = name === undefined ? "credential" : `credential "${name}"`;
    found.set(credential, { provider, credential, hint, name: `${provider} ${what} of this Keymeter …${hint}` });
  }
  for (const key of await tables.select().from(keys).where(eq(keys.kind, "fingerprint")).orderBy(keys.id).all())
    if (key.provider !== null)
      found.set(key.id, { provider: key.provider, credential: key.id, hint: key.hint, name: key.name });
  return [...found.values()];
}

export type Paid = { readonly requests: number; readonly costNanoUsd: NanoUsd };

/** What a credential paid for through Keymeter in whole hours of `[sinceMs, untilMs)`, as far as events name it. */
export async function readPaid(usage: UsageBooks, credential: string, sinceMs: number, untilMs: number): Promise<Paid> {
  const [row] = await tablesOf(usage)
    .select({
      requests: sql<bigint | null>`SUM(${rollupHour.requests})`,
      costNanoUsd: sql<bigint | null>`SUM(${rollupHour.costNanoUsd})`,
    })
    .from(rollupHour)
    .where(
      and(
        gte(rollupHour.hourMs, sinceMs),
        lt(rollupHour.hourMs, untilMs),
        or(eq(rollupHour.payer, credential), and(eq(rollupHour.keyId, credential), eq(rollupHour.payer, ""))),
      ),
    )
    .all();
  return { requests: Number(row?.requests ?? 0), costNanoUsd: BigInt(row?.costNanoUsd ?? 0) };
}

export type KeyAddress = { readonly address: string; readonly firstSeenMs: number; readonly lastSeenMs: number };

/** From where a key was used, the latest first. */
export async function readKeyAddresses(usage: UsageBooks, keyId: string): Promise<KeyAddress[]> {
  const { address, firstSeenMs, lastSeenMs } = keyAddresses;
  return tablesOf(usage)
    .select({ address, firstSeenMs, lastSeenMs })
    .from(keyAddresses)
    .where(eq(keyAddresses.keyId, keyId))
    .orderBy(desc(lastSeenMs), address)
    .all();
}
