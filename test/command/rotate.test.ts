// keymeter rotate, beside a real collector that carries it out.
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, it } from "vitest";
import { openUsage } from "../../ledger/open.ts";
import { rowsOf } from "../../ledger/engine.ts";
import { ADMIN_KEY } from "../fake/key-makers.ts";
import { freePorts } from "../free-ports.ts";
import { isTurnOf } from "../skipped.ts";
import { runKeymeter, startKeymeter } from "../run-keymeter.ts";
import { startRotating } from "../collector/rotating.ts";
import type { Bench } from "../collector/rotating.ts";

describe.skipIf(!isTurnOf(1, 4, "keymeter rotate, with a real collector"))("keymeter rotate", () => {
  let bench: Bench | undefined;
  let collector: { stop(): Promise<number | null> } | undefined;
  afterEach(async () => {
    await collector?.stop();
    await bench?.close().catch(() => undefined);
  });

  it(
    "says what it would do, begins, is carried out by the collector that runs, and goes back",
    { timeout: 90_000 },
    async () => {
      const { running, environment, makers, old, ask, stored, billing } = (bench = await startRotating("openai"));
      await billing.close();
      const ports = await freePorts();
      const beside = {
        ...running,
        environment: { ...environment, ...ports, KEYMETER_OPS_PORT: new URL(running.opsUrl).port },
      };
      const run = async (...args: string[]): Promise<string> => {
        const { code, text } = await runKeymeter(beside, "rotate", ...args);
        expect(text).not.toContain(ADMIN_KEY);
        expect(text).not.toContain(old.value);
        return `${code}\n${text}`;
      };
      expect(await ask(1)).toBe(200);
      expect(await run("status")).toMatch(/^0\ncredential[\s\S]*openai +…cdef/);
      const plan = await run("openai", "--dry-run");
      expect(plan).toContain(`(…cdef, ${old.id}) is in file:`);
      expect(plan).toContain("Nothing was changed.");
      expect(makers.keys).toHaveLength(1);
      expect(await run("anthropic")).toMatch(
        /^[12]\n.*collector\.rotation in keymeter\.yaml has no anthropic; it has openai/,
      );
      expect(await run("back", "openai")).toContain("no rotation of openai goes on");

      expect(await run("key:ci")).toMatch(/^[12]\n.*collector\.key_rotation in keymeter\.yaml has no ci/);
      expect(await run("done", "key:ci")).toContain("no rotation of key:ci goes on");
      expect(await run("back", "key:ci")).toMatch(/^2\n.*it begins here/);

      // No collector runs: it is written down.
      expect(await run("openai", "--why", "a test")).toMatch(/^0\nrot_\w+: a rotation of openai has begun/);
      expect(makers.keys).toHaveLength(1);
      expect(await run("openai")).toContain("goes on already");
      collector = startKeymeter(beside, "collector");
      const state = async (): Promise<string> => {
        const text = await run("status", "--json");
        return (JSON.parse(text.slice(2)) as { rotations: { state: string }[] }).rotations[0]?.state ?? "";
      };
      await expect.poll(state, { timeout: 40_000, interval: 500 }).toBe("draining");
      expect(stored()).not.toBe(old.value);
      expect(await run("status")).toMatch(/draining since[\s\S]*begun by [\s\S]*: a test[\s\S]*waits: /);
      expect(await run("back", "openai")).toMatch(/^0\nrot_\w+: the old key of openai will be current again/);
      await expect.poll(stored, { timeout: 20_000 }).toBe(old.value);
      await sleep(500);
      const usage = await openUsage(running.place);
      const audit = usage
        ? await rowsOf<[action: string, subject: string, detail: string]>(
            usage,
            "SELECT action, subject, detail FROM audit",
            [],
          )
        : [];
      await usage?.close();
      const steps = audit.filter(([action]) => action === "rotateCredential");
      expect(steps.map(([, subject]) => subject)).toContain("openai");
      expect(JSON.stringify(audit)).not.toContain(old.value);
      expect(JSON.stringify(steps)).toContain("waits beside");
    },
  );
});
