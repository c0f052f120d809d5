// What comes of a step of a rotation.
import type { Rotation, RotationState } from "../../ledger/billing/rotations.ts";

/** Another state, or a reason to wait. `isTrouble`: somebody should look. */
export type Outcome =
  | { readonly to: Partial<Omit<Rotation, "id">> & { readonly state: RotationState }; readonly said: string }
  | { readonly waitsFor: string; readonly isTrouble: boolean };

/** It waits, and nobody has to look. */
export function wait(waitsFor: string): Outcome {
  return { waitsFor, isTrouble: false };
}

/** It waits, and somebody should look. */
export function trouble(waitsFor: string): Outcome {
  return { waitsFor, isTrouble: true };
}

/** A time that is left, rounded up: "12 min", "3 h". */
export function inWords(ms: number): string {
  const minutes = Math.ceil(ms / 60_000);
  return minutes < 120 ? `${minutes} min` : `${Math.ceil(minutes / 60)} h`;
}
