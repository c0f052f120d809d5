// Provider keys that are replaced while they are used: by each maker, under load, with stores and providers that are away or
// slow, by hand, and back again. Which key a request came with stands in the provider's own journal.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { readRotations, readRotationSteps } from "../../ledger/billing/rotations.ts";
import { changeRotation } from "../../collector/rotation/change.ts";
import { rotateOn } from "../../collector/rotation/run.ts";
import { handInKey } from "../../collector/rotation/ask.ts";
import { bedrockKey, serviceAccountFile } from "../fake/cloud-key-makers.ts";
import { json } from "../fake/provider.ts";
import { ADMIN_KEY } from "../fake/key-makers.ts";
import type { FakeKey } from "../fake/made-keys.ts";
import { numberOf } from "../fake/slow-chat.ts";
import { countOf, IS_CI, SEED } from "../seed.ts";
import { isTurnOf } from "../skipped.ts";
import { noOwnKeys, shortId, SILENT, startRotating } from "./rotating.ts";
import type { Bench } from "./rotating.ts";

const MAKERS = ["openai", "openrouter", "xai", "vertex", "bedrock", "azure", "anthropic"] as const;
const LOAD = countOf(4, 12, 12);

describe("a rotation under load", () => {
  let bench: Bench | undefined;
  let over = new AbortController();
  afterEach(async () => {
    over.abort();
    await bench?.close();
    bench = undefined;
  });

  it.each(MAKERS.filter((_maker, i) => IS_CI || SEED % MAKERS.length === i))(
    "of %s: no request fails for it, each is booked by the key that it came with, and the old key goes last",
    { timeout: 120_000 },
    async (place) => {
      const { makers, old, config, billing, usage, running, reach, ask, stored, audited } = (bench =
        await startRotating(place));
      const name = config.rotations[0]?.place ?? "";
      const statuses: number[] = [];
      over = new AbortController();
      let n = 0;
      const load = Array.from({ length: LOAD }, async (_, i) => {
        while (!over.signal.aborted) statuses.push(await ask((n += 1), i % 2 === 0).catch(() => 0));
      });
      await sleep(300);
      const [settings] = config.rotations;
      const by = { place: name, by: "somebody", isLeaked: false };
      // The provider's own caches do not know it at once.
      makers.delayMs = 1_500;
      if (settings?.maker.create)
        await changeRotation({ billing, usage }, { type: "rotate", why: "a test", ...by }, Date.now());
      else if (settings)
        await handInKey(settings, makers.add("by hand").value, (key) =>
          changeRotation({ billing, usage }, { type: "accept", ...by, ...key }, Date.now()),
        );
      const rotation = await reach("revoked");
      await sleep(300);
      over.abort();
      await Promise.all(load);

      expect(new Set(statuses)).toEqual(new Set([200]));
      expect(statuses.length).toBeGreaterThan(50);
      const made = makers.keys.find(
        ({ id, state }) => id === shortId(rotation.newKeyId) && state === "active",
      ) as FakeKey;
      expect(stored()).toBe(made.value.trim());
      const live = makers.keys.filter(({ state }) => state !== "revoked");
      // Azure has two at any time: nobody has the other one.
      expect(live.map(({ id }) => id)).toEqual(place === "azure" ? [made.id, old.id] : [made.id]);
      for (const { usedAtMs } of live.filter((key) => key !== made)) expect(usedAtMs).toEqual([]);
      expect(old.state).toBe("revoked");
      expect(Math.max(...old.usedAtMs)).toBeLessThan(old.revokedAtMs ?? 0);
      // By number: which key each came with, and which one the books say.
      const sent = new Map(
        makers.provider.journal
          .filter(({ method, url }) => method === "POST" && /chat\/completions|v1\/messages/.test(url))
          .map(({ body, headers }) => [numberOf(body), makers.keyOf(headers)] as const),
      );
      const events = await running.events();
      expect(events.length).toBe(sent.size);
      for (const { payer, tags } of events) {
        expect(payer).toBe(sent.get(Number(tags["n"])) === old ? rotation.oldCredential : rotation.newCredential);
      }
      const steps = await readRotationSteps(billing, rotation.id);
      expect(steps.map(({ state }) => state)).toEqual([
        "planned",
        "stored",
        "verified",
        "switched",
        "draining",
        "disabled",
        "revoking",
        "revoked",
      ]);
      expect(audited).toEqual(steps.map(({ said }) => said));
      const rows = JSON.stringify([steps, await readRotations(billing)]);
      for (const { value } of [made, old]) expect(rows).not.toContain(secretIn(value));
    },
  );
});

