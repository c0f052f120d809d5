// Rotations of provider credentials, as the books know them: where each stands, and each step that it took. billing.db; the
// collector is its only writer. No secret comes here.
import { randomBytes } from "node:crypto";
import type { BillingBooks, UsageBooks } from "../books.ts";
import { and, asc, desc, eq, gte, inArray, isNull, notInArray, sql } from "../drizzle.ts";
import { tablesOf } from "../engine.ts";
import { attemptAtMs, firstAttemptId } from "../ids.ts";
import { credentials, events, reservations } from "../usage/schema.ts";
import { ChangeRefused } from "../usage/change-refused.ts";
import { ROTATION_STATES, rotations, rotationSteps } from "./schema.ts";

/** planned: nothing was made. stored: the new key waits beside the old one in its store. verified: the provider takes it.
 *  switched: readers of the store get it. draining: a proxy uses it; the old one is looked after. disabled: the old one is
 *  used no more, and off where that can be taken back. by_hand: somebody has to take the last step. revoking: the
 *  old one is deleted, and there is no way back. going_back: the old one is to be current again. returning: it is, and the new
 *  one is looked after. */
export type RotationState = (typeof ROTATION_STATES)[number];
export const ENDS = ["revoked", "back", "failed"] as const satisfies readonly RotationState[];

export type Rotation = typeof rotations.$inferSelect;
export type RotationStep = typeof rotationSteps.$inferSelect;

export type NewRotation = Pick<Rotation, "place" | "startedBy" | "why" | "isLeaked">;

/** Begins one. Rejects with ChangeRefused where one goes on there. */
export async function beginRotation(
  books: BillingBooks,
  { place, startedBy, why, isLeaked }: NewRotation,
  nowMs: number,
): Promise<Rotation> {
  return books.transaction(async (own) => {
    const [open] = await readRotations(own, { place, isOpen: true });
    if (open)
      throw new ChangeRefused(
        `a rotation of ${place} goes on already (${open.id}, ${open.state}); \`keymeter rotate status\` says more`,
      );
    const begun: Rotation = {
      id: `rot_${randomBytes(6).toString("hex")}`,
      place,
      state: "planned",
      enteredAtMs: nowMs,
      startedAtMs: nowMs,
      startedBy,
      why,
      isLeaked,
      oldCredential: null,
      oldKeyId: null,
      newCredential: null,
      newKeyId: null,
      newHint: null,
      newPrint: null,
      keysBefore: null,
      waitsFor: null,
      isTrouble: false,
    };
    const tables = tablesOf(own);
    await tables.insert(rotations).values(begun).run();
    const said = `begun by ${startedBy}${why === "" ? "" : `: ${why}`}`;
    await tables
      .insert(rotationSteps)
      .values({ rotationId: begun.id, step: 1, atMs: nowMs, state: "planned", said, isAudited: false })
      .run();
    return begun;
  });
}

/** What becomes of it; `said` is kept as a step. Returns it as it is now. Rejects with ChangeRefused where it is in another
 *  state by now. */
export async function moveRotation(
  books: BillingBooks,
  { id, state: from }: Pick<Rotation, "id" | "state">,
  to: Partial<Omit<Rotation, "id">> & { readonly state: RotationState },
  said: string,
  nowMs: number,
): Promise<Rotation> {
  return books.transaction(async (own) => {
    const tables = tablesOf(own);
    const [moved] = await tables
      .update(rotations)
      .set({ waitsFor: null, isTrouble: false, ...to, enteredAtMs: nowMs })
      .where(and(eq(rotations.id, id), eq(rotations.state, from)))
      .returning()
      .all();
    if (!moved) throw new ChangeRefused(`the rotation ${id} is not ${from} any more`);
    const [last] = await tables
      .select({ step: sql<bigint | null>`MAX(${rotationSteps.step})` })
      .from(rotationSteps)
      .where(eq(rotationSteps.rotationId, id))
      .all();
    await tables
      .insert(rotationSteps)
      .values({
        rotationId: id,
        step: Number(last?.step ?? 0) + 1,
        atMs: nowMs,
        state: to.state,
        said,
        isAudited: false,
      })
      .run();
    return moved;
  });
}

/** Why it stands still. */
export async function noteWaiting(
  books: BillingBooks,
  { id, state, waitsFor, isTrouble }: Pick<Rotation, "id" | "state" | "waitsFor" | "isTrouble">,
): Promise<void> {
  await books.transaction(async (own) => {
    await tablesOf(own)
      .update(rotations)
      .set({ waitsFor, isTrouble })
      .where(and(eq(rotations.id, id), eq(rotations.state, state)))
      .run();
  });
}

/** Which keys there are before one is made; null: none was made since. */
export async function noteKeysBefore(
  books: BillingBooks,
  { id, state, oldKeyId, keysBefore }: Pick<Rotation, "id" | "state" | "oldKeyId" | "keysBefore">,
): Promise<void> {
  await books.transaction(async (own) => {
    await tablesOf(own)
      .update(rotations)
      .set({ oldKeyId, keysBefore })
      .where(and(eq(rotations.id, id), eq(rotations.state, state)))
      .run();
  });
}

