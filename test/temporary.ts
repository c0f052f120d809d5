// Folders of a test run lie in one folder, which goes when the run ends: a ledger takes 16 MB at its start. What was
// skipped is said then.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OTHER_TURNS } from "./turns.ts";

export default function setup(): () => void {
  const folder = mkdtempSync(join(tmpdir(), "keymeter-test-"));
  process.env["TMPDIR"] = folder;
  const skipped = join(folder, "skipped");
  process.env["KEYMETER_TEST_SKIPPED"] = skipped;
  return () => {
    const others = OTHER_TURNS.map(({ why }) => `SKIPPED: ${why}`);
    const lines = [...others, ...(existsSync(skipped) ? readFileSync(skipped, "utf8").trim().split("\n") : [])];
    for (const line of [...new Set(lines)].toSorted()) process.stderr.write(`${line}\n`);
    rmSync(folder, { recursive: true, force: true });
  };
}
