// What clients and providers make up: usage that is stated early or in odd ways, names without number, guesses without
// end, turns that say nothing of what they used. Clients get what the provider sent, each attempt ends in the books,
// and rows and series stay bounded.
import { beforeAll, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { createCollectorMetrics } from "../../collector/gauges/index.ts";
import { METRICS_SETTINGS } from "../collector/metrics-settings.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import { startFakeSocketProvider } from "../fake/socket-provider.ts";
import { openOrganisation } from "../organisation.ts";
import { IS_CI } from "../seed.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import {
  ask,
  CHAT,
  countInBooks,
  EMBEDDINGS,
  GEMINI,
  GEMINI_STREAM,
  heldAttempts,
  MESSAGES,
  RESPONSES,
  SSE,
} from "./asking.ts";
import { withProxy } from "../with-proxy.ts";

describe("an answer whose usage is stated early", () => {
  const bench = withProxy(() => {}, { KEYMETER_DURABILITY: "process" });

  const usage = { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 };
  const chunk = (delta: object): object => ({ id: "c", model: "gpt-4o-mini", choices: [{ index: 0, delta }] });
  const chatBody = { model: "gpt-4o-mini", stream: true, max_tokens: 50, messages: [] };
  const told = { ...chatBody, stream_options: { include_usage: true } };
  const early = { id: "c", model: "gpt-4o-mini", choices: [], usage };
  const chatEnd = [
    { id: "c", model: "gpt-4o-mini", choices: [{ index: 0, delta: {}, finish_reason: "stop" }] },
    early,
    "[DONE]",
  ];
  const response = {
    id: "r",
    model: "gpt-4o-mini",
    usage: { input_tokens: 100, output_tokens: 20, total_tokens: 120 },
  };
  const claude = { id: "m", model: "claude-haiku-4-5", usage: { input_tokens: 100, output_tokens: 1 } };
  const delta = { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 20 } };
  const gemini = (text: string, more: object = {}): object => ({
    candidates: [{ index: 0, content: { parts: [{ text }] }, ...more }],
    usageMetadata: { promptTokenCount: 100, candidatesTokenCount: 20, totalTokenCount: 120 },
    modelVersion: "gemini-2.5-flash",
  });
  type Event = object | string;
  type Case = readonly [
    name: string,
    path: string,
    body: object,
    first: readonly Event[],
    next: Event,
    end: readonly Event[],
  ];
  const CASES: readonly Case[] = [
    ["chat completions", CHAT, told, [early], chunk({ content: "word" }), chatEnd],
    [
      "chat completions, of which the client does not see it",
      CHAT,
      chatBody,
      [early],
      chunk({ content: "word" }),
      chatEnd,
    ],
    ["chat completions that reason", CHAT, told, [early], chunk({ reasoning_content: "hm" }), chatEnd],
    [
      "chat completions that call tools",
      CHAT,
      told,
      [early],
      chunk({ tool_calls: [{ index: 0, function: { arguments: "{" } }] }),
      chatEnd,
    ],
    ["chat completions that speak", CHAT, told, [early], chunk({ audio: { id: "a", data: "UklGRg==" } }), chatEnd],
    [
      "responses",
      RESPONSES,
      { model: "gpt-4o-mini", stream: true, max_output_tokens: 50, input: "x" },
      [{ type: "response.created", response }],
      { type: "response.output_text.delta", delta: "word" },
      [{ type: "response.completed", response }],
    ],
    [
      "messages",
      MESSAGES,
      { model: "claude-haiku-4-5", stream: true, max_tokens: 50, messages: [] },
      [{ type: "message_start", message: claude }, delta],
      { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "word" } },
      [delta, { type: "message_stop" }],
    ],
    [
      "Gemini",
      GEMINI_STREAM,
      { contents: [], generationConfig: { maxOutputTokens: 50 } },
      [gemini("")],
      gemini("word"),
      [gemini(".", { finishReason: "STOP" })],
    ],
  ];
  it.each(CASES)(
    "%s: the client gets the rest while it comes, and the last count is booked",
    async (_name, path, body, first, next, end) => {
      const PIECES = 2_000;
      const line = (event: Event): string => `data: ${typeof event === "string" ? event : JSON.stringify(event)}\n\n`;
      const many = line(next).repeat(PIECES);
      const start = first.map(line).join("");
      const whole = start + many + end.map(line).join("");
      let got = "";
      let hasMost: () => void = () => {};
      let isInVain = false;
      bench.provider.script = async (_arrived, answer) => {
        answer.writeHead(200, { "content-type": SSE });
        answer.write(start);
        answer.write(many);
        // The end comes when the client has most of it, or when it has waited in vain.
        const inVain = new Promise<void>((resolve) => {
          setTimeout(() => ((isInVain = true), resolve()), 2_000).unref();
        });
        await Promise.race([new Promise<void>((resolve) => (hasMost = resolve)), inVain]);
        isInVain &&= got.length < many.length * 0.9;
        answer.end(end.map(line).join(""));
      };
      const before = (await bench.running.events()).length;
      const answer = await fetch(bench.running.url + path, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: "Bearer sk-test-early-usage" },
        body: JSON.stringify(body),
      });
      if (!answer.body) throw new Error("no body");
      for await (const piece of answer.body) {
        got += Buffer.from(piece as Uint8Array).toString("latin1");
        if (got.length >= many.length * 0.9) hasMost();
      }
      expect(isInVain, "the client did not get it while it came").toBe(false);
      expect(got).toBe(body === chatBody ? whole.replaceAll(line(early), "") : whole);
      await expect.poll(async () => (await bench.running.events()).length).toBe(before + 1);
      expect((await bench.running.events()).at(-1)).toMatchObject({
        usageState: "reported",
        usage: { input: 100, output: 20 },
        outcome: "complete",
      });
    },
  );
});

