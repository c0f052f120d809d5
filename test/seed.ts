// Randomness that can be had again: every random test prints its seed, and takes it back from KEYMETER_SEED.
const given = process.env["KEYMETER_SEED"];

/** The seed of this run. */
export const SEED = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);

/** Whether everything is asked for that a claim rests on: hours (`npm run proof`). */
export const IS_PROOF = process.env["KEYMETER_PROOF"] === "1";

/** Whether large counts are asked for. */
export const IS_CI = process.env["CI"] === "true" || IS_PROOF;

/** How many: `few` where a developer waits, `more` in CI, `all` in the proof. */
export function countOf(few: number, more: number, all: number): number {
  return IS_PROOF ? all : IS_CI ? more : few;
}

/** A small generator (mulberry32): numbers in [0, 1). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Cuts bytes at random places into at most `most` pieces. */
export function cut(bytes: Buffer, next: () => number, most = 12): Buffer[] {
  const places = Array.from({ length: Math.floor(next() * most) }, () =>
    Math.floor(next() * (bytes.length + 1)),
  ).toSorted((a, b) => a - b);
  const pieces: Buffer[] = [];
  let from = 0;
  for (const place of [...places, bytes.length]) {
    if (place > from) pieces.push(bytes.subarray(from, place));
    from = Math.max(from, place);
  }
  return pieces;
}
