// kill -9 of whoever carries a rotation out, before and after each call to the provider and to the store: the next one goes
// on, no key is lost, none is left over, none is taken away while it is used.
import { spawn } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, it } from "vitest";
import { changeRotation } from "../../collector/rotation/change.ts";
import { openBilling } from "../../ledger/open.ts";
import { readRotations } from "../../ledger/billing/rotations.ts";
import { slowChat } from "../fake/slow-chat.ts";
import { forkProxy } from "../kill-proxy.ts";
import { countOf, random, SEED } from "../seed.ts";
import { shortId, startRotating } from "./rotating.ts";
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

/** Of clouds whose keys have no names; Azure's take the place of another one. */
const FORTH_UNNAMED = [
  ["list", 1],
  ["create", 1],
  ["stage", 1],
  ["revoke", 1],
  ["list", 2],
] as const;
const FORTH_SLOTS = [
  ["replaces", 1],
  ["create", 1],
  ["stage", 1],
  ["revoke", 1],
  ["clear", 2],
] as const;

type Way = {
  readonly place: "openrouter" | "openai" | "bedrock" | "vertex" | "azure";
  readonly way: "forth" | "back";
  readonly from?: string;
};
const points = (calls: readonly (readonly [string, number])[], way: Way) =>
  calls.flatMap(([call, nth]) => (["before", "after"] as const).map((when) => ({ ...way, when, call, nth })));
const next = random(SEED);
const ALL = [
  ...points(FORTH, { place: "openrouter", way: "forth" }),
  ...points(BACK, { place: "openrouter", way: "back", from: "disabled" }),
  ...points(FORTH_WITHOUT, { place: "openai", way: "forth" }),
  ...points(BACK_WITHOUT, { place: "openai", way: "back", from: "draining" }),
  ...points(FORTH_UNNAMED, { place: "bedrock", way: "forth" }),
  ...points(FORTH_UNNAMED.slice(0, 3), { place: "vertex", way: "forth" }),
  ...points(BACK_WITHOUT, { place: "bedrock", way: "back", from: "draining" }),
  ...points(FORTH_SLOTS, { place: "azure", way: "forth" }),
  ...points(BACK_WITHOUT, { place: "azure", way: "back", from: "draining" }),
];
/** All of them in the proof; otherwise some, others each time. */
const COUNT = countOf(1, 26, ALL.length);
const CHOSEN = ALL.map((point) => ({ point, order: next() }))
  .toSorted((a, b) => a.order - b.order)
  .slice(0, COUNT)
  .map(({ point }) => point);

describe("kill -9 of a rotation", () => {
  let bench: Bench | undefined;
  afterEach(async () => {
    await bench?.close().catch(() => undefined);
    bench = undefined;
  });

  it.each(CHOSEN)(
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
      const current = way === "back" ? old.id : shortId(rotation?.newKeyId ?? null);
      // Azure has two at any time: nobody has the other one.
      expect(new Set(live.map(({ id }) => id))).toEqual(new Set(place === "azure" ? ["Key1", "Key2"] : [current]));
      expect(live.map(({ state }) => state)).toEqual(live.map(() => "active"));
      const kept = live.find(({ id }) => id === current);
      expect(stored()).toBe(kept?.value.trim());
      for (const { usedAtMs } of live.filter((key) => key !== kept)) expect(usedAtMs).toEqual([]);
      for (const { revokedAtMs, usedAtMs } of makers.keys)
        if (revokedAtMs !== undefined && usedAtMs.length > 0) expect(Math.max(...usedAtMs)).toBeLessThan(revokedAtMs);
    },
  );
});

describe("kill -9 of the proxy", () => {
  it(
    "wherever a rotation waits: it goes on when the proxy is back, and no answer is an error for it",
    { timeout: 120_000 },
    async () => {
      const own = await startRotating("openrouter");
      const { makers, old, environment, secret, running, tick } = own;
      await running.stop();
      const start = () => forkProxy(makers.url, running.dataDir, undefined, environment);
      let proxy = await start();
      const over = new AbortController();
      const statuses: number[] = [];
      const load = (async () => {
        for (let n = 1; !over.signal.aborted; n++) {
          const sent = fetch(`${proxy.url}/openrouter/v1/chat/completions`, {
            method: "POST",
            headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
            body: slowChat(n, n % 2 === 0),
          });
          // Without a proxy there is no answer.
          const status = await sent.then(async (answer) => (await answer.text(), answer.status)).catch(() => undefined);
          if (status === undefined) await sleep(20);
          else statuses.push(status);
        }
      })();
      const killAndTick = async (): Promise<void> => {
        const ended = new Promise((resolve) => proxy.child.once("close", resolve));
        proxy.child.kill("SIGKILL");
        await ended;
        await tick();
        proxy = await start();
      };
      await sleep(500);
      const begun = { type: "rotate", place: "openrouter", by: "somebody", why: "", isLeaked: false } as const;
      await changeRotation({ billing: own.billing, usage: own.usage }, begun, Date.now());
      const seen = new Set<string>();
      for (let i = 0; i < 400; i++) {
        const rotation = await tick();
        const { state = "planned" } = rotation ?? {};
        if (state === "revoked") break;
        if (!seen.has(state)) await killAndTick();
        seen.add(state);
        await sleep(50);
      }
      over.abort();
      await load;
      const [rotation] = await readRotations(own.billing);
      expect(rotation?.state, rotation?.waitsFor ?? "").toBe("revoked");
      expect([...seen]).toEqual(expect.arrayContaining(["draining", "disabled"]));
      expect(new Set(statuses)).toEqual(new Set([200]));
      const live = makers.keys.filter(({ state }) => state !== "revoked");
      expect(live.map(({ id, state }) => [id, state])).toEqual([[rotation?.newKeyId, "active"]]);
      expect(own.stored()).toBe(live[0]?.value);
      expect(Math.max(...old.usedAtMs)).toBeLessThan(old.revokedAtMs ?? 0);
      proxy.child.kill("SIGKILL");
      await own.usage.close();
      await own.billing.close();
      await makers.close();
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
