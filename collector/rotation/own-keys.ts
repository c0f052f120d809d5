// Keymeter's own keys, replaced by a schedule: the proxy makes the new secret, it is written to where its users read it, and then
// the old one's grace begins. While the new one is not everywhere yet, the old one is good.
//   planned -> stored (made, held in memory) -> switched (written everywhere) -> draining (the grace) -> revoked
import { z } from "zod";
import type { Rotation } from "../../ledger/billing/rotations.ts";
import type { UsageBooks } from "../../ledger/books.ts";
import { UNTIL_TOLD_MS } from "../../ledger/usage/keys.ts";
import type { Key } from "../../ledger/usage/keys.ts";
import { readKeys, readSecretAges } from "../../ledger/usage/read-keys.ts";
import { DAY_MS } from "../../ledger/windows.ts";
import { askProxy } from "../../service/admin.ts";
import type { SharedConfig } from "../../service/config.ts";
import { toJson } from "../../service/json.ts";
import type { Secret } from "../../service/secret.ts";
import { checkTarget, targetProblem, writeSecret } from "../../service/secrets/target.ts";
import { duration, interval } from "./duration.ts";
import { inWords, trouble, wait } from "./outcome.ts";
import type { Outcome } from "./outcome.ts";

const PLACE = "key:";
const WRITE_MS = 30_000;

const target = z.string().superRefine((text, context) => {
  const problem = targetProblem(text);
  if (problem !== undefined) context.addIssue(problem);
});

/** By a key's name or id. */
export const ownKeyRows = z.record(
  z.string().min(1),
  z.strictObject({
    /** Where the new secret is written. */
    to: z.preprocess((given) => (typeof given === "string" ? [given] : given), z.array(target).min(1)),
    every: interval,
    grace: duration.default(DAY_MS),
  }),
);
export type OwnKeyRows = z.output<typeof ownKeyRows>;

export type OwnKeyRotation = {
  /** `key:`, and its name or id. */
  readonly place: string;
  readonly targets: readonly string[];
  readonly everyMs: number;
  readonly graceMs: number;
};

/** The rows as they are carried out. What is wrong with them together goes into the problems. */
export function readOwnKeys(rows: OwnKeyRows, problems: string[]): readonly OwnKeyRotation[] {
  const all = Object.entries(rows).flatMap(([name, { to }]) => to.map((one) => ({ name, one })));
  for (const [one, of] of Map.groupBy(all, (row) => row.one))
    if (of.length > 1)
      problems.push(
        `collector.key_rotation: ${one} is a target more than once (${of.map(({ name }) => name).join(", ")}): it has one key`,
      );
  return Object.entries(rows).map(([name, { to, every: everyMs, grace: graceMs }]) => ({
    place: `${PLACE}${name}`,
    targets: to,
    everyMs,
    graceMs,
  }));
}

/** What the walk asks of the proxy, and where it writes. */
export type OwnKeyActions = {
  /** The settings that say where stores are. */
  readonly config: object;
  /** Gives a key another secret, and returns it; the one before is good until then. */
  reissue(keyId: string): Promise<string>;
  /** The secrets that are good until it is told are good until then. */
  endOldSecrets(keyId: string, untilMs: number): Promise<void>;
  /** New secrets that are not everywhere yet, by rotation. In memory alone: after a restart another one is made. */
  readonly made: Map<string, string>;
};

/** Other secrets for Keymeter's own keys are the proxy's to make. */
export function actionsOf(config: SharedConfig & { readonly adminToken: Secret }): OwnKeyActions {
  const ask = (path: string, body: object): Promise<unknown> =>
    askProxy(config, "POST", path, toJson(body), config.adminToken.reveal(), "schedule");
  return {
    config,
    made: new Map(),
    async reissue(keyId) {
      const graceUntilMs = UNTIL_TOLD_MS;
      const answer = await ask(`/admin/keys/${encodeURIComponent(keyId)}/rotate`, { graceUntilMs });
      return (answer as { readonly secret: string }).secret;
    },
    async endOldSecrets(keyId, untilMs) {
      await ask("/admin/changes", { type: "endOldSecrets", keyId, untilMs });
    },
  };
}

export type WalkingOwnKey = {
  readonly usage: UsageBooks;
  readonly settings: OwnKeyRotation;
  readonly all: readonly OwnKeyRotation[];
  readonly actions: OwnKeyActions;
  readonly nowMs: number;
};

