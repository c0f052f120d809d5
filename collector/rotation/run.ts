// Carries rotations out: whatever the books say goes on, and what is due begins. One program does so, the collector that has
// the books.
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import {
  beginRotation,
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
import type { RotationSettings } from "./settings.ts";
import { PATIENCE, walkOn } from "./walk.ts";
import type { Outcome, Patience } from "./walk.ts";

export type Rotating = {
  readonly books: { readonly usage: UsageBooks; readonly billing: BillingBooks };
  readonly rotations: readonly RotationSettings[];
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
  const { books, rotations, log, now = Date.now } = rotating;
  for (const settings of rotations) await beginDue(rotating, settings, now());
  for (const open of await readRotations(books.billing, { isOpen: true })) {
    const settings = rotations.find(({ place }) => place === open.place);
    if (isPaused(open, rotating, now())) continue;
    let rotation = open;
    for (let left = MOST_STEPS; left > 0; left--) {
      const outcome = await stepOf(rotation, settings, rotating);
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
    }
  }
  await auditSteps(rotating);
}

/** Those that wait for hours are not looked at every few seconds: that costs calls and reading. */
const PATIENT: ReadonlySet<string> = new Set(["draining", "disabled", "by_hand"]);
const LOOK_MS = 60_000;

function isPaused({ id, state, waitsFor, isLeaked }: Rotation, { lookedAt }: Rotating, nowMs: number): boolean {
  if (!lookedAt || isLeaked || waitsFor === null || !PATIENT.has(state)) return false;
  if (nowMs - (lookedAt.get(id) ?? 0) < LOOK_MS) return true;
  lookedAt.set(id, nowMs);
  return false;
}

async function stepOf(
  rotation: Rotation,
  settings: RotationSettings | undefined,
  { books, now = Date.now, patience = PATIENCE }: Rotating,
): Promise<Outcome> {
  if (!settings)
    return { waitsFor: `collector.rotation has no ${rotation.place} any more: put it back`, isTrouble: true };
  try {
    const signal = AbortSignal.timeout(STEP_MS);
    return await walkOn(rotation, { books, settings, nowMs: now(), patience, signal });
  } catch (error) {
    return { waitsFor: error instanceof Error ? error.message : "something failed", isTrouble: true };
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
async function beginDue({ books }: Rotating, settings: RotationSettings, nowMs: number): Promise<void> {
  const { place, maker } = settings;
  if (!maker.create) return;
  const dueMs = await readDue(books.usage, settings);
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
