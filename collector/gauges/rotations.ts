// Gauges of provider credentials and keys that Keymeter replaces: when somebody should hear of one's age, and which rotation needs
// help.
import { readRotations } from "../../ledger/billing/rotations.ts";
import { DAY_MS } from "../../ledger/windows.ts";
import type { CollectorBooks } from "../compare.ts";
import { readOwnKeyAge } from "../rotation/own-keys.ts";
import { readDue } from "../rotation/run.ts";
import type { GaugeSettings, MakeGauge, Refresh } from "./gauge.ts";

/** So long before its age is reached a key that is made by hand is asked for. */
const AHEAD_MS = 7 * DAY_MS;
/** So long after it one that a program makes should be there. */
const AFTER_MS = DAY_MS;

export function rotationGauges(make: MakeGauge, { usage, billing }: CollectorBooks, settings: GaugeSettings): Refresh {
  const overdue = make(
    "keymeter_credential_overdue_seconds",
    "Since when somebody should hear of a provider credential's age: a week before it where the new key is made by hand, a day after it elsewhere; below 0: not yet.",
    ["credential"],
  );
  const trouble = make(
    "keymeter_rotation_trouble",
    "1 where a rotation of a provider credential, or of a Keymeter key (key:NAME), waits for what somebody should look at.",
    ["credential", "state"],
  );
  return async ({ nowMs }) => {
    for (const one of [overdue, trouble]) one.reset();
    for (const rotation of settings.rotations) {
      const dueMs = await readDue(usage, rotation);
      if (dueMs === undefined) continue;
      const whenMs = rotation.maker.create ? dueMs + AFTER_MS : dueMs - AHEAD_MS;
      overdue.set({ credential: rotation.place }, (nowMs - whenMs) / 1000);
    }
    for (const { place } of settings.ownKeyRotations)
      if (!(await readOwnKeyAge(usage, place))) trouble.set({ credential: place, state: "no such key" }, 1);
    for (const { place, state, isTrouble } of await readRotations(billing, { isOpen: true }))
      trouble.set({ credential: place, state }, isTrouble ? 1 : 0);
  };
}
