// The writer's own booking against a model of what budgets promise: reserve, extend, settle, release, suspend, correct,
// crash, failed commits, clock steps, changes of caps, window rollovers, in random order. And whether that would find
// anything: each of a list of mistakes is put into a copy of the ledger, and has to be found.
import { describe, expect, it } from "vitest";
import { countOf, IS_CI, random, SEED } from "../seed.ts";
import { BUGS } from "../simulation/bugs.ts";
import { copyWith, expectInCode, FOUND, simulate } from "../simulation/seeded.ts";

const SCRIPT = "simulation/run.ts";
const STEPS = countOf(3_000, 150_000, 1_000_000);
/** Mistakes are looked for with one seed, so that each is found by the same steps every time. */
const BUG_SEED = 100;
const BUG_STEPS = 30_000;
const NEEDED = [
  "books.ts",
  "seed.ts",
  "seal-of.ts",
  "usage-event.ts",
  SCRIPT,
  "simulation/world.ts",
  "simulation/model.ts",
  "simulation/verify-memory.ts",
];

describe("booking and the model of it", () => {
  it(`agree over ${STEPS} steps`, { timeout: 1_800_000 }, async () => {
    console.log(`seed ${SEED}`);
    expect(await simulate(SCRIPT, SEED, STEPS), `seed ${SEED}`).toEqual({ code: 0, said: "" });
  });

  it("agree over the steps that are to find mistakes, as long as there is none", { timeout: 120_000 }, async () => {
    expect(await simulate(SCRIPT, BUG_SEED, IS_CI ? BUG_STEPS : 1_000)).toEqual({ code: 0, said: "" });
  });
});

describe("a mistake in the ledger is found:", () => {
  const next = random(SEED);
  const chosen = IS_CI ? BUGS : BUGS.filter(() => next() < 2 / BUGS.length);
  it.each(chosen)("$what", { timeout: 120_000 }, async (bug) => {
    expect(await simulate(SCRIPT, BUG_SEED, BUG_STEPS, copyWith(bug, NEEDED))).toEqual({
      code: 1,
      said: expect.stringMatching(FOUND) as string,
    });
  });

  it("the list is long enough, and each stands once in the code", () => {
    expect(BUGS.length).toBeGreaterThanOrEqual(25);
    expectInCode(BUGS);
  });
});
