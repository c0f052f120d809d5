// What is done about a provider key that leaked, in this order: what holds it here is paused, another key takes its place, it
// is taken away at the provider. Each step may be left out, and the whole may be done again: what is done already stays done,
// and says so. What no program can do is said as what is left.
import { readProviderKeys } from "../../ledger/billing/bills.ts";
import type { ProviderKey } from "../../ledger/billing/bills.ts";
import { leakSteps } from "../../ledger/billing/leak-steps.ts";
import { readLeaks } from "../../ledger/billing/leaks.ts";
import type { Leak } from "../../ledger/billing/leaks.ts";
import { readPlacesOf, readRotations, readUsedPlaces } from "../../ledger/billing/rotations.ts";
import type { Rotation } from "../../ledger/billing/rotations.ts";
import { ChangeRefused } from "../../ledger/usage/change-refused.ts";
import type { Change } from "../../ledger/usage/changes.ts";
import { readMeteredCredentials } from "../../ledger/usage/credentials.ts";
import { readKeys } from "../../ledger/usage/read-keys.ts";
import type { Key } from "../../ledger/usage/keys.ts";
import type { CollectorBooks } from "../compare.ts";
import { matchKeys } from "../match.ts";
import type { Stated } from "../match.ts";
import { changeRotation } from "../rotation/change.ts";
import type { RotationSettings } from "../rotation/settings.ts";
import { idOfCurrent } from "../rotation/walk.ts";
import { UNMATCHED } from "../leaks.ts";

export const LEAK_STEPS = ["pause", "replace", "revoke"] as const;
export type LeakStep = (typeof LEAK_STEPS)[number];

export type LeakTask = {
  readonly type: "leak";
  readonly provider: string;
  /** As the provider calls the key. */
  readonly billedKey: string;
  readonly by: string;
  /** Steps that are left out. */
  readonly without: readonly LeakStep[];
};

export type LeakContext = {
  readonly books: CollectorBooks;
  readonly rotations: readonly RotationSettings[];
  readonly stated: Stated;
  /** Makes a change in the books of usage, in somebody's name. */
  readonly change: (change: Change, by: string) => Promise<void>;
};

/** Who a key of the provider is here. */
export type LeakedKey = {
  readonly provider: string;
  readonly billedKey: string;
  /** As the provider shows it; undefined: it was not among the keys that were read. */
  readonly shown: ProviderKey | undefined;
  /** What was found of its use past Keymeter. */
  readonly leak: Leak | undefined;
  /** The fingerprint under which it was metered. */
  readonly credential: string | undefined;
  /** Where it is what Keymeter keys are swapped for, a client's own key apart. */
  readonly place: string | undefined;
  /** Undefined where settings do not say how that one is replaced. */
  readonly rotation: RotationSettings | undefined;
  /** A client's own key, where it came through Keymeter. */
  readonly key: Key | undefined;
};

/** Rejects with ChangeRefused where the provider's keys cannot be told apart, or nothing is known of this one. */
export async function findLeaked(
  { books, rotations, stated }: Omit<LeakContext, "change">,
  provider: string,
  billedKey: string,
): Promise<LeakedKey> {
  if (billedKey === UNMATCHED)
    throw new ChangeRefused(
      "which of the provider's keys leaked is not known: say which metered ones are ours under collector.billing_keys, and the leak names its key",
    );
  const { usage, billing } = books;
  const shown = (await readProviderKeys(billing, provider)).find((one) => one.billedKey === billedKey);
  const leak = (await readLeaks(billing)).find((one) => one.provider === provider && one.billedKey === billedKey);
  if (!shown && !leak)
    throw new ChangeRefused(
      `${provider} has no key ${billedKey} that was read; \`keymeter leaks\` names those that are used past Keymeter`,
    );
  const metered = (await readMeteredCredentials(usage)).filter((one) => one.provider === provider);
  const { byCredential } = matchKeys(metered, await readProviderKeys(billing, provider), stated);
  const credential = metered.find((one) => byCredential.get(one.credential) === billedKey)?.credential;
  const { keys } = await readKeys(usage);
  const key = keys.find(({ id }) => id === credential);
  const places = credential === undefined ? [] : await readPlacesOf(usage, credential);
  const rotation = rotations.find((one) => places.includes(one.place));
  return { provider, billedKey, shown, leak, credential, place: rotation?.place ?? places[0], rotation, key };
}

/** What would be done, or is done: a sentence each. `isDry`: nothing is changed. Rejects with ChangeRefused. */
export async function actOnLeak(
  context: LeakContext,
  { provider, billedKey, by, without }: LeakTask,
  nowMs: number,
  isDry = false,
): Promise<string[]> {
  const leaked = await findLeaked(context, provider, billedKey);
  const does = (step: LeakStep): boolean => !without.includes(step);
  const said = [
    ...(does("pause") ? await pause(context, leaked, by, isDry) : ["Pausing was left out."]),
    ...(does("replace") ? await replace(context, leaked, by, nowMs, isDry) : ["Replacing was left out."]),
  ];
  const taken = does("revoke") ? await revoke(context, leaked, isDry) : { said: "Taking it away was left out." };
  if (taken.said !== undefined) said.push(taken.said);
  return [...said, ...left(leaked, taken.isGone === true).map((one) => `Left to do: ${one}`)];
}

/** A client's own key: what it does through Keymeter ends at once. */
async function pause({ change }: LeakContext, { key }: LeakedKey, by: string, isDry: boolean): Promise<string[]> {
  if (!key) return [];
  if (key.state !== "active") return [`${key.name} (${key.id}) is ${key.state} in Keymeter already.`];
  if (isDry) return [`${key.name} (${key.id}) would be paused in Keymeter: its requests are refused.`];
  await change({ type: "setKeyState", keyId: key.id, state: "paused" }, by);
  return [`${key.name} (${key.id}) is paused in Keymeter: its requests are refused.`];
}

