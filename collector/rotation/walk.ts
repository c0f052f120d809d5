// The walk of a rotation, a step at a time. Each step can be taken again: what it does at the provider and in the store is
// done once, wherever the program was killed, and the books are written last.
//   planned -> stored -> verified -> switched -> draining -> disabled -> revoking -> revoked
// beside it: by_hand (somebody takes the last step), going_back -> returning -> back, failed.
import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import {
  noteKeysBefore,
  readCredentialUse,
  readHeldCredentials,
  readPlacesByHint,
  readPlacesOf,
  readRotations,
} from "../../ledger/billing/rotations.ts";
import type { Rotation } from "../../ledger/billing/rotations.ts";
import type { HeldSecret } from "../../service/secrets/index.ts";
import { StoreError } from "../../service/secrets/store.ts";
import { MakerError } from "./maker.ts";
import type { MadeKey } from "./maker.ts";
import { inWords, trouble, wait } from "./outcome.ts";
import type { Outcome } from "./outcome.ts";
import type { RotationSettings } from "./settings.ts";

export type Walking = {
  readonly books: { readonly usage: UsageBooks; readonly billing: BillingBooks };
  readonly settings: RotationSettings;
  readonly nowMs: number;
  readonly patience: Patience;
  readonly signal: AbortSignal;
};

/** How long is waited, in milliseconds. */
export type Patience = {
  /** Between two free calls with a new key. */
  readonly probePauseMs: number;
  /** For another proxy that reads a store a little later than the first. */
  readonly settleMs: number;
};

const SECOND = 1000;
const MINUTE = 60 * SECOND;
/** A provider's own caches may not know a new key for so long. */
const VERIFY_MS = 5 * MINUTE;
/** So often in a row a new key has to be taken. */
const PROBES = 3;
/** Proxies read a store again within a minute; who does not for so long has trouble. */
const SWITCH_MS = 5 * MINUTE;
/** Something uses the old key for so long that somebody should look for it; one that leaked, sooner. */
const LONG_MS = 24 * 60 * MINUTE;
const LEAKED_MS = 5 * MINUTE;
/** What somebody has to do is asked for again after so long. */
const HAND_MS = 3 * 24 * 60 * MINUTE;
export const PATIENCE: Patience = { probePauseMs: SECOND, settleMs: 2 * MINUTE };

/** The next step of a rotation. Rejects with a MakerError or StoreError where the provider or the store does not answer as
 *  it should; then it is tried again. */
export async function walkOn(rotation: Rotation, walking: Walking): Promise<Outcome> {
  switch (rotation.state) {
    case "planned":
      return make(rotation, walking);
    case "stored":
      return verify(rotation, walking);
    case "verified":
      return switchOver(rotation, walking);
    case "switched":
      return awaitProxies(rotation, walking);
    case "draining":
      return drain(rotation, walking);
    case "disabled":
      return revoke(rotation, walking);
    case "revoking":
      return takeAway(rotation, walking);
    case "going_back":
      return goBack(rotation, walking);
    case "returning":
      return dropNew(rotation, walking);
    case "by_hand":
      return byHand(
        rotation,
        walking,
        rotation.waitsFor ?? "somebody deletes the old key, and says `keymeter rotate done`",
      );
    case "revoked":
    case "back":
    case "failed":
      return wait("nothing: it is over");
  }
}

/** The name that the new key has at the provider. */
function nameOfKey({ place, id }: Pick<Rotation, "place" | "id">): string {
  return `keymeter-${place.replace("/", "-")}-${id}`;
}

/** By which a key is known again without being kept: a digest of what has far more than its 64 bits. */
export function printOf(place: string, value: string): string {
  return createHash("sha256").update(`${place} ${value}`).digest("hex").slice(0, 16);
}