/** Does the work for each number, sixteen at once. */
async function forEach(count: number, work: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      while (next < count) await work(next++);
    }),
  );
}

describe("names that clients make up", () => {
  /** As many of a kind are taken up; and `other`. */
  const MOST_NAMES = 501;
  /** As many models of a key are told apart among what is refused in an hour; and `other`. */
  const MOST_REFUSED = 51;
  const COUNT = IS_CI ? 5_000 : 550;
  const bench = withProxy(
    (arrived, response) => {
      const isKnown = arrived.headers.authorization === "Bearer sk-proj-provider-credential-openai";
      response
        .writeHead(isKnown ? 200 : 401, { "content-type": "application/json" })
        .end(JSON.stringify(isKnown ? chatAnswer() : { error: { message: "no such key" } }));
    },
    { KEYMETER_DURABILITY: "process" },
  );
  const chat = (model = "gpt-4o-mini"): object => ({ model, max_tokens: 9, messages: [] });
  const count = (query: string): number => countInBooks(bench.running.dataDir, query);
  const rows = (what: string): number => count(`SELECT count(DISTINCT ${what}) FROM rollup_hour`);
  const linesOf = (metrics: string): number =>
    metrics.split("\n").filter((line) => line !== "" && !line.startsWith("#")).length;
  const seriesOfProxy = async (): Promise<number> =>
    linesOf(await (await fetch(`${bench.running.opsUrl}/metrics`)).text());
  const seriesOfCollector = async (): Promise<number> => {
    const books = await openOrganisation(bench.running.dataDir);
    const metrics = createCollectorMetrics(books, { ...METRICS_SETTINGS, dataDir: bench.running.dataDir }, []);
    await metrics.refresh(Date.now());
    const text = await metrics.registry.metrics();
    await books.close();
    return linesOf(text);
  };

  it("as teams, projects and environments of one key: rows and series stay within 500 of each, and other", async () => {
    const { secret } = await bench.running.createKey({ team: "", env: "" });
    const tagged = (start: string) => async (i: number) => {
      const headers = {
        "x-keymeter-team": `${start}-t${i}`,
        "x-keymeter-project": `${start}-p${i}`,
        "x-keymeter-env": `${start}-e${i}`,
      };
      expect((await ask(bench.running.url, secret, CHAT, chat(), headers)).status).toBe(200);
    };
    await forEach(COUNT, tagged("one"));
    expect(await bench.running.events()).toHaveLength(COUNT);
    for (const what of ["team", "project", "env"]) {
      expect(rows(what), what).toBeLessThanOrEqual(MOST_NAMES);
      // Those that were first are told apart.
      expect(rows(what), what).toBeGreaterThan(100);
    }
    const series = await seriesOfCollector();
    await forEach(100, tagged("other"));
    for (const what of ["team", "project", "env"]) expect(rows(what), what).toBeLessThanOrEqual(MOST_NAMES);
    expect(await seriesOfCollector()).toBeLessThanOrEqual(series + 20);
  });

  it("as models of a key at its cap: they are counts, never a row each", async () => {
    const { id, secret } = await bench.running.createKey();
    await bench.running.setBudget({ scope: { keyId: id }, amountNanoUsd: 0n });
    const series = await seriesOfProxy();
    const arrived = bench.provider.journal.length;
    await forEach(COUNT, async (i) => {
      expect((await ask(bench.running.url, secret, CHAT, chat(`gpt-4o-mini-${i}`))).status).toBe(402);
    });
    expect(bench.provider.journal.length).toBe(arrived);
    const refused = `FROM refused WHERE key_id = '${id}'`;
    await expect.poll(() => count(`SELECT COALESCE(SUM(count), 0) ${refused}`)).toBe(COUNT);
    expect(count(`SELECT count(DISTINCT model) ${refused}`)).toBeLessThanOrEqual(MOST_REFUSED);
    expect((await seriesOfProxy()) - series).toBeLessThan(20);
  });

  it("as keys that no provider knows, with models and teams that nobody has: one key, one model, no team", async () => {
    const counted = (): number[] => ["key_id", "requested_model", "team"].map(rows);
    const before = counted();
    const series = [await seriesOfProxy(), await seriesOfCollector()];
    await forEach(COUNT, async (i) => {
      const headers = { "x-keymeter-team": `stranger-${i}` };
      const secret = `sk-made-up-${i}-${"x".repeat(20)}`;
      expect((await ask(bench.running.url, secret, CHAT, chat(`model-${i}`), headers)).status).toBe(401);
    });
    const more = counted().map((one, i) => one - (before[i] ?? 0));
    expect(Math.max(...more), `more keys, models and teams: ${more.join(", ")}`).toBeLessThanOrEqual(1);
    expect((await seriesOfProxy()) - (series[0] ?? 0)).toBeLessThan(20);
    // Those of one key and one model.
    expect((await seriesOfCollector()) - (series[1] ?? 0)).toBeLessThan(60);
  });

  it("as keys that no provider knows, where a cap is used up: they are counts of one key", async () => {
    await bench.running.setBudget({ id: "all", scope: {}, amountNanoUsd: 0n });
    const before = count("SELECT count(*) FROM refused");
    await forEach(COUNT, async (i) => {
      const secret = `sk-made-up-too-${i}-${"x".repeat(20)}`;
      expect((await ask(bench.running.url, secret, CHAT, chat(`other-model-${i}`))).status).toBe(402);
    });
    await expect.poll(() => count("SELECT COALESCE(SUM(count), 0) FROM refused WHERE key_id = 'unproven'")).toBe(COUNT);
    // The minutes turn meanwhile.
    const minutes = count("SELECT count(DISTINCT minute_ms) FROM refused WHERE key_id = 'unproven'");
    expect(count("SELECT count(*) FROM refused") - before).toBeLessThanOrEqual(minutes * MOST_REFUSED);
  });

  it("in paths that lead nowhere make no row and no series each", async () => {
    const before = [await seriesOfProxy(), count("SELECT count(*) FROM refused")];
    await forEach(COUNT, async (i) => {
      expect((await ask(bench.running.url, "sk-somebody-1", `/nowhere/${i}`, {})).status).toBe(404);
    });
    expect((await seriesOfProxy()) - (before[0] ?? 0)).toBeLessThan(5);
    expect(count("SELECT count(*) FROM refused") - (before[1] ?? 0)).toBeLessThan(5);
  });
});

