import { expect, it } from "vitest";
import { createNewest } from "../../proxy/newest.ts";

it("lets go of those that came first, and says so", () => {
  const newest = createNewest<number>(3);
  for (const [i, name] of ["a", "b", "c"].entries()) expect(newest.set(name, i)).toBe(false);
  // A name that is known takes nobody's place.
  expect(newest.set("a", 10)).toBe(false);
  expect(newest.set("d", 3)).toBe(true);
  expect(["a", "b", "c", "d"].map((name) => newest.get(name))).toEqual([undefined, 1, 2, 3]);
  expect(newest.set("e", 4)).toBe(true);
  expect(["b", "c", "d", "e"].map((name) => newest.has(name))).toEqual([false, true, true, true]);
});

it("holds no more than so many, whatever was deleted in between", () => {
  const newest = createNewest<number>(3);
  for (let i = 0; i < 100; i++) {
    newest.set(`n${i % 7}`, i);
    expect(newest.get(`n${i % 7}`)).toBe(i);
    newest.delete(`n${(i * 3) % 7}`);
    expect([0, 1, 2, 3, 4, 5, 6].filter((one) => newest.has(`n${one}`)).length).toBeLessThanOrEqual(3);
  }
});

it("costs the same for each when it is full", () => {
  const newest = createNewest<number>(100_000);
  for (let i = 0; i < 100_000; i++) newest.set(`first${i}`, i);
  const startMs = performance.now();
  for (let i = 0; i < 100_000; i++) newest.set(`second${i}`, i);
  // By a Map's own order it was more than two seconds.
  expect(performance.now() - startMs).toBeLessThan(1_000);
  expect(newest.has("first99999")).toBe(false);
});
