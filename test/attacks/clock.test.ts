// The clock that the books go by, minute by minute: what is a jump, what is a correction, and who is believed.
import { describe, expect, it } from "vitest";
import { createClock } from "../../ledger/usage/clock.ts";
import type { Clock } from "../../ledger/usage/clock.ts";

const START = Date.parse("2026-11-28T12:00:00Z");
const LOOK_MS = 5_000;
const DAY_MS = 24 * 3_600_000;

/** A machine whose wall clock can be set. `run` lets time go by, looking as often as the writer does. */
function machine(newestMs = 0): {
  readonly clock: Clock;
  set(ms: number): void;
  wall(): number;
  run(ms: number): void;
  sleep(ms: number): void;
} {
  let wall = START;
  let sinceBoot = 86_400_000;
  const clock = createClock(
    () => wall,
    () => sinceBoot,
    newestMs,
  );
  const sleep = (ms: number): void => {
    wall += ms;
    sinceBoot += ms;
  };
  return {
    clock,
    set: (ms) => (wall += ms),
    wall: () => wall,
    sleep,
    run(ms) {
      for (let gone = 0; gone < ms; gone += LOOK_MS) {
        sleep(Math.min(LOOK_MS, ms - gone));
        clock.look();
      }
    },
  };
}

describe("fault 12: the clock", () => {
  it("is the wall clock while all is well, also after a sleep of days and after slow corrections", () => {
    const { clock, run, set, wall, sleep } = machine();
    run(60_000);
    sleep(9 * DAY_MS);
    expect([clock.trouble(), clock.now()]).toEqual([undefined, wall()]);
    // An hour in all, by two seconds a minute: a time server's work.
    for (let i = 0; i < 1_800; i++) {
      run(LOOK_MS);
      set(2_000);
      expect(clock.trouble()).toBeUndefined();
    }
    expect(clock.now()).toBe(wall());
  });

  it.each([40 * DAY_MS, -40 * DAY_MS, 120_001, -120_001])("goes on as before after a jump of %i ms", (jump) => {
    const { clock, run, set, wall } = machine();
    run(60_000);
    set(jump);
    expect(clock.trouble()).toContain(`jumped by ${Math.round(jump / 1000)} s`);
    expect(clock.trouble()).toContain("keymeter clock accept");
    expect(clock.now()).toBe(wall() - jump);
    run(10_000);
    expect(clock.now()).toBe(wall() - jump);
    set(-jump);
    clock.look();
    expect([clock.trouble(), clock.now()]).toEqual([undefined, wall()]);
  });

  it.each([120_000, -120_000])("takes a step of %i ms as a correction", (step) => {
    const { clock, set, wall } = machine();
    set(step);
    expect([clock.trouble(), clock.now()]).toEqual([undefined, wall()]);
  });

  it("believes a jump that has stayed for a minute and that a provider's clock agrees with, not sooner", () => {
    const { clock, run, set, wall } = machine();
    set(DAY_MS);
    run(30_000);
    clock.heard(wall() + 1_500);
    run(30_000);
    expect(clock.trouble()).toBeDefined();
    run(LOOK_MS);
    expect([clock.trouble(), clock.now()]).toEqual([undefined, wall()]);
  });

  it("believes no jump that no provider agrees with, however long it stays", () => {
    const { clock, run, set, wall } = machine();
    set(DAY_MS);
    run(3_600_000);
    expect(clock.trouble()).toBeDefined();
    // Their clock says that it was right before, or nothing that can be read.
    for (const said of [wall() - DAY_MS, wall() + DAY_MS, Number.NaN, 0]) clock.heard(said);
    run(3_600_000);
    expect(clock.trouble()).toBeDefined();
    clock.heard(wall());
    run(LOOK_MS);
    expect(clock.trouble()).toBeUndefined();
  });

  it("asks for a word that came while it was in doubt, and in the last minutes", () => {
    const first = machine();
    first.clock.heard(first.wall());
    first.set(DAY_MS);
    first.run(120_000);
    expect(first.clock.trouble(), "heard before the jump").toBeDefined();
    const second = machine();
    second.set(DAY_MS);
    second.clock.heard(second.wall());
    second.sleep(400_000);
    second.run(120_000);
    expect(second.clock.trouble(), "heard before a sleep").toBeDefined();
    second.clock.heard(second.wall());
    second.run(LOOK_MS);
    expect(second.clock.trouble()).toBeUndefined();
  });

  it("takes up the waiting anew where a second jump follows when the first is over", () => {
    const { clock, run, set, wall } = machine();
    set(DAY_MS);
    run(50_000);
    set(-DAY_MS);
    run(LOOK_MS);
    expect(clock.trouble()).toBeUndefined();
    set(DAY_MS);
    clock.heard(wall());
    run(30_000);
    expect(clock.trouble()).toBeDefined();
    run(60_000);
    expect(clock.trouble()).toBeUndefined();
  });

  it("is in doubt while the newest event lies ahead of it, and no longer when it has caught up or was accepted", () => {
    const first = machine(START + 10 * 60_000);
    expect(first.clock.trouble()).toContain("2026-11-28T12:10:00.000Z, 600 s ahead");
    first.run(9 * 60_000);
    expect(first.clock.trouble()).toBeUndefined();
    const second = machine(START + 40 * DAY_MS);
    second.run(DAY_MS);
    expect(second.clock.trouble()).toContain("keymeter clock accept");
    second.clock.accept();
    expect(second.clock.trouble()).toBeUndefined();
    expect(second.clock.now()).toBe(second.wall());
  });

  it("is right at once when it is accepted, and a later jump is one again", () => {
    const { clock, set, wall } = machine();
    set(-40 * DAY_MS);
    expect(clock.trouble()).toBeDefined();
    clock.accept();
    expect([clock.trouble(), clock.now()]).toEqual([undefined, wall()]);
    set(40 * DAY_MS);
    expect(clock.trouble()).toBeDefined();
  });
});