/** A new key, and at once into the store, beside the current one. */
async function make(rotation: Rotation, walking: Walking): Promise<Outcome> {
  const { books, settings, signal } = walking;
  const { maker, secret, place, provider, hintOf } = settings;
  if (!maker.create)
    return byHand(
      rotation,
      walking,
      `${provider.keyCare?.makeNew ?? "Make a new key at the provider."} Then hand it in: \`keymeter rotate accept ${place} < FILE\``,
    );
  const current = await valueOf(secret);
  const [held] = await readHeldCredentials(books.usage, place);
  if (held?.hint !== hintOf(current))
    return trouble(
      held
        ? `no proxy uses the current key of ${place} yet (…${hintOf(current)}): it uses …${held.hint}`
        : `no proxy ever used a credential at ${place}: does one run, and is a credential named so in its settings?`,
    );
  const oldKeyId = await idOfCurrent(rotation, settings, books.billing, current);
  if (oldKeyId === undefined)
    return trouble(
      `which key of ${provider.displayName} the current one is (…${hintOf(current)}) cannot be told: say collector.rotation.${place}.key_id`,
    );
  const why = await whyNotYet(rotation, walking, current, oldKeyId);
  if (why !== undefined) return trouble(why);
  const staging = secret.staging();
  await staging.clear(signal);
  const made = await createAlone(rotation, walking, oldKeyId);
  try {
    await staging.stage(made.value, signal);
    if ((await staging.staged(signal)) !== made.value)
      throw new StoreError("unusable", `${secret.reference.text} gives back another text than was put beside it`);
  } catch (error) {
    await maker.revoke?.(made.id).catch(() => undefined);
    throw error;
  }
  return {
    to: {
      state: "stored",
      oldKeyId,
      oldCredential: held.credential,
      newKeyId: made.id,
      newHint: hintOf(made.value),
      newPrint: printOf(place, made.value),
    },
    said: `${made.id} (…${hintOf(made.value)}) was made, and waits beside ${oldKeyId} in ${secret.reference.text}`,
  };
}

/** Why a new key should not be made now, though it could; undefined: nothing. */
async function whyNotYet(
  rotation: Rotation,
  { books, settings: { maker, provider, hintOf } }: Walking,
  current: string,
  oldKeyId: string,
): Promise<string | undefined> {
  // A new one would be refused in the same way. One that leaked may be gone already.
  if (!rotation.isLeaked && (await maker.probe(current)) === 403)
    return `${provider.displayName} answers 403 to a free call with the current key: let its account list models, or no new key can be tried`;
  const replaced = await maker.replaces?.(oldKeyId);
  if (replaced === undefined) return undefined;
  const [elsewhere] = await readPlacesByHint(books.usage, hintOf(replaced));
  return elsewhere === undefined
    ? undefined
    : `a new key takes the place of …${hintOf(replaced)}, which is used at ${elsewhere}: give that place the current key (…${hintOf(current)}) first`;
}

/** Makes a key. What an earlier try made that was broken off is deleted before: nobody knows its value. */
async function createAlone(
  rotation: Rotation,
  { books: { billing }, settings, nowMs }: Walking,
  oldKeyId: string,
): Promise<MadeKey> {
  const { maker } = settings;
  if (!maker.create) throw new Error("this maker makes none");
  for (const id of await leftOvers({ ...rotation, oldKeyId }, settings, billing)) await maker.revoke?.(id);
  if (maker.list) {
    const before: KeysBefore = { atMs: nowMs, ids: (await maker.list(oldKeyId)).map(({ id }) => id) };
    await noteKeysBefore(billing, { ...rotation, oldKeyId, keysBefore: JSON.stringify(before) });
  }
  try {
    return await maker.create(nameOfKey(rotation), oldKeyId);
  } catch (error) {
    // Then none is left over, and what comes meanwhile is somebody else's.
    if (error instanceof MakerError && error.isRefusal)
      await noteKeysBefore(billing, { ...rotation, keysBefore: null });
    throw error;
  }
}

