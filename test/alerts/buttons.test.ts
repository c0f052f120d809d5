// What people press in Slack, over the real Socket Mode client: who may do what, what is changed, what is said of it.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { listenToButtons } from "../../alerts/buttons.ts";
import type { Change } from "../../ledger/usage/changes.ts";
import { createLog } from "../../service/log.ts";
import { Secret } from "../../service/secret.ts";
import type { FakeSlack } from "../fake/slack.ts";
import { startFakeSlack } from "../fake/slack.ts";

describe("a press", () => {
  let slack: FakeSlack;
  let stop: () => Promise<void>;
  let changes: [Change, string][];
  let replies: [string, string][];
  let acknowledged: [string, string][];
  let refreshed: string[];
  let refusal: string | undefined;
  const ana = { id: "U0ANA", name: "ana" };
  const bob = { id: "U0BOB", name: "bob" };
  const GROUP = '{}:{team="search", topic="forecast"}';

  beforeEach(async () => {
    [changes, replies, acknowledged, refreshed, refusal] = [[], [], [], [], undefined];
    slack = await startFakeSlack();
    const listening = listenToButtons(new Secret("xapp-test"), slack.url, {
      mayChange: [ana.id],
      timezone: "UTC",
      usage: async () => undefined,
      change: async (change, actor) => {
        if (refusal !== undefined) throw new Error(refusal);
        changes.push([change, actor]);
      },
      acknowledge: async (groupKey, by) => void acknowledged.push([groupKey, by]),
      refresh: async (groupKey) => void refreshed.push(groupKey),
      leak: async () => ["it is replaced"],
      command: "keymeter",
      reply: async (groupKey, text) => void replies.push([groupKey, text]),
      log: createLog("test", "silent"),
    });
    stop = () => listening.stop();
    await vi.waitFor(() => {
      if (slack.listening() !== 1) throw new Error("the client has not connected");
    });
  });
  afterEach(async () => {
    await stop();
    await slack.close();
  });

  it("of Acknowledge is everybody's", async () => {
    slack.press("keymeter_acknowledge", GROUP, bob);
    await expect.poll(() => acknowledged).toEqual([[GROUP, "bob"]]);
  });

  it("that pauses a key is done for those who may, in their name, and said in the thread", async () => {
    slack.press("keymeter_pause", `key_1 ${GROUP}`, ana);
    await expect.poll(() => replies.length).toBe(1);
    expect(changes).toEqual([[{ type: "setKeyState", keyId: "key_1", state: "paused" }, "slack:ana"]]);
    expect(replies[0]).toEqual([GROUP, expect.stringContaining("<@U0ANA> paused key_1")]);
  });

  it("by anybody else changes nothing, and says so", async () => {
    slack.press("keymeter_pause", `key_1 ${GROUP}`, bob);
    await expect.poll(() => replies.length).toBe(1);
    expect(changes).toEqual([]);
    expect(replies[0]?.[1]).toContain("may not do that");
  });

  it("that cannot be done says why", async () => {
    refusal = "key key_1 is revoked";
    slack.press("keymeter_pause", `key_1 ${GROUP}`, ana);
    await expect.poll(() => replies[0]?.[1]).toContain("Could not be done: key key_1 is revoked");
    slack.press("keymeter_raise", `bud_1 ${GROUP}`, ana);
    await expect.poll(() => replies[1]?.[1]).toContain("there is no budget bud_1");
  });
});