/** Of a key that settings do not name any more: it ends, and what was written and said holds. */
export function endUnnamed({ state, place }: Rotation): Outcome {
  if (state === "draining") return { to: { state: "revoked" }, said: "the old secret ends at its time" };
  return {
    to: { state: "failed" },
    said: `collector.key_rotation has no ${nameIn(place)} any more: the old secret goes on until \`keymeter keys rotate\``,
  };
}

export function isOwnKey({ place }: Pick<Rotation, "place">): boolean {
  return place.startsWith(PLACE);
}

/** The next step. Rejects with an Error that says what does not answer. */
export async function walkOwnKeyOn(rotation: Rotation, walking: WalkingOwnKey): Promise<Outcome> {
  switch (rotation.state) {
    case "planned":
      return make(walking, rotation);
    case "stored":
      return handOut(walking, rotation);
    case "switched":
      return beginGrace(walking, rotation);
    case "draining": {
      const leftMs = rotation.enteredAtMs + walking.settings.graceMs - walking.nowMs;
      if (leftMs > 0) return wait(`the old secret works for ${inWords(leftMs)} more`);
      return { to: { state: "revoked" }, said: "the old secret works no more" };
    }
    default:
      return wait("nothing: it is over");
  }
}

async function make({ usage, settings, all, actions }: WalkingOwnKey, rotation: Rotation): Promise<Outcome> {
  const { place, targets } = settings;
  const key = await findOwnKey(usage, place);
  if (!key || key.state === "revoked")
    return trouble(`there is no key ${nameIn(place)} that could get another secret: \`keymeter keys list\``);
  for (const other of all)
    if (other.place !== place && (await findOwnKey(usage, other.place))?.id === key.id)
      return trouble(
        `${nameIn(place)} and ${nameIn(other.place)} under collector.key_rotation are the same key: leave one`,
      );
  // Before anything changes.
  for (const one of targets) await named(one, checkTarget(actions.config, one));
  const secret = await actions.reissue(key.id);
  actions.made.set(rotation.id, secret);
  const newHint = secret.slice(-4);
  return {
    to: { state: "stored", oldKeyId: key.id, newKeyId: key.id, newHint },
    said: `${key.id} (${key.name}) has a new secret (…${newHint}); the old one is good until the new one is everywhere`,
  };
}

async function handOut(
  { usage, settings: { place, targets }, actions }: WalkingOwnKey,
  { id, newKeyId, newHint }: Rotation,
): Promise<Outcome> {
  const secret = actions.made.get(id);
  const key = await findOwnKey(usage, place);
  if (secret === undefined || key?.id !== newKeyId || key.hint !== newHint)
    return {
      to: { state: "planned" },
      said:
        secret === undefined
          ? "the new secret was lost in a restart: another one is made"
          : "the key has another secret meanwhile: another one is made",
    };
  for (const one of targets) await named(one, writeSecret(actions.config, one, secret, AbortSignal.timeout(WRITE_MS)));
  actions.made.delete(id);
  return { to: { state: "switched" }, said: `written to ${targets.join(", ")}` };
}

async function beginGrace(
  { usage, settings, actions, nowMs }: WalkingOwnKey,
  { newKeyId, newHint }: Rotation,
): Promise<Outcome> {
  const key = (await readKeys(usage)).keys.find(({ id }) => id === newKeyId);
  if (!key || key.state === "revoked" || key.hint !== newHint)
    return { to: { state: "revoked" }, said: "the key is revoked, or has another secret meanwhile: no grace begins" };
  const untilMs = nowMs + settings.graceMs;
  await actions.endOldSecrets(key.id, untilMs);
  return {
    to: { state: "draining" },
    said: `the old secret works until ${new Date(untilMs).toISOString().slice(0, 16).replace("T", " ")} UTC`,
  };
}

/** Since when a key has its secret, and how that ends; undefined: there is no such key. */
export async function readOwnKeyAge(
  usage: UsageBooks,
  place: string,
): Promise<{ readonly sinceMs: number; readonly hint: string } | undefined> {
  const key = await findOwnKey(usage, place);
  if (!key || key.state === "revoked") return undefined;
  const sinceMs = (await readSecretAges(usage)).get(key.id);
  return sinceMs === undefined ? undefined : { sinceMs, hint: key.hint };
}

async function findOwnKey(usage: UsageBooks, place: string): Promise<Key | undefined> {
  const name = nameIn(place);
  const own = (await readKeys(usage)).keys.filter(({ kind }) => kind === "virtual");
  return own.find(({ id }) => id === name) ?? own.findLast((key) => key.name === name && key.state !== "revoked");
}

function nameIn(place: string): string {
  return place.slice(PLACE.length);
}

/** What fails says where. */
async function named(where: string, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    throw new Error(`${where}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
