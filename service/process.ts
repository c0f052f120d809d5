// The life of a program: start, say what is wrong in one sentence, stop in order when told to.
import { LedgerError } from "../ledger/books.ts";
import type { Log } from "./log.ts";
import { SettingsError } from "./settings.ts";
import { tidyUp } from "./tidy.ts";

const SAME_SIGNAL_MS = 500;

/** Runs `start`, and on SIGTERM (and SIGINT, unless a supervisor sends SIGTERM in its place) what it returned. A
 *  second signal ends at once. Expected failures are printed as a sentence and exit 1; others keep their stack. */
export async function runProgram(
  start: () => Promise<{ stop(): Promise<void>; log: Log }>,
  supervised: boolean,
): Promise<void> {
  let running: Awaited<ReturnType<typeof start>>;
  try {
    running = await start();
  } catch (error) {
    // Timers and connections of a half-made start would keep the process alive, and the reason unseen.
    process.stderr.write(`${sentence(error)}\n`, () => process.exit(1));
    return;
  }
  tidyUp();
  let stoppingSinceMs: number | undefined;
  const stop = (signal: string): void => {
    // A terminal and a launcher may both pass on the same key press; a second one is impatience.
    if (stoppingSinceMs !== undefined && Date.now() - stoppingSinceMs > SAME_SIGNAL_MS) process.exit(130);
    if (stoppingSinceMs !== undefined) return;
    stoppingSinceMs = Date.now();
    running.log.info({ signal }, "stopping");
    running.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        running.log.error({ err: error }, "stop failed");
        process.exit(1);
      },
    );
  };
  process.on("SIGTERM", () => stop("SIGTERM"));
  process.on("SIGINT", () => {
    if (!supervised) stop("SIGINT");
  });
  // The supervisor is gone without a word: nobody would stop us any more.
  if (supervised) process.on("disconnect", () => stop("supervisor is gone"));
  process.on("unhandledRejection", (error) => {
    // An invariant is broken: going on could book wrong figures. The books recover at the next start.
    running.log.fatal({ err: error }, "unhandled rejection");
    process.exit(1);
  });
}

/** An error as an operator reads it. */
function sentence(error: unknown): string {
  if (error instanceof SettingsError || error instanceof LedgerError) return error.message;
  if (error instanceof Error && error.cause !== undefined) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
