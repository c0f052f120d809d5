// What a run cannot test here, and why: said at its end, one line each. A test that cannot run counts as skipped, never
// as passed.
import { appendFileSync } from "node:fs";
import { IS_CI, random, SEED } from "./seed.ts";

/** Notes the reason, and gives it back for `skip(...)` of a test. */
export function noteSkipped(why: string): string {
  const file = process.env["KEYMETER_TEST_SKIPPED"];
  if (file !== undefined) appendFileSync(file, `SKIPPED: ${why}\n`);
  return why;
}

/** Whether costly tests run now: always where the full counts are asked for, else in such a share of runs, by the seed.
 *  `what` names them where they are skipped. */
export function isChosen(share: number, what: string): boolean {
  const isIt = IS_CI || random(SEED)() < share;
  if (!isIt)
    noteSkipped(`${what}, with seed ${SEED}: runs with CI=true, and in ${Math.round(share * 100)} % of the other runs`);
  return isIt;
}
