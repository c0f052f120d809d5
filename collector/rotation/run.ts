// Carries rotations out: whatever the books say goes on, and what is due begins. One program does so, the collector that has
// the books.
import { setTimeout as sleep } from "node:timers/promises";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import {
  beginRotation,
  ENDS,
  moveRotation,
  noteAudited,
  noteWaiting,
  readHeldCredentials,
  readRotations,
  readUnaudited,
} from "../../ledger/billing/rotations.ts";
import type { Rotation, RotationStep } from "../../ledger/billing/rotations.ts";
import { ChangeRefused } from "../../ledger/usage/change-refused.ts";
import type { Log } from "../../service/log.ts";
import { trouble } from "./outcome.ts";
import type { Outcome } from "./outcome.ts";
import { endUnnamed, isOwnKey, readOwnKeyAge, walkOwnKeyOn } from "./own-keys.ts";
import type { OwnKeyActions, OwnKeyRotation } from "./own-keys.ts";
import type { RotationSettings } from "./settings.ts";
import { PATIENCE, walkOn } from "./walk.ts";
import type { Patience } from "./walk.ts";

export type Rotating = {
  readonly books: { readonly usage: UsageBooks; readonly billing: BillingBooks };
  readonly rotations: readonly RotationSettings[];
  /** Keymeter's own keys. */
  readonly ownKeys: { readonly rotations: readonly OwnKeyRotation[]; readonly actions: OwnKeyActions };
  /** Puts a step into the audit of whoever owns it. Rejects where that cannot be done now. */
  readonly audit: (step: RotationStep, rotation: Rotation) => Promise<void>;
  readonly log: Pick<Log, "info" | "warn" | "error">;
  readonly now?: (() => number) | undefined;
  readonly patience?: Patience | undefined;
  /** When each that only waits was looked at last. */
  readonly lookedAt?: Map<string, number> | undefined;
};

/** No rotation takes more steps than these at once. */
const MOST_STEPS = 20;
const STEP_MS = 120_000;

/** Begins what is due, takes every step that can be taken, and says in the books what each rotation waits for. Never
 *  rejects for what a provider or a store does. */
export async function rotateOn(rotating: Rotating): Promise<void> {
  const { books, rotations, ownKeys, log, now = Date.now } = rotating;
  for (const settings of rotations)
    if (settings.maker.create) await beginDue(rotating, settings.place, await readDue(books.usage, settings), now());
  for (const { place, everyMs } of ownKeys.rotations) {
    const age = await readOwnKeyAge(books.usage, place);
    await beginDue(rotating, place, age && age.sinceMs + everyMs, now());
  }
  for (const open of await readRotations(books.billing, { isOpen: true })) {
    if (isPaused(open, rotating, now())) continue;
    let rotation = open;
    for (let left = MOST_STEPS; left > 0; left--) {
      const outcome = await stepOf(rotation, rotating);
      if (!("to" in outcome)) {
        await noteWait(rotation, outcome, rotating);
        break;
      }
      try {
        rotation = await moveRotation(books.billing, rotation, outcome.to, outcome.said, now());
      } catch (error) {
        // Somebody told it something else meanwhile.
        if (error instanceof ChangeRefused) break;
        throw error;
      }
      const { id, place, state } = rotation;
      log[state === "failed" ? "error" : "info"]({ rotation: id, place, state }, `rotation: ${outcome.said}`);
      if ((ENDS as readonly string[]).includes(state)) break;
    }
  }
  await auditSteps(rotating);
}

/** Those that wait for hours are not looked at every few seconds: that costs calls and reading. */
const PATIENT: ReadonlySet<string> = new Set(["draining", "disabled", "by_hand"]);
const LOOK_MS = 60_000;

function isPaused(rotation: Rotation, { lookedAt }: Rotating, nowMs: number): boolean {
  const { id, state, waitsFor, isLeaked } = rotation;
  // Of an own key another try may make another secret.
  if (!lookedAt || isLeaked || waitsFor === null || !(PATIENT.has(state) || isOwnKey(rotation))) return false;
  if (nowMs - (lookedAt.get(id) ?? 0) < LOOK_MS) return true;
  lookedAt.set(id, nowMs);
  return false;
}