/** The part of a key that is one. */
function secretIn(value: string): string {
  if (!value.startsWith("{")) return value;
  const { private_key: pem } = JSON.parse(value) as { private_key: string };
  return pem.split("\n")[1] ?? "";
}

describe.skipIf(!isTurnOf(2, 4, "rotations that are disturbed"))("a rotation", () => {
  let bench: Bench | undefined;
  afterEach(async () => {
    await bench?.close();
    bench = undefined;
  });
  const begin = async (
    { billing, usage, config }: Bench,
    more: { readonly isLeaked?: boolean } = {},
  ): Promise<string[]> =>
    changeRotation(
      { billing, usage },
      { type: "rotate", place: config.rotations[0]?.place ?? "", by: "somebody", why: "", isLeaked: false, ...more },
      Date.now(),
    );
  const back = ({ billing, usage, config }: Bench): Promise<string[]> =>
    changeRotation(
      { billing, usage },
      { type: "rotateBack", place: config.rotations[0]?.place ?? "", by: "somebody" },
      Date.now(),
    );

  it(
    "goes back while the old key is there: it is current again, and the new one is gone",
    { timeout: 60_000 },
    async () => {
      const own = (bench = await startRotating("openrouter", ", every: 1h"));
      expect(await own.ask(1)).toBe(200);
      await begin(own);
      await own.reach("draining");
      await expect.poll(() => own.ask(2), { timeout: 5_000 }).toBe(200);
      const rotation = await own.reach("disabled", 40_000);
      expect(own.old.state).toBe("disabled");
      await back(own);
      await own.reach("back");
      expect(own.stored()).toBe(own.old.value);
      expect(own.makers.keys.map(({ id, state }) => [id, state])).toEqual([
        [own.old.id, "active"],
        [rotation.newKeyId, "revoked"],
      ]);
      await expect.poll(() => own.ask(3), { timeout: 5_000 }).toBe(200);
      await expect(back(own)).rejects.toThrow("no rotation of openrouter goes on");
    },
  );

  it("stops where the provider never takes the new key, and leaves no key behind", async () => {
    const own = (bench = await startRotating("openai"));
    own.makers.delayMs = 3_600_000;
    await begin(own);
    await own.reach("stored");
    const waiting = await own.tick();
    expect(waiting).toMatchObject({ state: "stored", isTrouble: false });
    expect(waiting?.waitsFor).toContain("does not take the new key yet (401)");
    // Six minutes later.
    await rotateOn({
      books: own,
      rotations: own.config.rotations,
      ownKeys: noOwnKeys(own.config),
      audit: async () => undefined,
      log: SILENT,
      now: () => Date.now() + 360_000,
      patience: { probePauseMs: 1, settleMs: 0 },
    });
    expect(await own.tick()).toMatchObject({ state: "failed" });
    expect(own.stored()).toBe(own.old.value);
    expect(own.makers.keys.filter(({ state }) => state !== "revoked")).toEqual([own.old]);
    expect(await own.ask(1)).toBe(200);
  });

  it("waits while the admin API refuses or limits, and says so; one at a time goes on", async () => {
    const own = (bench = await startRotating("xai"));
    own.makers.instead = json({ error: ADMIN_KEY }, 429);
    await begin(own);
    const waiting = await own.tick();
    expect(waiting).toMatchObject({ state: "planned", isTrouble: true });
    expect(waiting?.waitsFor).toContain("429: too many requests right now");
    expect(waiting?.waitsFor).not.toContain(ADMIN_KEY);
    await expect(begin(own)).rejects.toThrow("goes on already");
    own.makers.instead = undefined;
    await own.reach("draining");
    expect(own.makers.keys).toHaveLength(2);
  });

  it("does not go on where its store is rolled back behind our back: the old key stays", async () => {
    const own = (bench = await startRotating("openai"));
    await begin(own);
    await own.reach("draining");
    // Rolled back behind our back.
    writeFileSync(join(own.folder, "key"), own.old.value);
    await expect
      .poll(async () => (await own.tick())?.waitsFor, { timeout: 15_000 })
      .toMatch(/is another one than the new key|a proxy uses another key of openai/);
    expect(await own.tick()).toMatchObject({ state: "draining", isTrouble: true });
    await sleep(3_000);
    expect(await own.tick()).toMatchObject({ state: "draining", isTrouble: true });
    expect(own.old.state).toBe("active");
  });

  it("of a leaked key waits for nothing but the requests under way", { timeout: 60_000 }, async () => {
    const own = (bench = await startRotating("openrouter", ""));
    await begin(own, { isLeaked: true });
    const began = Date.now();
    await own.reach("revoked");
    expect(own.old.state).toBe("revoked");
    expect(Date.now() - began).toBeLessThan(20_000);
  });

  it(
    "does not go back to a key that somebody deleted: the new one goes on, and `done` ends it",
    { timeout: 60_000 },
    async () => {
      const own = (bench = await startRotating("openai"));
      await own.ask(1);
      await begin(own);
      await own.reach("draining");
      own.old.state = "revoked";
      await back(own);
      const rotation = await own.reach("draining");
      const steps = await readRotationSteps(own.billing, rotation.id);
      expect(steps.map(({ said }) => said).join("\n")).toContain("there is no way back, and the new one goes on");
      await changeRotation(own, { type: "rotateDone", place: "openai", by: "somebody" }, Date.now());
      await expect(back(own)).rejects.toThrow("there is no way back any more");
      await own.reach("revoked");
      await expect.poll(() => own.ask(2), { timeout: 5_000 }).toBe(200);
      expect(own.makers.keys.filter(({ state }) => state === "active").map(({ value }) => value)).toEqual([
        own.stored(),
      ]);
    },
  );

  it("finds another place that uses the old key while it is off: it is on again", { timeout: 60_000 }, async () => {
    const own = (bench = await startRotating("openrouter"));
    expect(await own.ask(1)).toBe(200);
    await begin(own);
    const { oldCredential } = await own.reach("disabled", 40_000);
    expect(own.old.state).toBe("disabled");
    const place = { provider: "openrouter/other", credential: oldCredential ?? "", hint: "cdef" };
    await own.running.proxy.writer.noteSeen({ credentials: [{ ...place, atMs: Date.now() }] });
    const again = await own.reach("draining", 10_000);
    expect(own.old.state).toBe("active");
    expect((await readRotationSteps(own.billing, again.id)).at(-1)?.said).toContain("openrouter/other too");
    expect((await own.tick())?.waitsFor).toContain("give that place another one");
  });

  it("whose store is rolled back while the old key is off: the old key is on again", { timeout: 60_000 }, async () => {
    const own = (bench = await startRotating("openrouter"));
    await own.ask(1);
    await begin(own);
    await own.reach("disabled", 40_000);
    writeFileSync(join(own.folder, "key"), own.old.value);
    await own.reach("draining", 10_000);
    expect(own.old.state).toBe("active");
    await expect.poll(() => own.ask(2), { timeout: 5_000 }).toBe(200);
    // A third key: back means that the new one goes, whatever is there.
    const third = own.makers.add("a third");
    writeFileSync(join(own.folder, "key"), third.value);
    await back(own);
    await own.reach("back", 40_000);
    expect(own.stored()).toBe(third.value);
    await expect.poll(() => own.ask(3), { timeout: 5_000 }).toBe(200);
    expect(new Map(own.makers.keys.map(({ name, state }) => [name.slice(0, 8), state]))).toEqual(
      new Map([
        ["by hand", "active"],
        ["keymeter", "revoked"],
        ["a third", "active"],
      ]),
    );
  });

  it(
    "does not delete the old key while the store has it again, though that was decided",
    { timeout: 60_000 },
    async () => {
      const own = (bench = await startRotating("openrouter"));
      await own.ask(1);
      await begin(own);
      const { id } = await own.reach("disabled", 40_000);
      own.makers.instead = json({ error: "not now" }, 503);
      await own.reach("revoking", 10_000).catch(() => undefined);
      writeFileSync(join(own.folder, "key"), own.old.value);
      own.makers.instead = undefined;
      for (let i = 0; i < 5; i++) await own.tick();
      const [rotation] = await readRotations(own.billing);
      expect(rotation).toMatchObject({ id });
      expect(own.old.state).not.toBe("revoked");
    },
  );

  it("goes back from where no proxy has said yet that it uses the new key", { timeout: 60_000 }, async () => {
    const own = (bench = await startRotating("openai"));
    await own.ask(1);
    await begin(own);
    await own.reach("switched");
    own.old.state = "revoked";
    await back(own);
    await own.reach("draining", 20_000);
    await expect.poll(() => own.ask(2), { timeout: 5_000 }).toBe(200);
  });

  it("that goes on is hastened when its key leaked", { timeout: 60_000 }, async () => {
    const own = (bench = await startRotating("openrouter"));
    await own.ask(1);
    await begin(own);
    await own.reach("draining");
    expect((await begin(own, { isLeaked: true })).join("")).toContain("waits for nothing any more");
    expect(await own.reach("revoked", 10_000)).toMatchObject({ isLeaked: true });
  });

  it("takes no key's place that is used somewhere", { timeout: 60_000 }, async () => {
    const own = (bench = await startRotating("azure"));
    await own.ask(1);
    const other = { provider: "azure/other", credential: "fp_other", hint: "3210", atMs: Date.now() };
    await own.running.proxy.writer.noteSeen({ credentials: [other] });
    await begin(own);
    expect(await own.tick()).toMatchObject({ state: "planned", isTrouble: true });
    expect((await own.tick())?.waitsFor).toContain("which is used at azure/other");
    expect(own.makers.keys.map(({ id, state }) => [id, state])).toEqual([
      ["Key2", "active"],
      ["Key1", "active"],
    ]);
  });

  it(
    "finds the same key at another provider's name, where its fingerprint is another one",
    { timeout: 60_000 },
    async () => {
      const own = (bench = await startRotating("openrouter"));
      await own.ask(1);
      await begin(own);
      await own.reach("draining");
      // Which reads another reference, and has not changed.
      const twin = {
        provider: "openrouter-eu",
        credential: "fp_twin",
        hint: own.old.value.slice(-4),
        atMs: Date.now(),
      };
      await own.running.proxy.writer.noteSeen({ credentials: [twin] });
      await sleep(1_500);
      expect((await own.tick())?.waitsFor).toContain("proxies use the old key at openrouter-eu too");
      expect(own.old.state).toBe("active");
    },
  );

  it("deletes no key that somebody else made while it could not be made, where keys have no names", async () => {
    const own = (bench = await startRotating("bedrock"));
    await own.ask(1);
    // Two keys are all that a user may have: IAM says no, again and again.
    const theirs = own.makers.add("", bedrockKey("keymeter").value, "ACCATHEIRS0123456789");
    await begin(own);
    expect((await own.tick())?.waitsFor).toContain("keymeter has two keys for Bedrock");
    theirs.state = "revoked";
    const third = own.makers.add("", bedrockKey("keymeter").value, "ACCATHIRD00123456789");
    expect((await own.tick())?.waitsFor).toContain("keymeter has two keys for Bedrock");
    expect([own.old.state, third.state]).toEqual(["active", "active"]);
    third.state = "revoked";
    await own.reach("draining");
  });

  it("deletes of what came since a try that was broken off only what was made at its time", async () => {
    const own = (bench = await startRotating("vertex"));
    await own.ask(1);
    // Whether the key was made is not known.
    own.makers.instead = (_arrived, response) => void response.destroy();
    own.makers.spared = 2;
    await begin(own);
    expect(await own.tick()).toMatchObject({ state: "planned", isTrouble: true });
    const [orphan, theirs] = [serviceAccountFile(), serviceAccountFile()];
    const made = own.makers.add("", orphan.text, orphan.id);
    // Of hours before the try by the provider's own clock: it was not in its list yet.
    const other = own.makers.add("", theirs.text, theirs.id, 3 * 3_600_000);
    own.makers.instead = undefined;
    await own.reach("draining");
    expect([made.state, other.state, own.old.state]).toEqual(["revoked", "active", "active"]);
  });

  it("goes back without deleting what somebody made by hand meanwhile, where keys have no names", async () => {
    const own = (bench = await startRotating("vertex"));
    await own.ask(1);
    // It is not known whether the key was made.
    own.makers.instead = (_arrived, response) => void response.destroy();
    own.makers.spared = 2;
    await begin(own);
    expect(await own.tick()).toMatchObject({ state: "planned", isTrouble: true });
    const { id, text } = serviceAccountFile();
    const theirs = own.makers.add("", text, id);
    writeFileSync(join(own.folder, "key"), text);
    own.makers.instead = undefined;
    await back(own);
    const ended = await own.reach("back", 20_000);
    expect(theirs.state).toBe("active");
    expect((await readRotationSteps(own.billing, ended.id)).at(-1)?.said).toContain(`${id} came meanwhile`);
    await expect.poll(() => own.ask(2), { timeout: 5_000 }).toBe(200);
  });

  it("goes back without taking the new key from another place that uses it", async () => {
    const own = (bench = await startRotating("openrouter"));
    await own.ask(1);
    await begin(own);
    const { newHint } = await own.reach("draining");
    const other = { provider: "openrouter-eu", credential: "fp_other", hint: newHint ?? "", atMs: Date.now() };
    await own.running.proxy.writer.noteSeen({ credentials: [other] });
    await back(own);
    await own.reach("returning", 10_000);
    await sleep(1_200);
    expect((await own.tick())?.waitsFor).toContain("proxies use the new key at openrouter-eu too");
    expect(own.makers.keys.at(-1)?.state).toBe("active");
  });

  it("of Azure leaves a slot alone that has another key by now", async () => {
    const own = (bench = await startRotating("azure"));
    await own.ask(1);
    await begin(own);
    await own.reach("draining");
    // Somebody makes Key1 anew, and uses it elsewhere.
    own.old.state = "revoked";
    const theirs = own.makers.add("", "00112233445566778899aabbccddeeff", "Key1");
    await own.reach("revoked", 40_000);
    expect(theirs.state).toBe("active");
  });

  it("does not begin where a free call is refused with the current key: a new one could not be tried", async () => {
    const own = (bench = await startRotating("openrouter"));
    await own.ask(1);
    own.makers.refusesFreeCalls = true;
    await begin(own);
    expect((await own.tick())?.waitsFor).toContain("answers 403 to a free call with the current key");
    expect(own.makers.keys).toHaveLength(1);
    own.makers.refusesFreeCalls = false;
    await own.reach("draining");
  });

  it(
    "deletes no key that somebody else made meanwhile, where keys have no names, and says so",
    { timeout: 60_000 },
    async () => {
      const own = (bench = await startRotating("vertex"));
      await own.ask(1);
      await begin(own);
      const { newKeyId } = await own.reach("draining");
      const { id, text } = serviceAccountFile();
      const theirs = own.makers.add("", text, id);
      const ended = await own.reach("revoked", 40_000);
      expect([own.old.state, theirs.state]).toEqual(["revoked", "active"]);
      expect(ended.newKeyId).toBe(newKeyId);
      expect((await readRotationSteps(own.billing, ended.id)).at(-1)?.said).toContain(`${id} came meanwhile`);
    },
  );

  it("gives the new key the limits of the old one", { timeout: 60_000 }, async () => {
    const own = (bench = await startRotating("openrouter"));
    own.old.limits = { limit: 100, limit_reset: "monthly" };
    await own.ask(1);
    await begin(own);
    await own.reach("draining");
    expect(own.makers.keys.at(-1)?.limits).toMatchObject({ limit: 100, limit_reset: "monthly" });
  });

  it("gives the new key the life that the old one had", { timeout: 60_000 }, async () => {
    const own = (bench = await startRotating("bedrock"));
    await own.ask(1);
    await begin(own);
    await own.reach("draining");
    expect(own.makers.keys.at(-1)?.limits).toEqual({ days: "60" });
  });

  it("begins by itself when its age is reached, and not before", async () => {
    const own = (bench = await startRotating("openai", ", every: 30d"));
    expect(await own.tick()).toBeUndefined();
    const later = Date.now() + 31 * 86_400_000;
    await rotateOn({
      books: own,
      rotations: own.config.rotations,
      ownKeys: noOwnKeys(own.config),
      audit: async () => undefined,
      log: SILENT,
      now: () => later,
      patience: { probePauseMs: 1, settleMs: 0 },
    });
    expect((await readRotations(own.billing))[0]).toMatchObject({ startedBy: "schedule", place: "openai" });
  });
});

