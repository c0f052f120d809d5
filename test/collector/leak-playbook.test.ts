// What is done about a provider key that leaked: ours is replaced, a client's is paused, whatever can be is taken away, never
// what proxies use; all of it again and again; and the note on it.
import { afterEach, describe, expect, it } from "vitest";
import { actOnLeak } from "../../collector/leak/playbook.ts";
import type { LeakContext, LeakStep } from "../../collector/leak/playbook.ts";
import { changeRotation } from "../../collector/rotation/change.ts";
import { writeLeakNote } from "../../collector/leak/note.ts";
import { statedOf } from "../../collector/match.ts";
import { replaceProviderKeys } from "../../ledger/billing/bills.ts";
import { noteLeak } from "../../ledger/billing/leaks.ts";
import { readRotations, readUsedPlaces } from "../../ledger/billing/rotations.ts";
import { HOUR_MS } from "../../ledger/windows.ts";
import type { FakeKey } from "../fake/made-keys.ts";
import { slowChat } from "../fake/slow-chat.ts";
import { startFakeSlack } from "../fake/slack.ts";
import { freePorts } from "../free-ports.ts";
import { runKeymeter, startKeymeter } from "../run-keymeter.ts";
import { IS_PROOF } from "../seed.ts";
import { startRotating } from "./rotating.ts";
import type { Bench } from "./rotating.ts";

