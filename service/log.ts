// Logs: one JSON object a line on stderr, from explicit fields. Never a request, a header list or a client's error as a
// whole: what is not named is not logged.
import { pino } from "pino";
import type { Logger } from "pino";

export type Log = Logger;

/** A program's log. `level` "silent" for tests. */
export function createLog(program: string, level: string): Log {
  return pino(
    { level, base: { program }, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  );
}