describe("a key that somebody makes", () => {
  let bench: Bench | undefined;
  afterEach(async () => {
    await bench?.close();
    bench = undefined;
  });

  it(
    "of Anthropic is handed in, tried and taken; the old one is switched off and archived by API",
    { timeout: 60_000 },
    async () => {
      const own = (bench = await startRotating("anthropic"));
      const [settings] = own.config.rotations;
      if (!settings) throw new Error("no rotation");
      const made = own.makers.add("made in the console", "sk-ant-made-in-the-console-42");
      const accept = (key: { hint: string; print: string }): Promise<string[]> =>
        changeRotation(
          own,
          { type: "accept", place: "anthropic", by: "somebody", isLeaked: false, ...key },
          Date.now(),
        );
      await expect(handInKey(settings, own.old.value, accept)).rejects.toThrow("current already");
      // The books expect it, and the store does not have it yet.
      await accept({ hint: "e-42", print: "0123456789abcdef" });
      expect((await own.tick())?.waitsFor).toContain("hand it in again");
      await handInKey(settings, made.value, accept);
      expect(own.stored()).toBe(own.old.value);
      const rotation = await own.reach("revoked", 40_000);
      expect(own.stored()).toBe(made.value);
      expect(rotation).toMatchObject({ newKeyId: made.id, oldKeyId: own.old.id });
      expect([own.old.state, made.state]).toEqual(["revoked", "active"]);
    },
  );

  it("of a vendor without an API ends by somebody's word", { timeout: 60_000 }, async () => {
    const own = (bench = await startRotating("vendor"));
    const [settings] = own.config.rotations;
    if (!settings) throw new Error("no rotation");
    const begun = { type: "rotate", place: "vendor", by: "somebody", why: "", isLeaked: false } as const;
    await changeRotation(own, begun, Date.now());
    expect((await own.tick())?.waitsFor).toContain("keymeter rotate accept vendor");
    const made = own.makers.add("console");
    await handInKey(settings, made.value, (key) =>
      changeRotation(own, { type: "accept", place: "vendor", by: "somebody", isLeaked: false, ...key }, Date.now()),
    );
    expect((await own.reach("by_hand", 40_000)).waitsFor).toContain("keymeter rotate done vendor");
    expect(own.stored()).toBe(made.value);
    await changeRotation(own, { type: "rotateDone", place: "vendor", by: "somebody" }, Date.now());
    await own.reach("revoked");
  });
});
