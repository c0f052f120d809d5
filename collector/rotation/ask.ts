// What the command asks of rotations besides the books: to hand a key in, what a rotation would do, how all of them stand.
import { readHeldCredentials, readRotations, readRotationSteps } from "../../ledger/billing/rotations.ts";
import type { Rotation, RotationStep } from "../../ledger/billing/rotations.ts";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import { placeOfCredential } from "../../ledger/usage/credentials.ts";
import { openSecrets } from "../../service/secrets/index.ts";
import { loadCollectorConfig } from "../config.ts";
import { readOwnKeyAge } from "./own-keys.ts";
import { readDue } from "./run.ts";
import type { RotationSettings } from "./settings.ts";
import { printOf } from "./walk.ts";

const SILENT = { warn: () => undefined, info: () => undefined };
const WRITE_MS = 30_000;

/** A credential's rotation as settings have it. Rejects with an Error that says what they lack. */
export async function findRotation(provider: string, credential: string): Promise<RotationSettings> {
  const config = loadCollectorConfig();
  (await openSecrets(config, SILENT)).stop();
  const place = placeOfCredential(config.providers.bookedName(provider), credential);
  const found = config.rotations.find((one) => one.place === place);
  if (found) return found;
  const all = config.rotations.map((one) => one.place);
  throw new Error(
    `collector.rotation in keymeter.yaml has no ${place}${all.length > 0 ? `; it has ${all.join(", ")}` : ""}: say there where proxies read the key, and who makes a new one (docs/rotation.md)`,
  );
}

/** Throws an Error where settings do not say how that key gets another secret. */
export function requireOwnKeyRotation(place: string): void {
  const all = loadCollectorConfig().ownKeyRotations.map((one) => one.place);
  if (!all.includes(place))
    throw new Error(
      `collector.key_rotation in keymeter.yaml has no ${nameOf(place)}${all.length > 0 ? `; it has ${all.map(nameOf).join(", ")}` : ""}: \`keymeter keys rotate\` gives any key another secret`,
    );
}

/** Of `key:NAME`. */
function nameOf(place: string): string {
  return place.slice("key:".length);
}

/** Puts a key into the store, beside the current one, once the books expect it there (`accept`); nothing reads it there yet.
 *  Returns what `accept` returned; rejects with an Error that says why the key cannot be taken. */
export async function handInKey<T>(
  { place, secret, provider, faultOf, hintOf }: RotationSettings,
  value: string,
  accept: (key: { readonly hint: string; readonly print: string }) => Promise<T>,
): Promise<T> {
  const fault = faultOf?.(value);
  if (fault !== undefined) throw new Error(`this is no key of ${provider.displayName}: ${fault}`);
  if ((await currentOf(secret)) === value) throw new Error("this is the key that is current already");
  const staging = secret.staging();
  const accepted = await accept({ hint: hintOf(value), print: printOf(place, value) });
  await staging.stage(value, AbortSignal.timeout(WRITE_MS));
  return accepted;
}

/** What would be done. Asks the store and the provider what they are asked in earnest, and changes nothing. */
export async function planRotation(settings: RotationSettings, isLeaked: boolean): Promise<string[]> {
  const { place, secret, maker, hintOf, provider, quietMs, graceMs } = settings;
  const current = await currentOf(secret);
  const id = (await maker.identify?.(current)) ?? settings.keyId;
  secret.staging();
  const status = await maker.probe(current);
  return [
    ...(status === 403
      ? [`${place}: it would not begin: a free call with the current key is answered 403; let its account list models.`]
      : []),
    `${place}: the current key (…${hintOf(current)}${id === undefined ? "" : `, ${id}`}) is in ${secret.reference.text}; ${provider.displayName} answers ${status} to it.`,
    maker.create
      ? `1. A new key is made at ${provider.displayName}, and kept beside it.${maker.replaces ? " It takes the place of the key that is not current, which ends at once." : ""}`
      : `1. Somebody makes a new key: ${provider.keyCare?.makeNew ?? "at the provider."} Then \`keymeter rotate accept ${place}\`.`,
    ...(id === undefined && maker.revoke
      ? [`   Which key of ${provider.displayName} the current one is cannot be told: say key_id first.`]
      : []),
    "2. It is tried by free calls, three times in a row.",
    `3. ${secret.reference.text} becomes the new one; proxies take it within a minute, without a restart.`,
    isLeaked
      ? "4. The old key goes at once, when its last request here has ended."
      : `4. The old key has to be unused for ${hours(quietMs)}${maker.lastUsedMs ? ", at the provider too" : " here"}.`,
    maker.revoke
      ? `5. It is ${maker.disable ? "switched off, and " : ""}deleted${isLeaked ? "" : ` ${hours(graceMs)} later; \`keymeter rotate back ${place}\` until then`}.`
      : `5. Somebody deletes it: ${provider.keyCare?.switchOff(id ?? "KEY") ?? "at the provider."} Then \`keymeter rotate done ${place}\`.`,
    "Nothing was changed.",
  ];
}

export type RotationReport = {
  /** Each that settings name: the key in use, since when, and when it is due. */
  readonly credentials: readonly {
    readonly place: string;
    readonly hint: string | undefined;
    readonly sinceMs: number | undefined;
    readonly dueMs: number | undefined;
    /** There is no such key of Keymeter's. */
    readonly isUnknown: boolean;
  }[];
  /** The latest first. */
  readonly rotations: readonly (Rotation & { readonly steps: readonly RotationStep[] })[];
};

export async function reportRotations(usage: UsageBooks, billing: BillingBooks | undefined): Promise<RotationReport> {
  const config = loadCollectorConfig();
  const ofProviders = config.rotations.map(async (settings) => {
    const [held] = await readHeldCredentials(usage, settings.place);
    const dueMs = await readDue(usage, settings);
    return { place: settings.place, hint: held?.hint, sinceMs: held?.sinceMs, dueMs, isUnknown: false };
  });
  const own = config.ownKeyRotations.map(async (settings) => {
    const { place, everyMs } = settings;
    const age = await readOwnKeyAge(usage, place);
    const sinceMs = age?.sinceMs;
    return { place, hint: age?.hint, sinceMs, dueMs: age && age.sinceMs + everyMs, isUnknown: age === undefined };
  });
  const credentials = await Promise.all([...ofProviders, ...own]);
  if (!billing) return { credentials, rotations: [] };
  const all = await readRotations(billing);
  const rotations = await Promise.all(
    all.map(async (one) => ({ ...one, steps: await readRotationSteps(billing, one.id) })),
  );
  return { credentials, rotations };
}

/** The key as its store has it. */
async function currentOf(secret: RotationSettings["secret"]): Promise<string> {
  await secret.refresh();
  const { failure } = secret.state;
  if (failure) throw new Error(`${secret.reference.text} cannot be read: ${failure.message}`);
  return secret.reveal();
}

function hours(ms: number): string {
  return ms % 3_600_000 === 0 ? `${ms / 3_600_000} h` : `${Math.round(ms / 60_000)} min`;
}
