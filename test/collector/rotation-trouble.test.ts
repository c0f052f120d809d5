// A rotation whose store or whose provider is in trouble for an hour, from any call on: nothing that is used goes, requests are
// answered meanwhile, it says why it waits without a secret in it, and afterwards it goes on to its end.
import type { ServerResponse } from "node:http";
import { afterEach, describe, expect, it } from "vitest";
import { readRotations, readRotationSteps } from "../../ledger/billing/rotations.ts";
import { changeRotation } from "../../collector/rotation/change.ts";
import { ADMIN_KEY } from "../fake/key-makers.ts";
import type { FakeKey } from "../fake/made-keys.ts";
import { countOf, random, SEED } from "../seed.ts";
import { startRotating } from "./rotating.ts";
import type { Bench } from "./rotating.ts";

const MINUTE = 60_000;

type Trouble = (response: ServerResponse, secret: string) => void;
const say =
  (status: number, body: (secret: string) => string, type = "application/json"): Trouble =>
  (response, secret) =>
    void response.writeHead(status, { "content-type": type }).end(body(secret));
/** What goes wrong; answers repeat the secret where they can. */
const TROUBLES: { readonly [what: string]: Trouble } = {
  away: (response) => void response.destroy(),
  "sealed or down": say(503, (secret) => `{"errors":["sealed ${secret}"]}`),
  limiting: say(429, (secret) => `{"error":{"message":"slow down ${secret}"}}`),
  refusing: say(403, (secret) => `{"error":{"message":"no ${secret}"}}`),
  "answering garbage": say(200, (secret) => `<html>${secret}</html>`, "text/html"),
  "answering another thing": say(200, () => `{"data":{"hello":["world"]},"payload":{"data":7}}`),
  "breaking off": (response) => {
    response.writeHead(200, { "content-length": "9999" });
    response.write("{");
    setTimeout(() => response.destroy(), 5);
  },
};

const next = random(SEED);
/** Some of them, others each time. */
const CASES = Array.from({ length: countOf(1, 8, 60) }, () => {
  const what = Object.keys(TROUBLES)[Math.floor(next() * Object.keys(TROUBLES).length)] ?? "";
  const whose = next() < 0.6 ? "the store" : "the provider";
  return { whose, what, after: Math.floor(next() * (whose === "the store" ? 40 : 8)) };
});

describe("a rotation in trouble", () => {
  let bench: Bench | undefined;
  afterEach(async () => {
    await bench?.close();
    bench = undefined;
  });

  it.each(CASES)(
    "$whose is $what for an hour, after $after calls: nothing is lost, and it goes on",
    { timeout: 120_000 },
    async ({ whose, what, after }) => {
      const own = (bench = await startRotating("openrouter", "", "google"));
      const { makers, old, billing, usage, store } = own;
      const statuses = [await own.ask(1)];
      const struck: number[] = [];
      const trouble = (response: ServerResponse): void => {
        struck.push(Date.now());
        (TROUBLES[what] as Trouble)(response, own.stored());
      };
      const target = whose === "the store" ? store : makers;
      if (!target) throw new Error("no store");
      target.spared = after;
      if (target === makers) makers.instead = (_arrived, response) => trouble(response);
      else if (store) store.instead = (_request, response) => trouble(response);
      const begun = { type: "rotate", place: "openrouter", by: "somebody", why: "", isLeaked: false } as const;
      await changeRotation({ billing, usage }, begun, Date.now());
      const said: string[] = [];
      let n = 1;
      let rotation = (await readRotations(billing))[0];
      for (let i = 0; i < 400 && struck.length === 0 && rotation?.state !== "revoked"; i++) {
        rotation = await own.tick();
        if (i % 10 === 0) statuses.push(await own.ask((n += 1)));
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const gone = makers.keys.filter(({ state }) => state === "revoked");
      for (let minute = 15; minute <= 60; minute += 15) {
        rotation = await own.tick(minute * MINUTE);
        said.push(rotation?.waitsFor ?? "");
        statuses.push(await own.ask((n += 1)), await own.ask((n += 1), true));
      }
      expect(struck.length).toBeGreaterThan(0);
      // Only what was decided before, or what a try left over, went meanwhile: never the key that the store had.
      const inUse = makers.keys.filter(({ usedAtMs, revokedAtMs }) => usedAtMs.length > 0 && revokedAtMs === undefined);
      expect(inUse.length).toBeGreaterThan(0);
      expect(gone.every(({ revokedAtMs, usedAtMs }) => isAfter(revokedAtMs, usedAtMs))).toBe(true);
      target.instead = undefined;
      const ended = await own.reach("revoked", 60_000);
      await expect.poll(() => own.ask((n += 1)), { timeout: 5_000 }).toBe(200);

      expect(new Set(statuses)).toEqual(new Set([200]));
      const live = makers.keys.filter(({ state }) => state !== "revoked");
      expect(live.map(({ id, state }) => [id, state])).toEqual([[ended.newKeyId, "active"]]);
      expect(own.stored()).toBe(live[0]?.value);
      expect(old.state).toBe("revoked");
      for (const { revokedAtMs, usedAtMs } of makers.keys)
        if (revokedAtMs !== undefined) expect(isAfter(revokedAtMs, usedAtMs)).toBe(true);
      const words = JSON.stringify([said, own.audited, ended, await readRotationSteps(billing, ended.id)]);
      for (const { value } of [...makers.keys, { value: ADMIN_KEY } as FakeKey]) expect(words).not.toContain(value);
    },
  );
});

function isAfter(revokedAtMs: number | undefined, usedAtMs: readonly number[]): boolean {
  return revokedAtMs !== undefined && revokedAtMs > Math.max(0, ...usedAtMs);
}