/** The id of the key that is current: as the last rotation made it, as settings say, or as the provider shows it. */
export async function idOfCurrent(
  { place }: Pick<Rotation, "place">,
  { maker, keyId }: RotationSettings,
  billing: BillingBooks,
  current: string,
): Promise<string | undefined> {
  const ended = (await readRotations(billing, { place })).filter(({ state }) => state === "revoked");
  const made = ended.find(({ newPrint, newKeyId }) => newKeyId !== null && newPrint === printOf(place, current));
  const told = made?.newKeyId ?? (await maker.identify?.(current));
  // What settings say was of the key before the first rotation.
  return told ?? (ended.length === 0 ? keyId : undefined);
}

/** Whether the provider takes the new key: a few times in a row, for its caches may differ. */
async function verify(rotation: Rotation, walking: Walking): Promise<Outcome> {
  const { books, settings, nowMs, patience, signal } = walking;
  const { maker, secret, place, provider } = settings;
  const current = await valueOf(secret);
  const value = await secret.staging().staged(signal);
  if (value === undefined || printOf(place, value) !== rotation.newPrint) {
    if (printOf(place, current) === rotation.newPrint)
      return { to: { state: "verified" }, said: "the new key is the current one already" };
    if (rotation.newKeyId === null)
      return {
        waitsFor: `the key that was handed in (…${rotation.newHint}) is not in the store: hand it in again`,
        isTrouble: nowMs - rotation.enteredAtMs > MINUTE,
      };
    await maker.revoke?.(rotation.newKeyId);
    return {
      to: { state: "planned", newKeyId: null, newHint: null, newPrint: null },
      said: "the new key was not in the store any more: it is deleted, and another one is made",
    };
  }
  for (let taken = 0; taken < PROBES; taken++) {
    if (taken > 0) await sleep(patience.probePauseMs);
    const status = await maker.probe(value);
    if (status < 300) continue;
    if (status !== 401 && status !== 403)
      return trouble(`${provider.displayName} answers ${status} to a free call with the new key`);
    if (nowMs - rotation.enteredAtMs < VERIFY_MS)
      return wait(`${provider.displayName} does not take the new key yet (${status}): that may last some minutes`);
    if (rotation.newKeyId !== null && maker.create) await maker.revoke?.(rotation.newKeyId);
    await secret.staging().clear(signal);
    return {
      to: { state: "failed" },
      said: `${provider.displayName} did not take the new key for ${VERIFY_MS / MINUTE} minutes (${status}); it is out of the store, and the old one goes on`,
    };
  }
  // Of a key that was handed in, the ids are looked up.
  const newKeyId = rotation.newKeyId ?? (await maker.identify?.(value)) ?? null;
  const oldKeyId = rotation.oldKeyId ?? (await idOfCurrent(rotation, settings, books.billing, current)) ?? null;
  if (oldKeyId !== null && oldKeyId === newKeyId)
    return trouble(`the old and the new key are both ${oldKeyId} at ${provider.displayName}: is key_id right?`);
  const [held] = await readHeldCredentials(books.usage, place);
  const oldCredential = rotation.oldCredential ?? (held?.hint === settings.hintOf(current) ? held.credential : null);
  return {
    to: { state: "verified", newKeyId, oldKeyId, oldCredential },
    said: `the new key is taken, ${PROBES} times in a row`,
  };
}

/** The new key is what readers of the store get. */
async function switchOver(rotation: Rotation, { settings, signal }: Walking): Promise<Outcome> {
  const { secret, place } = settings;
  const next = await secret.staging().staged(signal);
  if (next !== undefined && printOf(place, next) !== rotation.newPrint)
    return trouble(`beside ${secret.reference.text} waits another key than the one that was tried`);
  await secret.staging().promote(signal);
  if (printOf(place, await valueOf(secret)) !== rotation.newPrint)
    return trouble(`${secret.reference.text} is another one than the new key: somebody else writes there`);
  return { to: { state: "switched" }, said: `${secret.reference.text} is the new key; the old one is kept beside it` };
}

