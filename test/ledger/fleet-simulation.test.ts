// Nodes with the product's own booking, and a database between them, in random order: answers that get lost or come late,
// nodes that are cut off, given up, or die, clocks that differ, and a register that changes. What is booked is what went
// out, once; no cap is passed; who fits is refused only when others did not give back. And whether that would find
// anything: each of a list of mistakes is put into a copy of the ledger, and has to be found.
import { describe, expect, it } from "vitest";
import { countOf, IS_CI, random, SEED } from "../seed.ts";
import { FLEET_BUGS } from "../simulation/fleet/bugs.ts";
import { SQL_BUGS } from "../simulation/fleet/sql-bugs.ts";
import { hasPostgres } from "../postgres.ts";
import { copyWith, expectInCode, FOUND, simulate } from "../simulation/seeded.ts";

const SCRIPT = "simulation/fleet/run.ts";
const STEPS = countOf(6_000, 200_000, 1_000_000);
const ON_POSTGRES = "simulation/fleet/run-on-postgres.ts";
const POSTGRES_STEPS = countOf(250, 2_000, 10_000);
const BUG_SEED = 1;
const BUG_STEPS = 200_000;
const NEEDED = ["seed.ts", "usage-event.ts", SCRIPT, "simulation/fleet/world.ts", "simulation/fleet/database.ts"];

describe("a fleet of nodes", () => {
  it(`keeps its promises over ${STEPS} steps`, { timeout: 1_800_000 }, async () => {
    console.log(`seed ${SEED}`);
    expect(await simulate(SCRIPT, SEED, STEPS), `seed ${SEED}`).toEqual({ code: 0, said: "" });
  });

  it(
    "keeps them over the steps that are to find mistakes, as long as there is none",
    { timeout: 300_000 },
    async () => {
      expect(await simulate(SCRIPT, BUG_SEED, IS_CI ? BUG_STEPS : 2_000)).toEqual({ code: 0, said: "" });
    },
  );
});

describe("a mistake in the ledger is found:", () => {
  const next = random(SEED);
  const chosen = IS_CI ? FLEET_BUGS : FLEET_BUGS.filter(() => next() < 2 / FLEET_BUGS.length);
  it.each(chosen)("$what", { timeout: 300_000 }, async (bug) => {
    expect(await simulate(SCRIPT, BUG_SEED, BUG_STEPS, copyWith(bug, NEEDED))).toEqual({
      code: 1,
      said: expect.stringMatching(FOUND) as string,
    });
  });

  it("the list is long enough, and each stands once in the code", () => {
    expect(FLEET_BUGS.length).toBeGreaterThanOrEqual(30);
    expectInCode(FLEET_BUGS);
  });
});

describe.skipIf(!hasPostgres)("the same batches on a real Postgres", () => {
  it(`are answered the same over ${POSTGRES_STEPS} steps, and leave the same rows`, { timeout: 600_000 }, async () => {
    console.log(`seed ${SEED}`);
    expect(await simulate(ON_POSTGRES, SEED, POSTGRES_STEPS), `seed ${SEED}`).toEqual({ code: 0, said: "" });
  });

  const next = random(SEED + 1);
  const chosen = IS_CI ? SQL_BUGS : SQL_BUGS.filter(() => next() < 1 / SQL_BUGS.length);
  it.each(chosen)("a mistake in the schema is found: $what", { timeout: 180_000 }, async ({ what }) => {
    expect(await simulate(ON_POSTGRES, BUG_SEED, 3_000, undefined, what)).toEqual({
      code: 1,
      said: expect.stringMatching(FOUND) as string,
    });
  });

  it("each mistake stands once in the schema", () => {
    expect(SQL_BUGS.length).toBeGreaterThanOrEqual(10);
    expectInCode(SQL_BUGS);
  });
});
