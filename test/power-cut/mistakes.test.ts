// Whether the tests of power cuts would find anything: each of a list of mistakes is put into a copy of the product, and
// has to be found there.
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { IS_CI } from "../seed.ts";
import type { Bug } from "../simulation/bugs.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { MISTAKES } from "./mistakes.ts";
import { canRecord } from "./recorder.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const PROGRAM = ["alerts", "charts", "collector", "command", "dashboards", "ledger", "proxy", "service"];
/** The quickest first: the first whose assertion finds it is enough. */
const FINDERS = ["log-sync.test.ts", "ahead.test.ts", "power-cut.test.ts"];

function copyWith({ file, is, becomes }: Bug): string {
  const folder = temporaryFolder();
  for (const name of PROGRAM) cpSync(join(ROOT, name), join(folder, name), { recursive: true });
  for (const name of ["keymeter.ts", "package.json", "start.mjs", "vitest.config.ts"])
    cpSync(join(ROOT, name), join(folder, name));
  mkdirSync(join(folder, "test"));
  for (const name of ["fake", "power-cut", "simulation"])
    cpSync(join(ROOT, "test", name), join(folder, "test", name), { recursive: true });
  for (const name of readdirSync(join(ROOT, "test")))
    if (statSync(join(ROOT, "test", name)).isFile()) cpSync(join(ROOT, "test", name), join(folder, "test", name));
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  const path = join(folder, file);
  writeFileSync(
    path,
    readFileSync(path, "utf8").replace(is, () => becomes),
  );
  return folder;
}

async function find(mistake: Bug): Promise<{ readonly code: number | null; readonly said: string }> {
  const cwd = copyWith(mistake);
  let found = { code: 0 as number | null, said: "" };
  for (const name of FINDERS)
    if (!found.said.includes("AssertionError")) found = await run(cwd, join("test/power-cut", name));
  return found;
}

async function run(cwd: string, file: string): Promise<{ readonly code: number | null; readonly said: string }> {
  // The small counts, which everybody runs, have to find it.
  const env = { ...process.env, CI: "false", KEYMETER_TEST_REPORT: undefined };
  const child = spawn(process.execPath, [join(ROOT, "node_modules/vitest/vitest.mjs"), "run", file], { cwd, env });
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, said };
}

describe.skipIf(!canRecord)("a mistake between commit, disk, provider and client is found:", () => {
  it.each(IS_CI ? MISTAKES : [])("$what", { timeout: 120_000 }, async (mistake) => {
    const { code, said } = await find(mistake);
    expect(code, said).toBe(1);
    // Found by what the product did, not because the copy does not run.
    expect(said).toContain("AssertionError");
    expect(said).not.toMatch(/is not a function|is not defined|Cannot find/);
  });

  it("each stands once in the code", () => {
    for (const { file, is, what } of MISTAKES)
      expect(readFileSync(join(ROOT, file), "utf8").split(is).length, what).toBe(2);
  });
});