/** Until a proxy says that it swaps Keymeter keys for the new one. */
async function awaitProxies(rotation: Rotation, { books, settings, nowMs }: Walking): Promise<Outcome> {
  const [held] = await readHeldCredentials(books.usage, settings.place);
  if (held && held.hint === rotation.newHint && held.credential !== rotation.oldCredential)
    return {
      to: { state: "draining", newCredential: held.credential },
      said: `a proxy uses the new key since ${new Date(held.sinceMs).toISOString()}`,
    };
  const isLate = nowMs - rotation.enteredAtMs > SWITCH_MS;
  return {
    waitsFor: `no proxy uses the new key of ${settings.place} yet${isLate ? ": does one run, and does it read this very reference?" : "; they read it within a minute"}`,
    isTrouble: isLate,
  };
}

/** Until nothing uses the old key: here by what was booked, and past Keymeter by what the provider says. */
async function drain(rotation: Rotation, walking: Walking): Promise<Outcome> {
  const { settings, nowMs, patience } = walking;
  const { maker, place, provider } = settings;
  const quietMs = rotation.isLeaked ? 0 : settings.quietMs;
  const isElse = await findElse(rotation, walking);
  if (isElse !== undefined) return trouble(isElse);
  const inUse = await useOfOld(rotation, walking, nowMs - quietMs);
  if (inUse !== undefined) {
    const patienceMs = rotation.isLeaked ? LEAKED_MS : quietMs + LONG_MS;
    return { waitsFor: inUse.why, isTrouble: inUse.isElsewhere || nowMs - rotation.enteredAtMs > patienceMs };
  }
  const patienceMs = rotation.isLeaked ? 0 : Math.max(quietMs, patience.settleMs);
  const leftMs = rotation.enteredAtMs + patienceMs - nowMs;
  if (leftMs > 0) return wait(`the old key has to be unused for ${inWords(leftMs)} more`);
  const { oldKeyId } = rotation;
  if (oldKeyId === null || !maker.revoke)
    return {
      to: {
        state: "by_hand",
        waitsFor: `${provider.keyCare?.switchOff(oldKeyId ?? "KEY") ?? "Delete the old key at the provider."} Then: \`keymeter rotate done ${place}\``,
      },
      said: "the old key is used no more; somebody has to delete it",
    };
  if (maker.disable) await maker.disable(oldKeyId);
  return {
    to: { state: "disabled" },
    said: `${oldKeyId} is used no more${maker.disable ? ", and switched off" : "; it cannot be switched off, only deleted"}`,
  };
}

/** What is in the place of the new key, of which nothing may be taken away then: somebody wrote into the store, or a proxy
 *  reads another one. Undefined: nothing. */
async function findElse(rotation: Rotation, { books, settings }: Walking): Promise<string | undefined> {
  const { secret, place } = settings;
  if (printOf(place, await valueOf(secret)) !== rotation.newPrint)
    return `${secret.reference.text} is another one than the new key: put that back, or end this by \`keymeter rotate back ${place}\``;
  const [held] = await readHeldCredentials(books.usage, place);
  const { newCredential, newHint } = rotation;
  const isNew = newCredential === null ? held?.hint === newHint : held?.credential === newCredential;
  return held && !isNew
    ? `a proxy uses another key of ${place} than the new one (…${held.hint}): look at its store`
    : undefined;
}

/** Undefined: nothing used it since then. */
async function useOfOld(
  { oldCredential, oldKeyId }: Rotation,
  { books, settings: { maker, provider } }: Walking,
  sinceMs: number,
): Promise<{ readonly why: string; readonly isElsewhere: boolean } | undefined> {
  const used = (why: string) => ({ why, isElsewhere: false });
  if (oldCredential !== null) {
    const [elsewhere] = await readPlacesOf(books.usage, oldCredential);
    if (elsewhere !== undefined)
      return {
        why: `proxies use the old key at ${elsewhere} too: give that place another one; where settings have it no more, \`keymeter rotate done\` ends this`,
        isElsewhere: true,
      };
    const { open, lastMs } = await readCredentialUse(books.usage, oldCredential, sinceMs);
    if (open > 0) return used(`${open} requests with the old key are under way here`);
    if (lastMs !== undefined && lastMs > sinceMs) return used(`the old key was last used here at ${iso(lastMs)}`);
  }
  const lastMs = oldKeyId === null ? undefined : await maker.lastUsedMs?.(oldKeyId);
  return lastMs !== undefined && lastMs > sinceMs
    ? used(
        `${provider.displayName} saw the old key used at ${iso(lastMs)}, past Keymeter where nothing is metered of it`,
      )
    : undefined;
}

