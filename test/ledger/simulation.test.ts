// The writer's own booking against a model of what budgets promise: reserve, extend, settle, release, suspend, correct,
// crash, failed commits, clock steps, changes of caps, window rollovers, in random order. And whether that would find
// anything: each of a list of mistakes is put into a copy of the ledger, and has to be found.
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { IS_CI, random, SEED } from "../seed.ts";
import { BUGS } from "../simulation/bugs.ts";
import type { Bug } from "../simulation/bugs.ts";
import { temporaryFolder } from "../start-proxy.ts";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const STEPS = IS_CI ? 1_000_000 : 3_000;
/** Mistakes are looked for with one seed, so that each is found by the same steps every time. */
const BUG_SEED = 1;
const BUG_STEPS = 30_000;
const NEEDED = [
  "books.ts",
  "seed.ts",
  "seal-of.ts",
  "usage-event.ts",
  "simulation/run.ts",
  "simulation/world.ts",
  "simulation/model.ts",
  "simulation/verify-memory.ts",
];

/** Steps in a process of their own: they leave no time to anything else. */
async function simulate(root: string, seed: number, steps: number): Promise<{ code: number | null; said: string }> {
  const child = spawn(process.execPath, [join(root, "test/simulation/run.ts"), String(seed), String(steps)]);
  let said = "";
  child.stdout.on("data", (chunk: Buffer) => (said += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { code, said };
}

/** The ledger with a mistake in it. */
function copyWith({ file, is, becomes }: Bug): string {
  const folder = temporaryFolder();
  mkdirSync(join(folder, "test/simulation"), { recursive: true });
  cpSync(join(ROOT, "ledger"), join(folder, "ledger"), { recursive: true });
  for (const name of NEEDED) cpSync(join(ROOT, "test", name), join(folder, "test", name));
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

describe("booking and the model of it", () => {
  it(`agree over ${STEPS} steps`, { timeout: 1_800_000 }, async () => {
    console.log(`seed ${SEED}`);
    expect(await simulate(ROOT, SEED, STEPS), `seed ${SEED}`).toEqual({ code: 0, said: "" });
  });

  it("agree over the steps that are to find mistakes, as long as there is none", { timeout: 120_000 }, async () => {
    expect(await simulate(ROOT, BUG_SEED, IS_CI ? BUG_STEPS : 1_000)).toEqual({ code: 0, said: "" });
  });
});

describe("a mistake in the ledger is found:", () => {
  const next = random(SEED);
  const chosen = IS_CI ? BUGS : BUGS.filter(() => next() < 2 / BUGS.length);
  it.each(chosen)("$what", { timeout: 120_000 }, async (bug) => {
    const { code, said } = await simulate(copyWith(bug), BUG_SEED, BUG_STEPS);
    expect(code, said).toBe(1);
    // Found by what the product said, not because the copy does not run.
    expect(said).toMatch(/^world \d+, step \d+: /);
    expect(said).not.toMatch(/is not a function|is not defined|Cannot read/);
  });

  it("the list is long enough, and each stands once in the code", () => {
    expect(BUGS.length).toBeGreaterThanOrEqual(25);
    for (const { file, is, what } of BUGS)
      expect(readFileSync(join(ROOT, "ledger", file), "utf8").split(is).length, what).toBe(2);
  });
});