describe("the admin token", () => {
  it("that is right, and one that is wrong, are answered while hundreds of wrong ones wait", async () => {
    const running = await startProxy("http://127.0.0.1:1", { KEYMETER_DURABILITY: "process" });
    const stop = new AbortController();
    const tell = async (token: string, signal?: AbortSignal): Promise<number> => {
      const headers = { authorization: `Bearer ${token}` };
      const answer = await fetch(`${running.opsUrl}/admin/budgets`, { headers, ...(signal ? { signal } : {}) });
      await answer.arrayBuffer();
      return answer.status;
    };
    const crowd = Array.from({ length: IS_CI ? 2_000 : 400 }, (_, i) => tell(`guess ${i}`, stop.signal).catch(() => 0));
    expect(await tell(running.adminToken)).toBe(200);
    expect(await tell("a typing mistake")).toBe(401);
    // One after the other, four a second, would take minutes: then this test takes too long.
    stop.abort();
    // On a slow machine all of them may have been answered by now: none is let in, and none hears anything else.
    expect((await Promise.all(crowd)).filter((status) => status !== 0 && status !== 401)).toEqual([]);
    expect(await tell(running.adminToken)).toBe(200);
    await running.stop();
  });
});

describe("usage that no reader expects", () => {
  const bench = withProxy(() => {}, { KEYMETER_DURABILITY: "process" });
  let secret = "";
  beforeAll(async () => {
    const key = await bench.running.createKey();
    secret = key.secret;
    await bench.running.setBudget({ scope: { keyId: key.id }, amountNanoUsd: 10n ** 13n });
  });

  const OPENAI = { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 };
  const RESPONSE = { input_tokens: 100, output_tokens: 20, total_tokens: 120 };
  const CLAUDE = { input_tokens: 100, output_tokens: 20 };
  const GOOGLE = { promptTokenCount: 100, candidatesTokenCount: 20, totalTokenCount: 120 };
  /** What stands where details are expected. */
  const ODD: readonly unknown[] = [
    null,
    [null],
    [[null]],
    [1],
    "text",
    7,
    -1,
    true,
    [{}],
    {},
    { x: null },
    [{ tokenCount: null, modality: null }],
    [{ modality: {} }, "x"],
  ];
  const JSON_TYPE = "application/json";
  const sse = (...events: readonly object[]): string =>
    events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join("");
  type Place = {
    readonly name: string;
    readonly path: string;
    readonly body: object;
    readonly usage: object;
    readonly fields: readonly string[];
    readonly whole: (usage: object) => object;
    /** Where it is streamed, and how. */
    readonly stream?: { readonly path: string; readonly more: object; readonly text: (usage: object) => string };
  };
  const PLACES: readonly Place[] = [
    {
      name: "chat completions",
      path: CHAT,
      body: { model: "gpt-4o-mini", max_tokens: 50, messages: [] },
      usage: OPENAI,
      fields: [
        "prompt_tokens_details",
        "completion_tokens_details",
        "prompt_token_details",
        "cost",
        "cost_details",
        "service_tier",
        "server_tool_use_details",
      ],
      whole: (usage) => ({ ...chatAnswer(), usage }),
      stream: {
        path: CHAT,
        more: { stream: true, stream_options: { include_usage: true } },
        text: (usage) => `${sse({ ...chatAnswer(), choices: [], usage })}data: [DONE]\n\n`,
      },
    },
    {
      name: "responses",
      path: RESPONSES,
      body: { model: "gpt-4o-mini", max_output_tokens: 50, input: "x" },
      usage: RESPONSE,
      fields: ["input_tokens_details", "output_tokens_details"],
      whole: (usage) => ({
        id: "r",
        status: "completed",
        model: "gpt-4o-mini",
        output: [null, 1],
        tools: [null],
        usage,
      }),
      stream: {
        path: RESPONSES,
        more: { stream: true },
        text: (usage) =>
          sse(
            { type: "response.created", response: { id: "r", model: "gpt-4o-mini" } },
            {
              type: "response.completed",
              response: { id: "r", model: "gpt-4o-mini", output: [null], tools: null, tool_usage: [null], usage },
            },
          ),
      },
    },
    {
      name: "embeddings",
      path: EMBEDDINGS,
      body: { model: "text-embedding-3-small", input: "x" },
      usage: { prompt_tokens: 100, total_tokens: 100 },
      fields: ["prompt_tokens_details", "completion_tokens_details"],
      whole: (usage) => ({ object: "list", model: "text-embedding-3-small", data: [], usage }),
    },
    {
      name: "messages",
      path: MESSAGES,
      body: { model: "claude-haiku-4-5", max_tokens: 50, messages: [] },
      usage: CLAUDE,
      fields: [
        "cache_creation",
        "server_tool_use",
        "output_tokens_details",
        "iterations",
        "service_tier",
        "inference_geo",
        "speed",
      ],
      whole: (usage) => ({ id: "m", type: "message", model: "claude-haiku-4-5", content: [null], usage }),
      stream: {
        path: MESSAGES,
        more: { stream: true },
        text: (usage) =>
          sse(
            { type: "message_start", message: { id: "m", model: "claude-haiku-4-5", usage: CLAUDE } },
            { type: "message_delta", delta: null, usage },
            { type: "message_stop" },
          ),
      },
    },
    {
      name: "Gemini",
      path: GEMINI,
      body: { contents: [], generationConfig: { maxOutputTokens: 50 } },
      usage: GOOGLE,
      fields: [
        "promptTokensDetails",
        "cacheTokensDetails",
        "candidatesTokensDetails",
        "toolUsePromptTokensDetails",
        "trafficType",
        "serviceTier",
      ],
      whole: (usageMetadata) => ({
        candidates: [null, { groundingMetadata: null }],
        modelVersion: "gemini-2.5-flash",
        usageMetadata,
      }),
      stream: {
        path: GEMINI_STREAM,
        more: {},
        text: (usageMetadata) =>
          sse({
            candidates: [{ index: null, finishReason: "STOP" }, null],
            modelVersion: "gemini-2.5-flash",
            usageMetadata,
          }),
      },
    },
    {
      name: "Gemini interactions",
      path: "/google/v1beta/interactions",
      body: { model: "gemini-2.5-flash", input: "x" },
      usage: { total_input_tokens: 100, total_output_tokens: 20, total_tokens: 120 },
      fields: [
        "input_tokens_by_modality",
        "output_tokens_by_modality",
        "cached_tokens_by_modality",
        "tool_use_tokens_by_modality",
      ],
      whole: (usage) => ({ id: "i", status: "completed", model: "gemini-2.5-flash", outputs: [null], usage }),
    },
  ];

  it.each(PLACES)("$name: an event each, nothing held, the client gets the provider's bytes", async (place) => {
    const { stream } = place;
    const odd = place.fields.flatMap((field) => ODD.map((value) => ({ ...place.usage, [field]: value })));
    const sent: string[] = [];
    const before = (await bench.running.events()).length;
    const pass = async (path: string, body: object, type: string, text: string): Promise<void> => {
      bench.provider.script = (_arrived, answer) => void answer.writeHead(200, { "content-type": type }).end(text);
      expect(await ask(bench.running.url, secret, path, body), text).toEqual({ status: 200, text });
      sent.push(text);
    };
    for (const usage of odd) {
      await pass(place.path, place.body, JSON_TYPE, JSON.stringify(place.whole(usage)));
      if (stream) await pass(stream.path, { ...place.body, ...stream.more }, SSE, stream.text(usage));
    }
    await expect.poll(() => heldAttempts(bench.running.dataDir)).toBe(0);
    const events = (await bench.running.events()).slice(before);
    expect(events).toHaveLength(sent.length);
    for (const [i, { usageState, usage, costNanoUsd }] of events.entries()) {
      // The main counts can all be read: whatever stands beside them, something was used.
      const of = `${usageState} ${JSON.stringify(usage)} of ${sent[i]}`;
      expect(["reported", "estimated"], of).toContain(usageState);
      expect(BigInt(costNanoUsd ?? 0), of).toBeGreaterThan(0n);
      if (usageState === "reported") expect(usage.input ?? 0, of).toBeGreaterThan(0);
    }
  });
});