/** The old key goes for good, if nobody missed it. */
async function revoke(rotation: Rotation, walking: Walking): Promise<Outcome> {
  const { settings, nowMs } = walking;
  const { maker } = settings;
  const { oldKeyId } = rotation;
  const isElse = await findElse(rotation, walking);
  const inUse = rotation.isLeaked ? undefined : await useOfOld(rotation, walking, rotation.enteredAtMs);
  const why = isElse ?? inUse?.why;
  if (why !== undefined) {
    if (oldKeyId !== null && !rotation.isLeaked) await maker.enable?.(oldKeyId);
    if (rotation.isLeaked) return trouble(why);
    return { to: { state: "draining" }, said: `${why}${maker.enable ? ": it is on again" : ""}` };
  }
  const graceMs = rotation.isLeaked ? 0 : settings.graceMs;
  const leftMs = rotation.enteredAtMs + graceMs - nowMs;
  if (leftMs > 0) return wait(`the old key is deleted in ${inWords(leftMs)}; until then \`keymeter rotate back\``);
  return { to: { state: "revoking" }, said: `${oldKeyId ?? "the old key"} is deleted now; there is no way back` };
}

/** Deletes the old key. That it is done is in the books before: nobody goes back to a key that is gone. */
async function takeAway(rotation: Rotation, walking: Walking): Promise<Outcome> {
  const { settings, signal } = walking;
  const { maker, secret } = settings;
  const { oldKeyId } = rotation;
  const isElse = await findElse(rotation, walking);
  if (isElse !== undefined) return trouble(`${isElse}; the old key is not deleted before the new one is back there`);
  if (oldKeyId !== null) await maker.revoke?.(oldKeyId);
  const left = await leftOvers(rotation, settings, walking.books.billing);
  // Without a name somebody else may have made it meanwhile.
  if (maker.find) for (const id of left) await maker.revoke?.(id);
  await secret.staging().clear(signal);
  const others = maker.find || left.length === 0 ? "" : `; ${left.join(", ")} came meanwhile: look whose that is`;
  return { to: { state: "revoked" }, said: `${oldKeyId ?? "the old key"} is deleted${others}` };
}

/** The old key is current again, if the provider still takes it. */
async function goBack(rotation: Rotation, { settings, signal }: Walking): Promise<Outcome> {
  const { maker, secret, place, provider } = settings;
  const { oldKeyId, newPrint } = rotation;
  const staging = secret.staging();
  const isNew = async (): Promise<boolean> => newPrint !== null && printOf(place, await valueOf(secret)) === newPrint;
  if (oldKeyId !== null) await maker.enable?.(oldKeyId);
  if (await isNew()) {
    const previous = await staging.previous(signal);
    // Where others write other fields, the version before may have the new key too.
    if (previous === undefined || printOf(place, previous) === newPrint)
      return trouble(`the key before it is not beside ${secret.reference.text} any more: put it there by hand`);
    const status = await maker.probe(previous);
    if (status === 401 || status === 403)
      return {
        to: { state: rotation.newCredential === null ? "switched" : "draining" },
        said: `${provider.displayName} does not take the old key any more (${status}): there is no way back, and the new one goes on`,
      };
    if (status >= 300) return trouble(`${provider.displayName} answers ${status} to a free call with the old key`);
    await staging.restore(signal);
    if (await isNew()) return trouble(`${secret.reference.text} is still the new key: somebody else writes there`);
  }
  return { to: { state: "returning" }, said: "the old key is current again; the new one is looked after" };
}

