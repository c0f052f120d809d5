// Coding agents under a strict budget: every field, tool, block, header and beta that they are known to send passes,
// and is held.
import { readdirSync, readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { withBench } from "./bench.ts";
import type { Headers } from "./bench.ts";

type Agent = {
  readonly agent: string;
  readonly source: string;
  readonly path: string;
  /** The header that holds its key. */
  readonly key: "authorization" | "x-api-key" | "x-goog-api-key";
  readonly headers: Headers;
  readonly requests: readonly {
    readonly turn: string;
    /** Where it differs. */
    readonly path?: string;
    readonly headers: Headers;
    readonly body: { readonly [field: string]: unknown };
  }[];
};

const FOLDER = new URL("../fixtures/agents/", import.meta.url);
const AGENTS = readdirSync(FOLDER).map(
  (name): Agent => JSON.parse(readFileSync(new URL(name, FOLDER), "utf8")) as Agent,
);
const TURNS = AGENTS.flatMap(({ requests, ...agent }) =>
  requests.map((request) => [agent.agent, request.turn, agent, request] as const),
);

const bench = withBench();

function send(
  secret: string,
  agent: Omit<Agent, "requests">,
  request: Agent["requests"][number],
  more: object = {},
): Promise<Response> {
  return fetch(bench.running.url + (request.path ?? agent.path), {
    method: "POST",
    headers: {
      "content-type": "application/json",
      accept: "*/*",
      ...agent.headers,
      ...request.headers,
      [agent.key]: agent.key === "authorization" ? `Bearer ${secret}` : secret,
    },
    body: JSON.stringify({ ...request.body, ...more }),
  });
}

it("there are at least six agents, each with its source", () => {
  expect(new Set(AGENTS.map(({ agent }) => agent.split(" ")[0])).size).toBeGreaterThanOrEqual(6);
  for (const { source } of AGENTS) expect(source).toMatch(/^https:\/\//);
});

it.each(TURNS)(
  "%s, %s: passes under a strict budget, and is booked as billed",
  async (_agent, _turn, agent, request) => {
    bench.provider.behaviour = { hidden: 20, words: 5 };
    bench.provider.forget();
    const held = await bench.keyUnder("1000", "strict");
    const answer = await send(held.secret, agent, request);
    const said = await answer.text();
    expect([answer.status, answer.status === 200 ? "" : said]).toEqual([200, ""]);
    expect(said).toContain("word");
    expect(bench.provider.billed()).toBeGreaterThan(0n);
    expect(await bench.settled(held.id)).toBe(bench.provider.billed());
  },
);

it.each(TURNS)(
  "%s, %s: reaches no provider under a strict budget of nothing",
  async (_agent, _turn, agent, request) => {
    const before = bench.provider.journal.length;
    const held = await bench.keyUnder("0.000000001", "strict");
    const answer = await send(held.secret, agent, request);
    // Codex obeys another status alone.
    expect(answer.status).toBe(agent.agent.startsWith("Codex") ? 429 : 402);
    expect(await answer.text()).toContain("the request does not fit");
    expect(bench.provider.journal.length).toBe(before);
  },
);

it.each([
  [
    "Claude Code",
    "tools",
    [{ type: "web_search_20250305", name: "web_search", max_uses: 8 }],
    "tool web_search_20250305",
  ],
  ["Claude Code", "mcp_servers", [{ type: "url", name: "m", url: "https://m.example" }], "mcp_servers"],
  ["Claude Code", "fallbacks", [{ model: "claude-opus-4-6" }], 'the field "fallbacks"'],
  ["Codex", "tools", [{ type: "web_search", external_web_access: false }], "tool web_search"],
  ["gemini-cli", "tools", [{ googleSearch: {} }], "tool googleSearch"],
  ["gemini-cli", "tools", [{ urlContext: {} }], "tool urlContext"],
])("%s's %s that run at the provider are refused by name: %j", async (name, field, value, reason) => {
  const before = bench.provider.journal.length;
  const [agent] = AGENTS.filter((one) => one.agent.startsWith(name));
  const request = agent?.requests[0];
  if (!agent || !request) throw new Error(`no ${name}`);
  const held = await bench.keyUnder("1000", "strict");
  const answer = await send(held.secret, agent, request, { [field]: value });
  expect([402, 429]).toContain(answer.status);
  expect((await answer.text()).replaceAll(String.raw`\"`, '"')).toContain(reason);
  expect(bench.provider.journal.length).toBe(before);
});
