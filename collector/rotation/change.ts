// What somebody can tell a rotation: to begin, to take a key that was made by hand, to go back, that a hand's step is done.
// It is written into the books; the collector that runs carries it out.
import { beginRotation, moveRotation, readRotations } from "../../ledger/billing/rotations.ts";
import type { Rotation } from "../../ledger/billing/rotations.ts";
import { ChangeRefused } from "../../ledger/usage/change-refused.ts";
import type { CollectorBooks } from "../compare.ts";
import { isOwnKey } from "./own-keys.ts";

export type RotationTask =
  | {
      readonly type: "rotate";
      readonly place: string;
      readonly by: string;
      readonly why: string;
      readonly isLeaked: boolean;
    }
  /** A key that somebody made is about to be put into the store. */
  | {
      readonly type: "accept";
      readonly place: string;
      readonly by: string;
      readonly hint: string;
      readonly print: string;
      readonly isLeaked: boolean;
    }
  | { readonly type: "rotateBack" | "rotateDone"; readonly place: string; readonly by: string };

const MORE = "`keymeter rotate status` says how it goes.";

/** Returns what was done, a sentence each. Rejects with ChangeRefused. */
export async function changeRotation(
  { billing }: CollectorBooks,
  task: RotationTask,
  nowMs: number,
): Promise<string[]> {
  const { place, by } = task;
  const [open] = await readRotations(billing, { place, isOpen: true });
  switch (task.type) {
    case "rotate": {
      const { why, isLeaked } = task;
      if (open && isLeaked && !open.isLeaked) {
        await moveRotation(
          billing,
          open,
          { state: open.state, isLeaked },
          `${by}: it leaked, nothing is waited for`,
          nowMs,
        );
        return [`${open.id}: the rotation of ${place} that goes on waits for nothing any more. ${MORE}`];
      }
      const { id } = await beginRotation(billing, { place, startedBy: by, why, isLeaked }, nowMs);
      return [`${id}: a rotation of ${place} has begun; the collector carries it out while it runs. ${MORE}`];
    }
    case "accept": {
      const { hint: newHint, print: newPrint, isLeaked } = task;
      const begun = open ?? (await beginRotation(billing, { place, startedBy: by, why: "", isLeaked }, nowMs));
      if (begun.state !== "planned" && !(begun.state === "stored" && begun.newKeyId === null))
        throw new ChangeRefused(
          `the rotation of ${place} is ${begun.state}: its new key is known already. \`keymeter rotate back ${place}\` ends it`,
        );
      await moveRotation(
        billing,
        begun,
        { state: "stored", newHint, newPrint, isLeaked: begun.isLeaked || isLeaked },
        `${by} hands in a key (…${newHint})`,
        nowMs,
      );
      return [`${begun.id}: the new key of ${place} (…${newHint}) is tried next. ${MORE}`];
    }
    case "rotateBack": {
      if (open?.state === "revoking" || open?.state === "returning")
        throw new ChangeRefused(`the rotation of ${place} is ${open.state}: there is no way back any more`);
      const { id } = await move(open, { state: "going_back" }, `${by} goes back to the old key`);
      return [`${id}: the old key of ${place} will be current again. ${MORE}`];
    }
    case "rotateDone": {
      if (open && isOwnKey(open)) {
        const { id } = await move(open, { state: "failed" }, `${by} ends it; the old secret goes on`);
        return [
          `${id}: it is ended. The old secret of ${place} goes on; \`keymeter keys rotate\` gives it another one.`,
        ];
      }
      if (open && !["by_hand", "draining", "disabled"].includes(open.state))
        throw new ChangeRefused(`the rotation of ${place} is ${open.state}: the old key is still needed`);
      const { id } = await move(open, { state: "revoking" }, `${by} says that the old key is deleted`);
      return [`${id}: the old key of ${place} is taken for deleted. ${MORE}`];
    }
  }

  async function move(
    rotation: Rotation | undefined,
    to: Pick<Rotation, "state">,
    said: string,
  ): Promise<Pick<Rotation, "id">> {
    if (!rotation) throw new ChangeRefused(`no rotation of ${place} goes on; \`keymeter rotate status\` lists them`);
    if (rotation.state === to.state) throw new ChangeRefused(`the rotation of ${place} is ${to.state} already`);
    return moveRotation(billing, rotation, to, said, nowMs);
  }
}
