// Who says something, as the books keep it.
import { userInfo } from "node:os";
import { findAsker } from "./asker.ts";

/** Who asked from elsewhere; else who is signed in at this machine. */
export function whoSays(): string {
  const asker = findAsker();
  if (asker) return asker.name;
  try {
    return userInfo().username;
  } catch {
    // A container may run as a user that has no name.
    return `user ${process.getuid?.() ?? "unknown"}`;
  }
}
