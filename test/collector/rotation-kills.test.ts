// kill -9 of whoever carries a rotation out, before and after each call to the provider and to the store: the next one goes
// on, no key is lost, none is left over, none is taken away while it is used.
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { openBilling } from "../../ledger/open.ts";
import { readRotations } from "../../ledger/billing/rotations.ts";
import { IS_CI, random, SEED } from "../seed.ts";
import { startRotating } from "./rotating.ts";
import type { Bench } from "./rotating.ts";

const PROGRAM = fileURLToPath(new URL("rotation-program.ts", import.meta.url));

/** Calls, in the order in which they are made; which time. */
const FORTH = [
  ["identify", 1],
  ["find", 1],
  ["clear", 1],
  ["create", 1],
  ["stage", 1],
  ["staged", 1],
  ["probe", 1],
  ["probe", 3],
  ["promote", 1],
  ["disable", 1],
  ["revoke", 1],
  ["find", 2],
  ["clear", 2],
] as const;
const BACK = [
  ["enable", 1],
  ["previous", 1],
  ["restore", 1],
  ["revoke", 1],
  ["clear", 2],
] as const;
/** Of a provider that cannot switch a key off, and says when it was last used. */
const FORTH_WITHOUT = [
  ["promote", 1],
  ["lastUsedMs", 1],
  ["revoke", 1],
  ["clear", 2],
] as const;
const BACK_WITHOUT = [
  ["restore", 1],
  ["revoke", 1],
] as const;

type Way = { readonly place: "openrouter" | "openai"; readonly way: "forth" | "back"; readonly from?: string };
const points = (calls: readonly (readonly [string, number])[], way: Way) =>
  calls.flatMap(([call, nth]) => (["before", "after"] as const).map((when) => ({ ...way, when, call, nth })));
const next = random(SEED);
const ALL = [
  ...points(FORTH, { place: "openrouter", way: "forth" }),
  ...points(BACK, { place: "openrouter", way: "back", from: "disabled" }),
  ...points(FORTH_WITHOUT, { place: "openai", way: "forth" }),
  ...points(BACK_WITHOUT, { place: "openai", way: "back", from: "draining" }),
];
const CHOSEN = IS_CI ? ALL : ALL.filter(() => next() < 1 / ALL.length);

describe("kill -9 of a rotation", () => {
  let bench: Bench | undefined;
  afterEach(async () => {
    await bench?.close().catch(() => undefined);
    bench = undefined;
  });

  it.each(CHOSEN.length > 0 ? CHOSEN : ALL.slice(0, 1))(
    "$place: $when $call ($nth), $way: the next one goes on",
    { timeout: 120_000 },
    async ({ place, way, from, when, call, nth }) => {
      const { makers, old, environment, ask, stored, billing, running } = (bench = await startRotating(place));
      await billing.close();
      const statuses: number[] = [];
      const over = new AbortController();
      let n = 0;
      const load = (async () => {
        while (!over.signal.aborted) statuses.push(await ask((n += 1), n % 2 === 0));
      })();
      const goBack = from === undefined ? {} : { GO_BACK_FROM: from };
      const kill = { KILL_CALL: call, KILL_NTH: String(nth), KILL_WHEN: when };
      expect(await run({ ...environment, ...goBack, ...kill })).toBe("SIGKILL");
      expect(await run({ ...environment, ...goBack })).toBe(0);
      over.abort();
      await load;

      expect(new Set(statuses)).toEqual(new Set([200]));
      const books = await openBilling(running.place);
      const rotations = books ? await readRotations(books) : [];
      await books?.close();
      const [rotation] = rotations;
      expect(rotations.map(({ state }) => state)).toEqual([way === "back" ? "back" : "revoked"]);
      // One key works, and it is the one in the store; no other one is left.
      const live = makers.keys.filter(({ state }) => state !== "revoked");
      expect(live.map(({ id, state }) => [id, state])).toEqual([
        [way === "back" ? old.id : rotation?.newKeyId, "active"],
      ]);
      expect(stored()).toBe(live[0]?.value);
      for (const { revokedAtMs, usedAtMs } of makers.keys)
        if (revokedAtMs !== undefined && usedAtMs.length > 0) expect(Math.max(...usedAtMs)).toBeLessThan(revokedAtMs);
    },
  );
});

/** Its exit code, or the signal that ended it. */
function run(environment: { readonly [name: string]: string }): Promise<number | string | null> {
  const child = spawn(process.execPath, [PROGRAM], {
    env: { ...process.env, ...environment },
    stdio: ["ignore", "ignore", "inherit"],
  });
  return new Promise((resolve) => child.once("close", (code, signal) => resolve(signal ?? code)));
}
