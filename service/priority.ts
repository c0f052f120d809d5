// Work that nobody waits for gives way: the proxy's requests come first on a machine that both share.
import { constants, setPriority } from "node:os";

/** Lowers the priority of this process, for good: somewhat where others wait for its figures, to the lowest for a
 *  report. Where the system does not allow it, nothing happens. */
export function giveWay(to: "below normal" | "lowest"): void {
  const { PRIORITY_BELOW_NORMAL, PRIORITY_LOW } = constants.priority;
  try {
    setPriority(to === "lowest" ? PRIORITY_LOW : PRIORITY_BELOW_NORMAL);
  } catch {
    // Some containers forbid it; the work is done all the same.
  }
}
