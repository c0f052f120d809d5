// Work that nobody waits for gives way: the proxy's requests come first on a machine that both share.
import { constants, setPriority } from "node:os";

/** Lowers the priority of this process, for good. Where the system does not allow it, nothing happens. */
export function giveWay(): void {
  try {
    setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
  } catch {
    // Some containers forbid it; the work is done all the same.
  }
}