describe("the playbook of a leak", () => {
  let bench: Bench | undefined;
  afterEach(async () => {
    await bench?.close().catch(() => undefined);
    bench = undefined;
  });

  const contextOf = ({ usage, billing, config, running }: Bench): LeakContext => ({
    books: { usage, billing },
    rotations: config.rotations,
    stated: statedOf(config),
    change: async (change) => {
      expect(await running.change(change)).toBeLessThan(300);
    },
  });
  /** What the collector reads of the provider's keys. */
  const read = async ({ billing, makers }: Bench, hintOf = (key: FakeKey) => `sk-...${key.value.slice(-4)}`) => {
    const keys = makers.keys.map((key) => ({ billedKey: key.id, name: key.name, hint: hintOf(key), state: key.state }));
    await replaceProviderKeys(billing, "openai", keys, Date.now());
  };
  const found = async ({ billing }: Bench, key: FakeKey): Promise<void> => {
    const hour = Math.floor(Date.now() / HOUR_MS) * HOUR_MS;
    await noteLeak(
      billing,
      {
        provider: "openai",
        billedKey: key.id,
        kind: "beyond_metered",
        firstHourMs: hour - 3 * HOUR_MS,
        lastHourMs: hour,
        quantity: 1_234_567,
        unit: "tokens",
        costNanoUsd: 12_340_000_000n,
        models: ["gpt-4o-mini"],
      },
      Date.now(),
    );
  };
  const act = (own: Bench, key: FakeKey, without: readonly LeakStep[] = [], isDry = false): Promise<string[]> =>
    actOnLeak(
      contextOf(own),
      { type: "leak", provider: "openai", billedKey: key.id, by: "anna", without },
      Date.now(),
      isDry,
    );

  it(
    "replaces what proxies use, and takes it away when its last request has ended; again it says so",
    { timeout: 60_000 },
    async () => {
      const own = (bench = await startRotating("openai"));
      expect(await own.ask(1)).toBe(200);
      await read(own);
      await found(own, own.old);
      expect(await act(own, own.old, [], true)).toContain(
        `openai would get another key, and ${own.old.id} would be taken away at once.`,
      );
      expect(await readRotations(own.billing)).toEqual([]);
      const said = await act(own, own.old);
      expect(said.join("\n")).toMatch(
        /^rot_\w+: a rotation of openai has begun[\s\S]*is taken away as soon as its last request here has ended[\s\S]*Left to do: watch it for a day/,
      );
      expect((await act(own, own.old)).join("\n")).toMatch(
        /A rotation of openai goes on already, and waits for nothing/,
      );
      const rotation = await own.reach("revoked");
      expect(rotation).toMatchObject({ isLeaked: true, startedBy: "anna", why: "it leaked" });
      expect(own.old.state).toBe("revoked");
      await expect.poll(() => own.ask(2), { timeout: 5_000 }).toBe(200);
      expect((await act(own, own.old)).join("\n")).toMatch(/Keymeter keys are not swapped for it/);

      const { markdown, damageNanoUsd } = await writeLeakNote(contextOf(own), "openai", own.old.id, Date.now());
      expect(damageNanoUsd).toBe(12_340_000_000n);
      for (const part of [
        `# Leaked key: openai ${own.old.id} "by hand" sk-...cdef`,
        "1234567 tokens, about $12.34",
        "gpt-4o-mini",
        "found by Keymeter",
        `${own.old.id} is deleted`,
        "which is no damage",
      ])
        expect(markdown).toContain(part);
      expect(markdown).not.toContain(own.old.value);
      await own.billing.close();
      const beside = { ...own.running, environment: own.environment };
      const { code, text } = await runKeymeter(beside, "leak", "openai", own.old.id, "--note");
      expect([code, text]).toEqual([0, expect.stringContaining("## What it cost") as string]);
      expect((await runKeymeter(beside, "leak", "openai", "key_of_nobody", "--note")).text).toContain(
        "openai has no key key_of_nobody that was read",
      );
    },
  );

  it("is written down without what others would have it say", { timeout: 60_000 }, async () => {
    const own = (bench = await startRotating("openai"));
    const evil = own.makers.add(
      "x](https://evil.example) <!channel> ![i](a)\n# Not a leak \u001b[2J",
      "sk-evil-0123456789-evil",
    );
    await read(own);
    await found(own, evil);
    const { markdown } = await writeLeakNote(contextOf(own), "openai", evil.id, Date.now());
    expect(markdown).not.toMatch(/[^\\]\]\(|[^\\]<|^# Not/m);
    expect(markdown).not.toContain("\u001b");
    expect(markdown.split("\n").filter((line) => line.startsWith("# "))).toHaveLength(1);
  });

  it("pauses a client's own key here, and takes it away there", { timeout: 60_000 }, async () => {
    const own = (bench = await startRotating("openai"));
    const theirs = own.makers.add("a client's", "sk-clients-own-0123456789wxyz");
    const ask = async (): Promise<number> => {
      const answer = await fetch(`${own.running.url}/openai/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${theirs.value}` },
        body: slowChat(7, false),
      });
      await answer.text();
      return answer.status;
    };
    expect(await ask()).toBe(200);
    await read(own);
    await found(own, theirs);
    const left = await act(own, theirs, ["revoke"]);
    expect(left.join("\n")).toMatch(/is paused in Keymeter[\s\S]*Taking it away was left out/);
    expect(theirs.state).toBe("active");
    expect(await ask()).toBe(403);
    const said = (await act(own, theirs)).join("\n");
    expect(said).toMatch(/is paused in Keymeter already/);
    expect(said).toContain(`${theirs.id} is taken away at the provider.`);
    expect(said).toContain("Left to do: give whoever holds");
    expect([theirs.state, own.old.state]).toEqual(["revoked", "active"]);
    // Again: it is gone, or nobody here sees it.
    expect((await act(own, theirs)).join("\n")).toContain("it is gone already, or in another project");
  });

  it(
    "takes away a key that nobody here knows, and never what proxies use, though nobody can tell them apart",
    { timeout: 60_000 },
    async () => {
      const own = (bench = await startRotating("openai"));
      expect(await own.ask(1)).toBe(200);
      const stranger = own.makers.add("a stranger's", "sk-strangers-0123456789zzzz");
      // The provider shows nothing by which its keys could be matched.
      await read(own, () => "");
      await found(own, stranger);
      expect((await act(own, stranger)).join("\n")).toContain(`${stranger.id} is taken away at the provider.`);
      expect(stranger.state).toBe("revoked");
      await found(own, own.old);
      expect((await act(own, own.old)).join("\n")).toContain("is not taken away: it is what proxies use at openai");
      expect(own.old.state).toBe("active");
      await expect(
        actOnLeak(
          contextOf(own),
          { type: "leak", provider: "openai", billedKey: "unmatched", by: "a", without: [] },
          0,
        ),
      ).rejects.toThrow("which of the provider's keys leaked is not known");
    },
  );

  it("takes away nothing that proxies use at a place of which no rotation knows", { timeout: 60_000 }, async () => {
    const own = (bench = await startRotating("openai"));
    expect(await own.ask(1)).toBe(200);
    const staging = own.makers.add("staging", "sk-staging-0123456789-stag");
    const { credential } = (await readUsedPlaces(own.usage)).find(({ place }) => place === "openai") ?? {};
    const { writer } = own.running.proxy;
    await writer.noteSeen({
      credentials: [{ provider: "openai/staging", credential: "fp_staging", hint: "stag", atMs: Date.now() }],
    });
    expect(credential).toBeDefined();
    await read(own);
    await found(own, staging);
    const said = (await act(own, staging)).join("\n");
    expect(said).toContain(
      "Keymeter keys are swapped for it at openai/staging, and collector.rotation does not say how",
    );
    expect(said).not.toContain("is taken away at the provider");
    expect(staging.state).toBe("active");
    // Which it is cannot be told any more: then nothing is taken away at all.
    await read(own, ({ value }) => (value.endsWith("stag") ? "" : `sk-...${value.slice(-4)}`));
    expect((await act(own, staging)).join("\n")).toContain("which key proxies use at openai/staging cannot be told");
    expect(staging.state).toBe("active");
  });

  it.skipIf(!IS_PROOF)(
    "takes less than five minutes with the usual patience: replaced, revoked, estimated, told; no request fails for it",
    { timeout: 400_000 },
    async () => {
      const own = (bench = await startRotating("openai", "", "file", 60));
      const slack = await startFakeSlack();
      const ports = await freePorts();
      const environment = {
        ...own.environment,
        ...ports,
        KEYMETER_OPS_PORT: new URL(own.running.opsUrl).port,
        KEYMETER_SLACK_URL: slack.url,
        SLACK_BOT_TOKEN: "xoxb-test",
        SLACK_CHANNEL: "C0000000001",
      };
      expect(await own.ask(1)).toBe(200);
      await read(own);
      await found(own, own.old);
      await own.billing.close();
      const beside = { ...own.running, environment };
      const collector = startKeymeter(beside, "collector");
      const isUp = async (): Promise<boolean> =>
        fetch(`http://127.0.0.1:${ports["KEYMETER_COLLECTOR_PORT"]}/healthz`).then(
          () => true,
          () => false,
        );
      await expect.poll(isUp, { timeout: 30_000 }).toBe(true);
      const statuses: number[] = [];
      const over = new AbortController();
      const load = (async () => {
        for (let n = 2; !over.signal.aborted; n++) statuses.push(await own.ask(n, n % 2 === 0));
      })();
      const begunMs = Date.now();
      const { code, text } = await runKeymeter(beside, "leak", "openai", own.old.id, "--yes", "--slack");
      const tookMs = Date.now() - begunMs;
      over.abort();
      await load;
      await collector.stop();
      process.stdout.write(`from the command to the note in Slack: ${Math.round(tookMs / 1000)} s\n`);
      expect(code, text).toBe(0);
      expect(tookMs).toBeLessThan(5 * 60_000);
      expect(own.old.state).toBe("revoked");
      expect(new Set(statuses)).toEqual(new Set([200]));
      expect(Math.max(...own.old.usedAtMs)).toBeLessThan(own.old.revokedAtMs ?? 0);
      expect([...slack.messages.values()].join("\n")).toContain("A provider key leaked");
      await slack.close();
    },
  );

  it("hastens a rotation that goes on", { timeout: 60_000 }, async () => {
    const own = (bench = await startRotating("openai"));
    expect(await own.ask(1)).toBe(200);
    await read(own);
    await found(own, own.old);
    await changeRotation(own, { type: "rotate", place: "openai", by: "ben", why: "", isLeaked: false }, Date.now());
    await own.reach("draining");
    expect((await act(own, own.old)).join("\n")).toContain("waits for nothing any more");
    await own.reach("revoked", 10_000);
    const [{ newKeyId } = { newKeyId: null }] = await readRotations(own.billing);
    expect(newKeyId).not.toBeNull();
  });
});
