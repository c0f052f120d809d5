// Runs a verb at a Keymeter elsewhere, where somebody said so or has signed in.
import { commandEnvironment } from "../config.ts";
import type { Given } from "./split.ts";

/** Whether it ran there; its exit code is the process's then. Rejects with UsageError or RemoteError. */
export async function isDoneElsewhere(given: Given, words: readonly string[]): Promise<boolean> {
  const { whereOf } = await import("./where.ts");
  const where = whereOf(given, words[0] ?? "");
  if (!where) return false;
  // Who said nothing of another place should see that it is one.
  const isImplied = where.profile !== undefined && given["--profile"] === undefined;
  if (isImplied && commandEnvironment()["KEYMETER_PROFILE"] === undefined && process.stderr.isTTY)
    process.stderr.write(`at ${where.server.href} (profile ${where.profile})\n`);
  const { runThere } = await import("./client.ts");
  process.exitCode = await runThere(where, words);
  return true;
}
