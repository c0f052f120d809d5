// Tags: from our headers, from those of other gateways, and from the bodies; bounded, stored with the event, never sent
// on.
import { expect, it } from "vitest";
import { json } from "../fake/provider.ts";
import { withProxy } from "../with-proxy.ts";

const bench = withProxy(json({}), { KEYMETER_DURABILITY: "process" });

const CHAT = "/openai/v1/chat/completions";

async function tagsOf(headers: { [name: string]: string }, body: object = {}, path = CHAT): Promise<object> {
  const before = (await bench.running.events()).length;
  await fetch(bench.running.url + path, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer sk-test-tags-client", ...headers },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [], ...body }),
  });
  await expect.poll(async () => (await bench.running.events()).length).toBe(before + 1);
  return (await bench.running.events()).at(-1)?.tags ?? {};
}

it.each([
  [
    { "x-keymeter-feature": "search", "x-keymeter-team": "core" },
    { feature: "search", team: "core" },
  ],
  [{ "x-keymeter-tags": "a=1, b=two ,c" }, { a: "1", b: "two", c: "true" }],
  [{ "x-litellm-tags": "batch,env=prod" }, { batch: "true", env: "prod" }],
  [{ "helicone-property-session": "s1", "helicone-user-id": "u1" }, { session: "s1" }],
  [{ "x-portkey-metadata": '{"_user":"u2","tries":3,"deep":{"x":1}}' }, { tries: "3" }],
  [{ "cf-aig-metadata": '{"beta":true}' }, { beta: "true" }],
  [{ "x-portkey-metadata": "no json" }, {}],
])("the headers %j are the tags %j, and go no further", async (headers, tags) => {
  expect(await tagsOf(headers)).toEqual(tags);
  for (const name of Object.keys(headers)) expect(bench.provider.journal.at(-1)?.headers[name]).toBeUndefined();
});

it("the bodies' own fields are tags too: metadata, labels; a user is none", async () => {
  expect(await tagsOf({}, { user: "u3", metadata: { feature: "chat", depth: 7 } })).toEqual({
    feature: "chat",
  });
  expect(await tagsOf({}, { safety_identifier: "u4" })).toEqual({});
  expect(await tagsOf({}, { metadata: { user_id: "u5" } }, "/anthropic/v1/messages")).toEqual({});
  const gemini = "/google/v1beta/models/gemini-2.5-flash:generateContent";
  expect(await tagsOf({}, { contents: [], labels: { feature: "ocr" } }, gemini)).toEqual({ feature: "ocr" });
});

it("a header's word counts before a body's, ours before that of others", async () => {
  const headers = { "x-keymeter-feature": "ours", "helicone-property-feature": "theirs" };
  expect(await tagsOf(headers, { metadata: { feature: "body" } })).toEqual({ feature: "ours" });
});

it("there are 32 at most, names of 64 characters, values of 256; odd names and control characters are left out", async () => {
  const many = Array.from({ length: 50 }, (_, i) => `t${i}=${i}`).join(",");
  expect(Object.keys(await tagsOf({ "x-keymeter-tags": many }))).toHaveLength(32);
  const metadata = { ["n".repeat(100)]: "v".repeat(1_000), "bad name": "x", "": "y", __proto__x: "z", line: "a\nb" };
  const tags = await tagsOf({}, { metadata });
  expect(tags).toEqual({ ["n".repeat(64)]: "v".repeat(256), line: "a b" });
});