/** Ours: another key takes its place, and this one goes as soon as its last request here has ended. */
async function replace(
  { books }: LeakContext,
  { place, rotation, billedKey }: LeakedKey,
  by: string,
  nowMs: number,
  isDry: boolean,
): Promise<string[]> {
  const all = await readRotations(books.billing, { isOpen: true });
  const made = all.find(({ newKeyId }) => newKeyId === billedKey);
  const going = all.find(({ oldKeyId, place: its }) => oldKeyId === billedKey || its === rotation?.place);
  if (made)
    return [
      `It is the new key of a rotation of ${made.place} that goes on (${made.id}): \`keymeter rotate back ${made.place}\` takes it away.`,
    ];
  if (going) return hasten(books, going, by, nowMs, isDry);
  if (place === undefined) return ["Keymeter keys are not swapped for it: nothing has to be replaced here."];
  if (!rotation)
    return [`Keymeter keys are swapped for it at ${place}, and collector.rotation does not say how it is replaced.`];
  if (isDry) return [`${rotation.place} would get another key, and ${billedKey} would be taken away at once.`];
  const task = { type: "rotate", place: rotation.place, by, why: "it leaked", isLeaked: true } as const;
  const [said = ""] = await changeRotation(books, task, nowMs);
  return [`${said} ${billedKey} is taken away as soon as its last request here has ended.`];
}

/** A rotation that takes the key away anyhow: it waits for nothing any more. */
async function hasten(
  books: CollectorBooks,
  { id, place, state, isLeaked }: Rotation,
  by: string,
  nowMs: number,
  isDry: boolean,
): Promise<string[]> {
  if (isLeaked) return [`A rotation of ${place} goes on already, and waits for nothing (${id}, ${state}).`];
  if (isDry) return [`The rotation of ${place} that goes on (${id}) would wait for nothing any more.`];
  return changeRotation(books, { type: "rotate", place, by, why: "it leaked", isLeaked: true }, nowMs);
}

/** Not ours, or not any more: it is taken away at the provider at once. What proxies use is taken away by its rotation, and by
 *  nothing else: in doubt it stays. */
async function revoke(
  { books, rotations, stated }: LeakContext,
  { provider, billedKey, place }: LeakedKey,
  isDry: boolean,
): Promise<{ readonly said?: string; readonly isGone?: boolean }> {
  if (place !== undefined) return {};
  const settings = rotations.filter((one) => one.provider.name === provider && "revoke" in one.maker);
  if (settings.length === 0) return {};
  const open = await readRotations(books.billing, { isOpen: true });
  if (open.some(({ oldKeyId, newKeyId }) => [oldKeyId, newKeyId].includes(billedKey))) return {};
  const doubt = await findDoubt(books, settings, stated, { provider, billedKey });
  if (doubt !== undefined) return { said: `${billedKey} is not taken away: ${doubt}.` };
  if (isDry) return { said: `${billedKey} would be taken away at the provider.`, isGone: true };
  // An admin key may see one project of several.
  for (const { maker } of settings)
    if ((await maker.revoke?.(billedKey)) === true)
      return { said: `${billedKey} is taken away at the provider.`, isGone: true };
  return {
    said: `No admin key under collector.rotation sees ${billedKey}: it is gone already, or in another project.`,
  };
}

/** Why a key may be what proxies use at some place of its provider; undefined: it is none of these. */
async function findDoubt(
  { usage, billing }: CollectorBooks,
  settings: readonly RotationSettings[],
  stated: Stated,
  { provider, billedKey }: Pick<LeakedKey, "provider" | "billedKey">,
): Promise<string | undefined> {
  const metered = (await readMeteredCredentials(usage)).filter((one) => one.provider === provider);
  const { byCredential } = matchKeys(metered, await readProviderKeys(billing, provider), stated);
  for (const { place, credential } of await readUsedPlaces(usage)) {
    if (place !== provider && !place.startsWith(`${provider}/`)) continue;
    const rotation = settings.find((one) => one.place === place);
    let id = byCredential.get(credential);
    if (rotation) {
      await rotation.secret.refresh();
      const { failure } = rotation.secret.state;
      if (failure) return `it may be what proxies use at ${place}, whose store cannot be read (${failure.message})`;
      id = (await idOfCurrent(rotation, rotation, billing, rotation.secret.reveal())) ?? id;
    }
    if (id === billedKey) return `it is what proxies use at ${place}`;
    if (id === undefined)
      return `which key proxies use at ${place} cannot be told: say it under collector.billing_keys, as ${credential}: KEY`;
  }
  return undefined;
}

/** What nobody here can do. */
function left(leaked: LeakedKey, isGone: boolean): string[] {
  const { provider, place, rotation, key, leak, billedKey } = leaked;
  const watch = "watch it for a day: `keymeter leaks` shows whether it is still used.";
  if (place !== undefined && rotation)
    return rotation.maker.create
      ? [watch]
      : [
          `make a new key at the provider, and hand it in: \`keymeter rotate accept ${place} --leaked < FILE\`. Until then the old one goes on.`,
          watch,
        ];
  const [makeNew = "", swap = "", switchOff = ""] = leakSteps(leak ?? { provider, billedKey, kind: "beyond_metered" });
  return [
    ...(place === undefined ? [] : [makeNew, swap]),
    ...(key ? [`give whoever holds ${key.name} another key, better a Keymeter key (\`keymeter keys create\`).`] : []),
    ...(isGone ? [] : [switchOff]),
    watch,
  ];
}
