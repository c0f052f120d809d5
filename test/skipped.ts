// What a run cannot test here, and why: said at its end, one line each. A test that cannot run counts as skipped, never
// as passed.
import { appendFileSync } from "node:fs";
import { IS_CI } from "./seed.ts";

/** Notes the reason, and gives it back for `skip(...)` of a test. */
export function noteSkipped(why: string): string {
  const file = process.env["KEYMETER_TEST_SKIPPED"];
  if (file !== undefined) appendFileSync(file, `SKIPPED: ${why}\n`);
  return why;
}

/** Costly files take turns, so that a run with small counts has an end: which one's it is. */
const TURN = Number(process.env["KEYMETER_TURN"] ?? 0);

/** Whether costly tests run now: always where the full counts are asked for, else in one of so many runs, by turns. `what`
 *  names them where they are skipped. */
export function isTurnOf(turn: number, of: number, what: string): boolean {
  const isIt = IS_CI || TURN % of === turn;
  if (!isIt) noteSkipped(`${what}: runs with CI=true, and in one of ${of} other runs (KEYMETER_TURN=${turn})`);
  return isIt;
}
