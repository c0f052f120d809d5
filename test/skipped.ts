// What a run cannot test here, and why: said at its end, one line each. A test that cannot run counts as skipped, never
// as passed.
import { appendFileSync } from "node:fs";

/** Notes the reason, and gives it back for `skip(...)` of a test. */
export function noteSkipped(why: string): string {
  const file = process.env["KEYMETER_TEST_SKIPPED"];
  if (file !== undefined) appendFileSync(file, `SKIPPED: ${why}\n`);
  return why;
}