describe("a limit of tokens", () => {
  it("binds the turns of a WebSocket as it binds requests, also where no usage is stated", async () => {
    const LIMIT = 5_000;
    const OUTPUT = 1_000;
    const TRIES = 12;
    const said = { id: "r", object: "response", status: "completed", model: "gpt-4o-mini", output: [] };
    const http = await startFakeProvider(json(said));
    const sockets = await startFakeSocketProvider();
    let made = 0;
    sockets.script = {
      onMessage(message, say) {
        const response = { id: `r${(made += 1)}`, model: message["model"], output: [] };
        say({ type: "response.created", response: { ...response, status: "in_progress" } });
        say({ type: "response.completed", response: { ...response, status: "completed" } });
      },
    };
    const limited = async (upstream: string): Promise<{ running: RunningProxy; secret: string }> => {
      const running = await startProxy(upstream, { KEYMETER_DURABILITY: "process" });
      const { id, secret } = await running.createKey();
      const others = { requestsPerMinute: undefined, concurrent: undefined, bodyBytes: undefined };
      const limits = { scope: `key:${id}`, tokensPerMinute: LIMIT, ...others };
      expect(await running.change({ type: "setLimits", limits })).toBe(200);
      return { running, secret };
    };
    const body = { model: "gpt-4o-mini", input: "hi", max_output_tokens: OUTPUT };

    const overHttp = await limited(http.url);
    const statuses: number[] = [];
    for (let i = 0; i < TRIES; i++)
      statuses.push((await ask(overHttp.running.url, overHttp.secret, RESPONSES, body)).status);
    const passed = statuses.filter((status) => status === 200).length;
    expect(statuses).toEqual([...Array<number>(passed).fill(200), ...Array<number>(TRIES - passed).fill(429)]);
    expect(passed).toBeGreaterThan(0);
    expect(passed * OUTPUT).toBeLessThanOrEqual(LIMIT);

    const overSocket = await limited(sockets.url);
    const socket = new WebSocket(overSocket.running.url.replace("http", "ws") + RESPONSES, {
      headers: { authorization: `Bearer ${overSocket.secret}` },
    });
    await new Promise((resolve, reject) => socket.once("open", resolve).once("error", reject));
    const closed = new Promise<number>((resolve) => socket.once("close", resolve));
    const heard: string[] = [];
    socket.on("message", (data: Buffer) => {
      heard.push((JSON.parse(data.toString("utf8")) as { type: string }).type);
      if (heard.at(-1) === "response.completed") socket.send(JSON.stringify({ type: "response.create", ...body }));
    });
    socket.send(JSON.stringify({ type: "response.create", ...body }));
    expect(await closed).toBe(1008);
    expect(sockets.messages).toHaveLength(passed);
    expect(heard.filter((type) => type === "response.completed")).toHaveLength(passed);
    expect(heard.at(-1)).toBe("error");
    expect(await overSocket.running.events()).toHaveLength(passed);
    for (const { running } of [overHttp, overSocket]) {
      expect(heldAttempts(running.dataDir)).toBe(0);
      await running.stop();
    }
    await http.close();
    await sockets.close();
  });
});