/** The new key goes, once nothing uses it. */
async function dropNew(rotation: Rotation, { books, settings, nowMs, patience, signal }: Walking): Promise<Outcome> {
  const { maker, secret, place } = settings;
  const { newKeyId, newHint, newPrint, newCredential, oldCredential, enteredAtMs } = rotation;
  const [held] = await readHeldCredentials(books.usage, place);
  const isHeld = held !== undefined && held.hint === newHint && held.credential !== oldCredential;
  if (isHeld)
    return {
      waitsFor: "proxies use the new key yet; they read the old one within a minute",
      isTrouble: nowMs - enteredAtMs > SWITCH_MS,
    };
  // Another place has it by now, as this one once was told to.
  const elsewhere = (newHint === null ? [] : await readPlacesByHint(books.usage, newHint)).find((one) => one !== place);
  if (elsewhere !== undefined)
    return trouble(`proxies use the new key at ${elsewhere} too: give that place another one; until then it stays`);
  // Some proxy may have read it and says so in a moment; another one reads the store a little later.
  const leftMs = enteredAtMs + patience.settleMs - nowMs;
  if (newPrint !== null && leftMs > 0) return wait(`the new key is looked after for ${inWords(leftMs)} more`);
  if (newCredential !== null) {
    const { open, lastMs = 0 } = await readCredentialUse(books.usage, newCredential, nowMs - patience.settleMs);
    if (open > 0) return wait(`${open} requests with the new key are under way here`);
    if (lastMs > nowMs - patience.settleMs) return wait(`the new key was last used here at ${iso(lastMs)}`);
  }
  if (maker.create && newKeyId !== null) await maker.revoke?.(newKeyId);
  const left = maker.create ? await leftOvers(rotation, settings, books.billing) : [];
  if (maker.find) for (const id of left) await maker.revoke?.(id);
  const others = maker.find || left.length === 0 ? "" : `; ${left.join(", ")} came meanwhile: look whose that is`;
  await secret.staging().clear(signal);
  return {
    to: { state: "back" },
    said: `nothing uses the new key${maker.create ? "; it is deleted" : "; delete it at the provider"}${others}`,
  };
}

/** What there was when a key without a name was made, and when that was; JSON in the books. */
type KeysBefore = { readonly atMs: number; readonly ids: readonly string[] };
/** A try makes its key within this time, by whichever clock; what was made at another is somebody else's. */
const TRY_MS = 2 * MINUTE;

/** What tries of this rotation left at the provider that were broken off: keys with its name, or, where keys have none, those that
 *  were not there before, were made at the time of the try, and that no rotation knows. */
async function leftOvers(
  { place, id, keysBefore, oldKeyId, newKeyId }: Rotation,
  { maker }: RotationSettings,
  billing: BillingBooks,
): Promise<string[]> {
  if (maker.find)
    return (await maker.find(nameOfKey({ place, id }))).filter((one) => one !== newKeyId && one !== oldKeyId);
  if (!maker.list || keysBefore === null || oldKeyId === null) return [];
  const { atMs, ids } = JSON.parse(keysBefore) as KeysBefore;
  const known = (await readRotations(billing)).flatMap((one) => [one.oldKeyId, one.newKeyId]);
  const others = new Set([...ids, ...known, oldKeyId, newKeyId]);
  return (await maker.list(oldKeyId)).flatMap((one) =>
    !others.has(one.id) && Math.abs(one.madeAtMs - atMs) <= TRY_MS ? [one.id] : [],
  );
}

/** As the store has it now. Rejects with an Error that says why it cannot be read. */
async function valueOf(secret: HeldSecret): Promise<string> {
  await secret.refresh();
  const { failure } = secret.state;
  if (failure) throw new Error(`${secret.reference.text} cannot be read: ${failure.message}`);
  return secret.reveal();
}

/** Somebody has to do something; after some days he is asked again. */
function byHand(rotation: Rotation, { nowMs }: Walking, waitsFor: string): Outcome {
  return { waitsFor, isTrouble: nowMs - rotation.enteredAtMs > HAND_MS };
}

function iso(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}
