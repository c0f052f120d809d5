// The stand-ins of providers that make keys: what the makers' own clients read of them.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ADMIN_KEY, startFakeMakers } from "../fake/key-makers.ts";
import type { FakeMakers } from "../fake/key-makers.ts";

describe("the stand-ins of key makers", () => {
  let makers: FakeMakers;
  beforeEach(async () => {
    makers = await startFakeMakers();
  });
  afterEach(() => makers.close());

  it("answer OpenAI's own client as its admin API does", async () => {
    const client = new OpenAI({ apiKey: null as never, adminAPIKey: ADMIN_KEY, baseURL: `${makers.url}/v1` });
    const first = makers.add("one");
    makers.add("two");
    makers.add("three");
    const keys = client.admin.organization.projects.apiKeys;
    const names: string[] = [];
    for await (const { name } of keys.list("proj_1")) names.push(name);
    expect(names).toEqual(["one", "two", "three"]);
    expect((await keys.retrieve(first.id, { project_id: "proj_1" })).redacted_value).toMatch(/^sk-made\.\.\./);
    await keys.delete(first.id, { project_id: "proj_1" });
    const made = await client.admin.organization.projects.serviceAccounts.apiKeys.create("user-1", {
      project_id: "proj_1",
      name: "four",
    });
    expect(makers.keys.at(-1)).toMatchObject({ id: made.id, value: made.value, name: "four" });
    expect(first.state).toBe("revoked");
  });

  it("answer Anthropic's own client as its admin API does", async () => {
    const client = new Anthropic({ apiKey: ADMIN_KEY, baseURL: makers.url });
    const first = makers.add("one");
    makers.add("two");
    const names: string[] = [];
    for await (const { name } of client.organization.apiKeys.list()) names.push(name);
    expect(names).toEqual(["one", "two"]);
    await client.organization.apiKeys.update(first.id, { status: "inactive" });
    expect(first.state).toBe("disabled");
  });
});
