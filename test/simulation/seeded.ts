// Whether a simulation would find anything: each of a list of mistakes is put into a copy of the ledger, and has to be
// found.
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import { temporaryFolder } from "../start-proxy.ts";
import type { Bug } from "./bugs.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Runs a simulation in a process of its own: its steps leave no time to anything else. `script`: under `test/`. */
export async function simulate(
  script: string,
  seed: number,
  steps: number,
  root = ROOT,
  ...more: readonly string[]
): Promise<{ code: number | null; said: string }> {
  const child = spawn(process.execPath, [join(root, "test", script), String(seed), String(steps), ...more]);
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, said };
}

/** The ledger with a mistake in it, and what a simulation needs of the tests. Returns its folder. */
export function copyWith({ file, is, becomes }: Bug, needed: readonly string[]): string {
  const folder = temporaryFolder();
  cpSync(join(ROOT, "ledger"), join(folder, "ledger"), { recursive: true });
  for (const name of needed) {
    mkdirSync(dirname(join(folder, "test", name)), { recursive: true });
    cpSync(join(ROOT, "test", name), join(folder, "test", name));
  }
  cpSync(join(ROOT, "package.json"), join(folder, "package.json"));
  symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
  const path = join(folder, "ledger", file);
  const text = readFileSync(path, "utf8");
  expect(text.split(is).length, `"${is}" stands once in ${file}`).toBe(2);
  writeFileSync(
    path,
    text.replace(is, () => becomes),
  );
  return folder;
}

/** What a simulation says that found something by what the product did: not because the copy does not run. */
export const FOUND = /^world \d+, step \d+: (?!.*(?:is not a function|is not defined|Cannot read))/;

/** Each stands in the ledger once, and says something else. */
export function expectInCode(bugs: readonly Bug[]): void {
  for (const { file, is, becomes, what } of bugs) {
    const text = readFileSync(join(ROOT, "ledger", file), "utf8");
    expect(text.split(is).length, what).toBe(2);
    expect(becomes).not.toBe(is);
  }
}