async function stepOf(
  rotation: Rotation,
  { books, rotations, ownKeys, now = Date.now, patience = PATIENCE }: Rotating,
): Promise<Outcome> {
  const isOfIt = ({ place }: { readonly place: string }): boolean => place === rotation.place;
  const [settings, ownKey] = [rotations.find(isOfIt), ownKeys.rotations.find(isOfIt)];
  try {
    if (settings) {
      const signal = AbortSignal.timeout(STEP_MS);
      return await walkOn(rotation, { books, settings, nowMs: now(), patience, signal });
    }
    if (ownKey) {
      const { rotations: all, actions } = ownKeys;
      const walking = { usage: books.usage, settings: ownKey, all, actions, nowMs: now() };
      return await inTime(walkOwnKeyOn(rotation, walking));
    }
    if (isOwnKey(rotation)) return endUnnamed(rotation);
    return { waitsFor: `the settings have no rotation of ${rotation.place} any more: put it back`, isTrouble: true };
  } catch (error) {
    return { waitsFor: error instanceof Error ? error.message : "something failed", isTrouble: true };
  }
}

/** A proxy that hangs holds up no other rotation. */
async function inTime(work: Promise<Outcome>): Promise<Outcome> {
  const over = new AbortController();
  const late = sleep(STEP_MS, undefined, { signal: over.signal, ref: false }).then((): Outcome =>
    trouble("the proxy, or a place that the secret is written to, does not answer in time"),
  );
  late.catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    over.abort();
    work.catch(() => undefined);
  }
}

async function noteWait(
  rotation: Rotation,
  { waitsFor, isTrouble }: Extract<Outcome, { readonly waitsFor: string }>,
  { books, log }: Rotating,
): Promise<void> {
  if (rotation.waitsFor === waitsFor && rotation.isTrouble === isTrouble) return;
  await noteWaiting(books.billing, { ...rotation, waitsFor, isTrouble });
  if (isTrouble && !rotation.isTrouble)
    log.warn({ rotation: rotation.id, place: rotation.place, state: rotation.state }, `rotation waits: ${waitsFor}`);
}

/** A schedule begins what a program can make; of the rest people are reminded (`readDue`). */
async function beginDue({ books }: Rotating, place: string, dueMs: number | undefined, nowMs: number): Promise<void> {
  if (dueMs === undefined || dueMs > nowMs) return;
  const [last] = await readRotations(books.billing, { place });
  // One that went on or failed of late is not begun again at once.
  if (last && (last.state === "failed" || last.state === "back") && nowMs - last.enteredAtMs < RETRY_MS) return;
  if ((await readRotations(books.billing, { place, isOpen: true })).length > 0) return;
  await beginRotation(
    books.billing,
    { place, startedBy: "schedule", why: "its age was reached", isLeaked: false },
    nowMs,
  );
}

const RETRY_MS = 24 * 3_600_000;

/** When a credential is due, by the time since proxies use it; undefined: settings name no age, or none was used. */
export async function readDue(usage: UsageBooks, { place, everyMs }: RotationSettings): Promise<number | undefined> {
  if (everyMs === undefined) return undefined;
  const [held] = await readHeldCredentials(usage, place);
  return held && held.sinceMs + everyMs;
}

/** Each step once; what cannot be written now is written later. */
async function auditSteps({ books, audit, log }: Rotating): Promise<void> {
  const steps = await readUnaudited(books.billing);
  if (steps.length === 0) return;
  const all = new Map((await readRotations(books.billing)).map((one) => [one.id, one]));
  for (const step of steps) {
    const rotation = all.get(step.rotationId);
    if (!rotation) continue;
    try {
      await audit(step, rotation);
    } catch (error) {
      log.warn({ err: error }, "steps of a rotation are not in the audit yet; it is tried again");
      return;
    }
    await noteAudited(books.billing, step);
  }
}
