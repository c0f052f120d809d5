// A client's trace: it goes on to the provider as it came, and stands in the event; what is no trace does not.
import { describe, expect, it } from "vitest";
import { openUsage } from "../../ledger/open.ts";
import { BEFORE_ALL, readCommits } from "../../ledger/usage/commits.ts";
import { readTrace } from "../../proxy/trace.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import { startProxy } from "../start-proxy.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

describe("traceparent", () => {
  it.each([
    [`00-${TRACE}`, TRACE],
    // A later version may say more.
    [`cc-${TRACE}-what-comes-later`, TRACE],
    [`00-${TRACE}-more`, undefined],
    [`ff-${TRACE}`, undefined],
    [`00-${"0".repeat(32)}-b7ad6b7169203331-01`, undefined],
    [`00-0af7651916cd43dd8448eb211c80319c-${"0".repeat(16)}-01`, undefined],
    [`00-${TRACE.toUpperCase()}`, undefined],
    [`00-${TRACE}'; DROP TABLE events`, undefined],
    ["", undefined],
    ["x".repeat(10_000), undefined],
  ])("%s", (traceparent, wanted) => {
    expect(readTrace({ traceparent })).toBe(wanted);
  });

  it("of a request is in its event, and at the provider as it came", async () => {
    const provider = await startFakeProvider(json(chatAnswer()));
    const running = await startProxy(provider.url);
    const { secret } = await running.createKey();
    const ask = async (headers: { [name: string]: string }): Promise<void> => {
      const answer = await fetch(`${running.url}/openai/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${secret}`, ...headers },
        body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }),
      });
      expect(answer.status).toBe(200);
      await answer.text();
    };
    await ask({ traceparent: `00-${TRACE}`, tracestate: "vendor=1" });
    await ask({ traceparent: "nonsense" });
    await ask({});
    expect((await running.events()).length).toBe(3);
    const usage = await openUsage(running.place);
    if (!usage) throw new Error("no books");
    const commits = await readCommits(usage, BEFORE_ALL, 10);
    expect(commits.map(({ event }) => event.trace)).toEqual([TRACE, null, null]);
    await usage.close();
    expect(provider.journal.map(({ headers }) => [headers["traceparent"], headers["tracestate"]])).toEqual([
      [`00-${TRACE}`, "vendor=1"],
      ["nonsense", undefined],
      [undefined, undefined],
    ]);
    await running.stop();
    await provider.close();
  });
});