/** The latest first. */
export async function readRotations(
  books: BillingBooks,
  { place, isOpen = false }: { readonly place?: string; readonly isOpen?: boolean } = {},
): Promise<Rotation[]> {
  return tablesOf(books)
    .select()
    .from(rotations)
    .where(
      and(
        place === undefined ? undefined : eq(rotations.place, place),
        isOpen ? notInArray(rotations.state, [...ENDS]) : undefined,
      ),
    )
    .orderBy(desc(rotations.startedAtMs), desc(rotations.id))
    .all();
}

/** Of one, in their order. */
export async function readRotationSteps(books: BillingBooks, id: string): Promise<RotationStep[]> {
  return tablesOf(books)
    .select()
    .from(rotationSteps)
    .where(eq(rotationSteps.rotationId, id))
    .orderBy(asc(rotationSteps.step))
    .all();
}

/** Steps that the audit does not have yet. */
export async function readUnaudited(books: BillingBooks): Promise<RotationStep[]> {
  return tablesOf(books)
    .select()
    .from(rotationSteps)
    .where(eq(rotationSteps.isAudited, false))
    .orderBy(asc(rotationSteps.atMs), asc(rotationSteps.rotationId), asc(rotationSteps.step))
    .all();
}

export async function noteAudited(books: BillingBooks, { rotationId, step }: RotationStep): Promise<void> {
  await books.transaction(async (own) => {
    await tablesOf(own)
      .update(rotationSteps)
      .set({ isAudited: true })
      .where(and(eq(rotationSteps.rotationId, rotationId), eq(rotationSteps.step, step)))
      .run();
  });
}

/** What proxies swap Keymeter keys for at a place since when, the newest first. */
export async function readHeldCredentials(
  usage: UsageBooks,
  place: string,
): Promise<{ readonly credential: string; readonly hint: string; readonly sinceMs: number }[]> {
  return tablesOf(usage)
    .select({ credential: credentials.credential, hint: credentials.hint, sinceMs: credentials.sinceMs })
    .from(credentials)
    .where(eq(credentials.provider, place))
    .orderBy(desc(credentials.sinceMs))
    .all();
}

/** What proxies said last that they use, at each place. */
export async function readUsedPlaces(
  usage: UsageBooks,
): Promise<{ readonly place: string; readonly credential: string }[]> {
  const all = await tablesOf(usage)
    .select({ place: credentials.provider, credential: credentials.credential })
    .from(credentials)
    .orderBy(asc(credentials.provider), asc(credentials.sinceMs))
    .all();
  return [...new Map(all.map((one) => [one.place, one])).values()];
}

/** The places at which a key that ends so is used. */
export async function readPlacesByHint(usage: UsageBooks, hint: string): Promise<string[]> {
  const all = await tablesOf(usage)
    .select({ place: credentials.provider, hint: credentials.hint })
    .from(credentials)
    .orderBy(asc(credentials.provider), asc(credentials.sinceMs))
    .all();
  const last = new Map(all.map((one) => [one.place, one.hint]));
  return [...last].flatMap(([place, used]) => (used === hint ? [place] : []));
}

/** The places at which that is a credential; at another provider's name the same key has another fingerprint, but the same
 *  last characters. */
export async function readPlacesOf(usage: UsageBooks, credential: string): Promise<string[]> {
  const alike = new Set(await readAlike(usage, credential));
  return (await readUsedPlaces(usage)).flatMap((one) => (alike.has(one.credential) ? [one.place] : []));
}

/** Fingerprints that may be of one key: itself, and those whose keys end alike. */
async function readAlike(usage: UsageBooks, credential: string): Promise<string[]> {
  const tables = tablesOf(usage);
  const known = await tables
    .select({ hint: credentials.hint })
    .from(credentials)
    .where(eq(credentials.credential, credential))
    .orderBy(credentials.hint)
    .all();
  const hints = [...new Set(known.map(({ hint }) => hint))].filter((hint) => hint !== "");
  const alike = await tables
    .select({ credential: credentials.credential })
    .from(credentials)
    .where(inArray(credentials.hint, hints))
    .orderBy(credentials.credential)
    .all();
  return [...new Set([credential, ...alike.map((one) => one.credential)])];
}

/** How a credential is used: attempts under way, and when the last one began that was booked since then. */
export async function readCredentialUse(
  usage: UsageBooks,
  credential: string,
  sinceMs: number,
): Promise<{ readonly open: number; readonly lastMs: number | undefined }> {
  const tables = tablesOf(usage);
  const alike = await readAlike(usage, credential);
  const [held] = await tables
    .select({ open: sql<bigint>`COUNT(*)` })
    .from(reservations)
    // Work that goes on at the provider is fetched with the new key as well: it is the same account.
    .where(and(inArray(reservations.payer, alike), isNull(reservations.workId)))
    .all();
  const [booked] = await tables
    .select({ last: sql<bigint | null>`MAX(${events.attemptId})` })
    .from(events)
    .where(and(gte(events.attemptId, firstAttemptId(sinceMs)), inArray(events.payer, alike)))
    .all();
  const last = booked?.last ?? undefined;
  return { open: Number(held?.open ?? 0), lastMs: last === undefined ? undefined : attemptAtMs(Number(last)) };
}
