// A provider on loopback that bills: every request is charged by published rules, with prices typed in by hand. It
// knows nothing of Keymeter. What it did is owed, whoever has left. Rules that no page states are the most that a
// lenient reader would charge.
import type { ServerResponse } from "node:http";
import { startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider, Script } from "../fake/provider.ts";

type Json = { readonly [name: string]: unknown };
type Arrived = Parameters<Script>[0];

/** Nano-USD a token: what goes in, what comes out. */
const RATES: { readonly [model: string]: readonly [input: bigint, output: bigint] } = {
  "gpt-4o-mini": [150n, 600n],
  "gpt-4o": [2_500n, 10_000n],
  "gpt-4o-search-preview": [2_500n, 10_000n],
  "gpt-5.2": [1_750n, 14_000n],
  "gpt-5.4-nano": [200n, 1_250n],
  "gpt-5.5": [5_000n, 30_000n],
  "gpt-image-1": [10_000n, 40_000n],
  "claude-haiku-4-5": [1_000n, 5_000n],
  "claude-sonnet-4-5": [3_000n, 15_000n],
  "claude-haiku-4-5-20251001": [1_000n, 5_000n],
  "claude-sonnet-4-6": [3_000n, 15_000n],
  "claude-sonnet-5-5": [2_000n, 10_000n],
  "claude-opus-4-6": [5_000n, 25_000n],
  "claude-opus-4-8": [5_000n, 25_000n],
  "gemini-2.5-flash-lite": [100n, 400n],
  "gemini-2.5-flash": [300n, 2_500n],
  "gemini-2.5-pro": [1_250n, 10_000n],
  "gemini-3.5-flash-lite": [300n, 2_500n],
  "gemini-3.1-pro-preview": [2_000n, 12_000n],
  "grok-4": [3_000n, 15_000n],
  sonar: [1_000n, 1_000n],
  "gpt-4o-mini:online": [150n, 600n],
  "openai/gpt-4o-mini": [150n, 600n],
  "openai/gpt-4o-mini:online": [150n, 600n],
  "openai/gpt-5.2": [1_750n, 14_000n],
  "anthropic/claude-opus-4.6": [5_000n, 25_000n],
  "google/gemini-2.5-flash": [300n, 2_500n],
  "perplexity/sonar": [1_000n, 1_000n],
  "mistral-small-latest": [150n, 600n],
  "text-embedding-3-small": [20n, 0n],
};
/** Tenths of the price, in the tiers that are dearer. */
const TIERS: { readonly [modelAndTier: string]: bigint } = { "gpt-5.5 priority": 25n, "claude-opus-4-8 fast": 20n };
/** Nano-USD a piece, second, search or request. */
const FEES = {
  previewSearch: 25_000_000n,
  search: 10_000_000n,
  routerResult: 4_000_000n,
  xaiSource: 25_000_000n,
  sonarRequest: 5_000_000n,
  dallE2: 20_000_000n,
  imagen: 40_000_000n,
  sora2Second: 100_000_000n,
  whisperSecond: 100_000n,
  container: 30_000_000n,
  readPage: 2_000_000n,
  veo3FastSecond: 100_000_000n,
};
/** Tokens of a picture of gpt-image-1 as it is drawn in high quality, and as it is seen in high fidelity. */
const DRAWN_TOKENS = 6_240;
const SEEN_TOKENS = 6_240 + 323;
/** What lies behind an address: an hour of film by 258 tokens a second, a document of 500 pages. */
const FILM_TOKENS = 3_600 * 258;
const PAGES = 500;
const PAGE_TOKENS = 800;
/** Thoughts that OpenAI kept. */
const KEPT_TOKENS = 60_000;
/** What Azure puts before a question from the data that it was told to search. */
const GROUNDING_TOKENS = 20_000;

export type Behaviour = {
  /** What the provider counts of a prompt; absent: a token for four bytes of the body. */
  readonly promptTokens?: number;
  /** Thought before the first word, never shown. */
  readonly hidden?: number;
  /** Words of the answer, a token each. */
  readonly words?: number;
  /** Another model answers. */
  readonly serves?: string;
  /** A stream falls silent: behind its first word, or behind its whole text. */
  readonly silentAfter?: "word" | "text";
  /** Gemini's streams state their counts in each piece; others at the end. */
  readonly statesEach?: boolean;
  /** The tokens of a cache that a request names. */
  readonly cachedTokens?: number;
  /** What usage says, in place of the truth. */
  readonly usage?: unknown;
  /** Transcripts: what was said, and bytes a second of the sound. */
  readonly said?: string;
  readonly bytesPerSecond?: number;
  /** Answers wait for this. */
  readonly until?: Promise<void>;
  /** Nothing is said for ever. */
  readonly mute?: boolean;
  /** Ids are all the same. */
  readonly id?: string;
};

export type BillingProvider = Omit<FakeProvider, "script"> & {
  behaviour: Behaviour;
  /** Each request and its charge, in nano-USD. */
  readonly bills: { readonly path: string; readonly what: string; readonly nanoUsd: bigint }[];
  billed(): bigint;
  /** Empties the journal and the bills. */
  forget(): void;
  /** What a request would be charged, asked without anybody between; it leaves no trace. */
  quote(path: string, init: RequestInit): Promise<bigint>;
};

export async function startBillingProvider(behaviour: Behaviour = {}): Promise<BillingProvider> {
  const bills: BillingProvider["bills"] = [];
  const works = new Map<string, Json | undefined>();
  const fake = await startFakeProvider(async (arrived, response) => {
    const { pathname: path } = new URL(arrived.url, "http://provider");
    const asked = { arrived, path, body: readLeniently(arrived), works, behaviour: provider.behaviour };
    const rule = RULES.find(([method, pattern]) => method === arrived.method && pattern.test(path));
    const done: Done = rule?.[2](asked) ?? { status: 404, answer: { error: { message: "no such thing" } } };
    if (done.nanoUsd !== undefined) bills.push({ path, what: done.what ?? "", nanoUsd: done.nanoUsd });
    await provider.behaviour.until;
    if (done.stream) {
      await sendStream(response, done.stream);
      return;
    }
    if (provider.behaviour.mute) return;
    const isText = typeof done.answer === "string";
    response
      .writeHead(done.status ?? 200, { "content-type": isText ? "text/plain" : "application/json" })
      .end(isText ? done.answer : JSON.stringify(done.answer));
  });
  const provider: BillingProvider = {
    url: fake.url,
    journal: fake.journal,
    close: () => fake.close(),
    behaviour,
    bills,
    billed: () => bills.reduce((sum, { nanoUsd }) => sum + nanoUsd, 0n),
    forget() {
      bills.length = 0;
      (fake.journal as unknown[]).length = 0;
    },
    async quote(asked, init) {
      const { behaviour: usual } = provider;
      const { silentAfter: _silent, until: _until, mute: _mute, ...rest } = usual;
      provider.behaviour = rest;
      const before = bills.length;
      await (await fetch(fake.url + asked, { method: "POST", ...init })).arrayBuffer();
      provider.behaviour = usual;
      (fake.journal as unknown[]).pop();
      return bills.splice(before).reduce((sum, { nanoUsd }) => sum + nanoUsd, 0n);
    },
  };
  return provider;
}

type Asked = {
  readonly arrived: Arrived;
  readonly path: string;
  readonly body: Json;
  readonly works: Map<string, Json | undefined>;
  readonly behaviour: Behaviour;
};
type Done = {
  readonly nanoUsd?: bigint;
  readonly what?: string;
  readonly status?: number;
  readonly answer?: object | string;
  /** Pieces of an event stream; null: silence from here on. */
  readonly stream?: readonly (string | null)[];
};

const RULES: readonly (readonly [method: string, path: RegExp, rule: (asked: Asked) => Done])[] = [
  ["POST", /\/chat\/completions$/, chat],
  ["POST", /\/completions$/, completion],
  ["POST", /\/moderations$/, moderation],
  ["POST", /\/embeddings$/, chat],
  ["POST", /\/responses$/, responses],
  ["GET", /\/responses\/\w+$/, work],
  ["DELETE", /\/responses\/\w+$/, ({ path, works }) => (works.delete(idIn(path)), { answer: { deleted: true } })],
  ["POST", /\/messages\/batches$/, messageBatch],
  ["POST", /\/messages\/count_tokens$/, () => ({ nanoUsd: 0n, answer: { input_tokens: 1 } })],
  ["POST", /\/messages$|:(streamRaw|raw)Predict$/, messages],
  ["POST", /:batchGenerateContent$/, geminiBatch],
  ["POST", /:(stream)?generateContent$/i, gemini],
  ["POST", /\/interactions$/, interaction],
  ["POST", /:predict$/, imagen],
  ["POST", /:predictLongRunning$/, veo],
  ["POST", /\/images\/(generations|edits)$/, pictures],
  ["POST", /\/audio\/transcriptions$/, transcript],
  ["POST", /\/videos(\/edits)?$/, film],
  ["POST", /\/skills$/, () => ({ nanoUsd: 0n, answer: { id: "skill_of_a" } })],
];

/** OpenAI's format, and what vendors put into it: each field is charged by its vendor's page. */
function chat({ path, body, arrived, behaviour }: Asked): Done {
  const { hidden = 0, words = 5, cachedTokens = 0 } = behaviour;
  const deployment = /\/deployments\/([^/]+)\//.exec(path)?.[1];
  const named = DEPLOYMENTS[deployment ?? ""] ?? text(body["model"]);
  const served = behaviour.serves ?? named;
  // Of two limits the larger.
  const limits = [body["max_completion_tokens"], body["max_tokens"]].filter((one) => one !== undefined).map(Number);
  const limit = limits.length > 0 ? Math.max(...limits) : 128_000;
  const answers = Number(body["n"] ?? 1);
  const isEmbedding = path.endsWith("/embeddings");
  const cached = at(body, "extra_body", "google", "cached_content") === undefined ? 0 : cachedTokens;
  const grounding = body["data_sources"] === undefined ? 0 : GROUNDING_TOKENS;
  const parts = list(body["messages"]).flatMap((message) => list(message["content"]).map((one) => text(one["type"])));
  const has = (type: string): number => parts.filter((one) => one === type).length;
  const seen = has("video_url") * FILM_TOKENS + has("document_url") * PAGES * PAGE_TOKENS;
  const input = promptTokens(arrived, behaviour) + grounding + seen;
  // Words that were predicted and are not in the answer are paid like words of the answer.
  const rejected = body["prediction"] === undefined ? 0 : Math.ceil(JSON.stringify(body["prediction"]).length / 4);
  const output = isEmbedding ? 0 : Math.min(hidden + words, limit) * answers + rejected;
  // A router reads files for models that cannot, by the page.
  const read = path.startsWith("/openrouter/") ? BigInt(has("file") * PAGES) * FEES.readPage : 0n;
  const fees = chatFees(body, served, path) + read;
  const nanoUsd = tokens(served, input, output) + (BigInt(cached) * rateOf(served)[0]) / 10n + fees;
  const usage =
    behaviour.usage !== undefined
      ? behaviour.usage
      : {
          prompt_tokens: input + cached,
          completion_tokens: output,
          total_tokens: input + cached + output,
          ...(cached > 0 ? { prompt_tokens_details: { cached_tokens: cached } } : {}),
          ...(hidden > 0 ? { completion_tokens_details: { reasoning_tokens: Math.min(hidden, limit) } } : {}),
          ...statedCost(path, nanoUsd),
        };
  const base = { id: behaviour.id ?? `chatcmpl-${(made += 1)}`, model: served };
  // A vendor that does not know the field passes a state of its own on: nothing of it is work that goes on.
  const state = body["background"] === undefined ? {} : { status: "in_progress" };
  const answer = {
    ...base,
    ...state,
    object: "chat.completion",
    choices: [{ index: 0, message: { role: "assistant", content: "word ".repeat(words) }, finish_reason: "stop" }],
    usage,
  };
  if (body["stream"] !== true) return { nanoUsd, what: served, answer };
  const chunk = (delta: object, more: object = {}): string =>
    event({ ...base, ...state, object: "chat.completion.chunk", choices: [{ index: 0, delta }], ...more });
  const spoken = Array.from({ length: Math.max(words - 1, 0) }, () => "word ").join("");
  return {
    nanoUsd,
    what: served,
    stream: silent(behaviour, chunk({ content: "word " }), spoken === "" ? "" : chunk({ content: spoken }), [
      chunk({}, { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }),
      event({ ...base, ...state, choices: [], usage }),
      "data: [DONE]\n\n",
    ]),
  };
}

/** OpenAI's own stops at 16 tokens where nobody said; elsewhere a model stops when it is done. */
function completion({ path, body, arrived, behaviour }: Asked): Done {
  const { words = 5 } = behaviour;
  const model = text(body["model"]);
  const output = Math.min(words, Number(body["max_tokens"] ?? (path === "/v1/completions" ? 16 : words)));
  const input = promptTokens(arrived, behaviour);
  const nanoUsd = tokens(model, input, output);
  const choices = [{ index: 0, text: "word ".repeat(output), finish_reason: "stop" }];
  const usage = { prompt_tokens: input, completion_tokens: output, total_tokens: input + output };
  return { nanoUsd, what: model, answer: { id: `cmpl-${(made += 1)}`, model, choices, usage } };
}

/** Free at OpenAI, by the token at Mistral. */
function moderation({ path, arrived, behaviour }: Asked): Done {
  const input = promptTokens(arrived, behaviour);
  const usage = { prompt_tokens: input, completion_tokens: 0, total_tokens: input };
  return {
    nanoUsd: path.startsWith("/mistral/") ? BigInt(input) * 100n : 0n,
    what: "moderation",
    answer: { id: "mod", model: "mistral-moderation-2411", results: [], usage },
  };
}

/** Names of deployments, and what stands behind each. */
const DEPLOYMENTS: { readonly [name: string]: string } = {
  chat: "gpt-4o-mini",
  data: "gpt-4o",
  think: "gpt-5.2",
  "gpt-4-next": "gpt-5.2",
};

function chatFees(body: Json, model: string, path: string): bigint {
  const results = list(body["plugins"]).filter((plugin) => plugin["id"] === "web");
  const online = model.endsWith(":online") ? 1 : 0;
  const search = body["search_parameters"] as Json | undefined;
  const sources = search && search["mode"] !== "off" ? Number(search["max_search_results"] ?? 20) : 0;
  const tools = list(body["tools"]).map((tool) => text(tool["type"]));
  const searches = tools.filter((type) => type.startsWith("web_search") || type === "openrouter:web_search").length;
  return (
    (model.includes("-search-preview") ? FEES.previewSearch : 0n) +
    (body["web_search_options"] !== undefined && !model.includes("-search-") ? FEES.previewSearch : 0n) +
    results.reduce((sum, plugin) => sum + BigInt(Number(plugin["max_results"] ?? 5)) * FEES.routerResult, 0n) +
    BigInt(online * 5) * FEES.routerResult +
    BigInt(sources) * FEES.xaiSource +
    (path.includes("/perplexity/") || model.startsWith("perplexity/") ? FEES.sonarRequest : 0n) +
    BigInt(searches) * FEES.search +
    (tools.includes("image_generation") ? BigInt(DRAWN_TOKENS) * rateOf("gpt-image-1")[1] : 0n) +
    (tools.includes("code_interpreter") ? FEES.container : 0n)
  );
}

/** What vendors say that it cost, each in its own unit. */
function statedCost(path: string, nanoUsd: bigint): object {
  if (path.startsWith("/openrouter/")) return { cost: Number(nanoUsd) / 1e9 };
  if (path.startsWith("/xai/")) return { cost_in_usd_ticks: Number(nanoUsd) * 10 };
  return path.startsWith("/perplexity/") ? { cost: { total_cost: Number(nanoUsd) / 1e9 } } : {};
}

function responses({ body, arrived, behaviour, works, path }: Asked): Done {
  const { hidden = 0, words = 5 } = behaviour;
  const model = behaviour.serves ?? text(body["model"]);
  const limit = Number(body["max_output_tokens"] ?? 128_000);
  // What was thought before and is named, not sent, is read again.
  const kept = list(body["input"]).filter(
    (item) => item["type"] === "reasoning" && item["encrypted_content"] === undefined,
  );
  const input = promptTokens(arrived, behaviour) + kept.length * KEPT_TOKENS;
  const output = Math.min(hidden + words, limit);
  const tier = text(body["service_tier"] ?? "default");
  const nanoUsd =
    (tokens(model, input, output) * (TIERS[`${model} ${tier}`] ?? 10n)) / 10n + chatFees(body, model, path);
  const id = `resp_${(made += 1)}`;
  const usage = {
    input_tokens: input,
    output_tokens: output,
    total_tokens: input + output,
    output_tokens_details: { reasoning_tokens: output - Math.min(words, output) },
  };
  const whole = { id, object: "response", model, service_tier: tier, status: "completed", output: [], usage };
  works.set(id, whole);
  if (body["background"] === true && body["stream"] !== true)
    return { nanoUsd, what: model, answer: { ...whole, status: "queued", usage: null } };
  if (body["stream"] !== true) return { nanoUsd, what: model, answer: whole };
  const delta = event({ type: "response.output_text.delta", delta: "word " });
  return {
    nanoUsd,
    what: model,
    stream: silent(
      behaviour,
      event({ type: "response.created", response: { ...whole, status: "in_progress", usage: null } }) + delta,
      delta.repeat(Math.max(words - 1, 0)),
      [event({ type: "response.completed", response: whole })],
    ),
  };
}

function work({ path, works }: Asked): Done {
  const found = works.get(idIn(path));
  return found ? { answer: found } : { status: 404, answer: { error: { message: "no such response" } } };
}

function messages({ path, body, arrived, behaviour }: Asked): Done {
  const { hidden = 0, words = 5 } = behaviour;
  const model = behaviour.serves ?? (modelIn(path) || text(body["model"]));
  const output = Math.min(hidden + words, Number(body["max_tokens"] ?? 0));
  const input = promptTokens(arrived, behaviour);
  const speed = text(body["speed"] ?? "standard");
  const nanoUsd = (tokens(model, input, output) * (TIERS[`${model} ${speed}`] ?? 10n)) / 10n;
  const usage = behaviour.usage !== undefined ? behaviour.usage : { input_tokens: input, output_tokens: output };
  const head = { id: `msg_${(made += 1)}`, type: "message", role: "assistant", model };
  if (body["stream"] !== true)
    return {
      nanoUsd,
      what: model,
      answer: { ...head, content: [{ type: "text", text: "word ".repeat(words) }], usage },
    };
  const say = (spoken: string): string =>
    named({ type: "content_block_delta", index: 0, delta: { type: "text_delta", text: spoken } });
  return {
    nanoUsd,
    what: model,
    stream: silent(
      behaviour,
      named({
        type: "message_start",
        message: { ...head, content: [], usage: { input_tokens: input, output_tokens: 1 } },
      }) +
        named({ type: "content_block_start", index: 0, content_block: { type: "text", text: "" } }) +
        say("word "),
      say("word ".repeat(Math.max(words - 1, 0))),
      [
        named({ type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: output } }),
        named({ type: "message_stop" }),
      ],
    ),
  };
}

/** Each request of a batch by its own model, at half the price, to the most that it may say. */
function messageBatch({ body }: Asked): Done {
  const items = list(body["requests"]).map((one) => one["params"] as Json);
  const nanoUsd =
    items.reduce((sum, item) => sum + tokens(text(item["model"]), 20, Number(item["max_tokens"])), 0n) / 2n;
  return {
    nanoUsd,
    what: items.map((item) => text(item["model"])).join(","),
    answer: { id: `msgbatch_${(made += 1)}`, type: "message_batch", processing_status: "in_progress" },
  };
}

function geminiBatch({ body, path }: Asked): Done {
  const inputs = at(body, "batch", "input_config") ?? at(body, "batch", "inputConfig");
  const items = list(at(inputs as Json, "requests", "requests")).map((one) => one["request"] as Json);
  const ofItem = (item: Json): bigint =>
    tokens(
      text(item["model"] ?? modelIn(path)).replace(/^models\//, ""),
      20,
      Number(at(item, "generationConfig", "maxOutputTokens")),
    );
  return {
    nanoUsd: items.reduce((sum, item) => sum + ofItem(item), 0n) / 2n,
    what: items.map((item) => text(item["model"] ?? modelIn(path))).join(","),
    answer: { name: `batches/${(made += 1)}`, metadata: { state: "BATCH_STATE_PENDING" } },
  };
}

function gemini({ body, path, arrived, behaviour }: Asked): Done {
  const { hidden = 0, words = 5 } = behaviour;
  const model = behaviour.serves ?? modelIn(path);
  const limit = Number(at(body, "generationConfig", "maxOutputTokens") ?? 65_536);
  const thought = Math.min(hidden, limit);
  const spoken = Math.min(words, limit - thought);
  const input = promptTokens(arrived, behaviour);
  const candidates = Number(at(body, "generationConfig", "candidateCount") ?? 1);
  // Vertex takes its tier from a header.
  const isPriority = arrived.headers["x-vertex-ai-llm-shared-request-type"] === "priority";
  const nanoUsd = (tokens(model, input, (thought + spoken) * candidates) * (isPriority ? 18n : 10n)) / 10n;
  const usageMetadata =
    behaviour.usage !== undefined
      ? behaviour.usage
      : {
          promptTokenCount: input,
          ...(isPriority ? { trafficType: "ON_DEMAND_PRIORITY" } : {}),
          candidatesTokenCount: spoken * candidates,
          thoughtsTokenCount: thought * candidates,
          totalTokenCount: input + (thought + spoken) * candidates,
        };
  const piece = (said: string, more: object): object => ({
    candidates: [{ index: 0, content: { role: "model", parts: [{ text: said }] }, ...more }],
    modelVersion: model,
  });
  const all = "word ".repeat(words);
  if (!path.includes(":stream"))
    return { nanoUsd, what: model, answer: { ...piece(all, { finishReason: "STOP" }), usageMetadata } };
  const counts = behaviour.statesEach ? { usageMetadata } : {};
  return {
    nanoUsd,
    what: model,
    stream: silent(behaviour, event({ ...piece("word ", {}), ...counts }), event({ ...piece(all, {}), ...counts }), [
      event({ ...piece("", { finishReason: "STOP" }), usageMetadata }),
    ]),
  };
}

function interaction({ body, arrived, behaviour }: Asked): Done {
  const { words = 5 } = behaviour;
  const model = text(body["model"]);
  const input = promptTokens(arrived, behaviour);
  const outputs = [{ type: "text", text: "word ".repeat(words) }];
  const usage =
    behaviour.usage !== undefined
      ? behaviour.usage
      : {
          total_input_tokens: input,
          total_output_tokens: words,
          total_tokens: input + words,
        };
  const answer = { id: `int_${(made += 1)}`, status: "completed", model, outputs, usage };
  return { nanoUsd: tokens(model, input, words), what: model, answer };
}

/** As many as are asked for, of each instance. */
function imagen({ body }: Asked): Done {
  const parameters = body["parameters"];
  const count =
    list(body["instances"]).length * Number(at(parameters, "sample_count") ?? at(parameters, "sampleCount") ?? 1);
  const predictions = Array.from({ length: count }, () => ({ bytesBase64Encoded: "AA==", mimeType: "image/png" }));
  return { nanoUsd: BigInt(count) * FEES.imagen, what: "imagen", answer: { predictions } };
}

/** By the second, in either spelling. */
function veo({ body }: Asked): Done {
  const parameters = body["parameters"];
  const count = Number(at(parameters, "sample_count") ?? at(parameters, "sampleCount") ?? 1);
  const seconds = Number(at(parameters, "duration_seconds") ?? at(parameters, "durationSeconds") ?? 8);
  return {
    nanoUsd: BigInt(count * seconds * list(body["instances"]).length) * FEES.veo3FastSecond,
    what: "veo",
    answer: { name: `models/veo-3.0-fast-generate-001/operations/${(made += 1)}` },
  };
}

function pictures({ body, arrived, behaviour }: Asked): Done {
  const model = text(body["model"] ?? "dall-e-2");
  const count = wholeOf(body["n"], 1);
  const data = Array.from({ length: count }, () => ({ b64_json: "AA==" }));
  if (model.startsWith("dall-e"))
    return { nanoUsd: BigInt(count) * FEES.dallE2, what: model, answer: { created: 1, data } };
  const seen = list(body["image"]).length * SEEN_TOKENS;
  const written = promptTokens(arrived, { ...behaviour, promptTokens: 20 });
  const drawn = count * DRAWN_TOKENS;
  return {
    nanoUsd: BigInt(written) * 5_000n + tokens(model, seen, drawn),
    what: model,
    answer: {
      created: 1,
      data,
      usage: {
        input_tokens: written + seen,
        input_tokens_details: { text_tokens: written, image_tokens: seen },
        output_tokens: drawn,
        total_tokens: written + seen + drawn,
      },
    },
  };
}

/** Seconds of sound, whatever its size. */
function transcript({ body, behaviour }: Asked): Done {
  const { said = "", bytesPerSecond = 1_000 } = behaviour;
  const seconds = Math.ceil(Number(at(body, "file", "bytes")) / bytesPerSecond);
  const isPlain = ["text", "srt", "vtt"].includes(text(body["response_format"]));
  return {
    nanoUsd: BigInt(seconds) * FEES.whisperSecond,
    what: `${seconds} s`,
    answer: isPlain ? said : { text: said, usage: { type: "duration", seconds } },
  };
}

function film({ body, path }: Asked): Done {
  const seconds = path.endsWith("/edits") ? 4 : wholeOf(body["seconds"], 4);
  return {
    nanoUsd: BigInt(seconds) * FEES.sora2Second,
    what: `${seconds} s`,
    answer: {
      id: `video_${(made += 1)}`,
      object: "video",
      status: "queued",
      model: "sora-2",
      seconds: String(seconds),
    },
  };
}

let made = 0;

function tokens(model: string, input: number, output: number): bigint {
  const [perInput, perOutput] = rateOf(model);
  return BigInt(input) * perInput + BigInt(output) * perOutput;
}

function rateOf(model: string): readonly [bigint, bigint] {
  const rate = RATES[model];
  if (!rate) throw new Error(`no rate for ${model}`);
  return rate;
}

function promptTokens({ body }: Arrived, { promptTokens: fixed }: Behaviour): number {
  return fixed ?? Math.ceil(body.length / 4);
}

/** A number as a lenient reader takes it: trimmed, signed, with separators, as a fraction, in a list. */
function wholeOf(value: unknown, usual: number): number {
  if (value === undefined) return usual;
  const one: unknown = Array.isArray(value) ? value[0] : value;
  const number = Number(text(one).trim().replaceAll("_", ""));
  return Number.isFinite(number) ? Math.floor(number) : usual;
}

function silent({ silentAfter }: Behaviour, first: string, more: string, end: readonly string[]): (string | null)[] {
  if (silentAfter === "word") return [first, null];
  return silentAfter === "text" ? [first, more, null] : [first, more, ...end];
}

async function sendStream(response: ServerResponse, pieces: readonly (string | null)[]): Promise<void> {
  response.writeHead(200, { "content-type": "text/event-stream" });
  for (const piece of pieces) {
    if (piece === null) return;
    if (piece !== "") response.write(piece);
    await new Promise((resolve) => setImmediate(resolve));
  }
  response.end();
}

const event = (data: object): string => `data: ${JSON.stringify(data)}\n\n`;
const named = (data: { readonly type: string; readonly [name: string]: unknown }): string =>
  `event: ${data.type}\n${event(data)}`;
const text = (value: unknown): string => (typeof value === "string" || typeof value === "number" ? String(value) : "");
const list = (value: unknown): Json[] => (Array.isArray(value) ? (value as Json[]) : []);
const idIn = (path: string): string => path.slice(path.lastIndexOf("/") + 1);
const modelIn = (path: string): string => /\/models\/([^:/]+):/.exec(path)?.[1] ?? "";

function at(value: unknown, ...names: readonly string[]): unknown {
  return names.reduce<unknown>((found, name) => (found as Json | undefined)?.[name], value);
}

/** A body as a careless server reads it: of two boundaries the last, of names that stand twice the last, of files their
 *  sizes. */
function readLeniently({ headers, body }: Arrived): Json {
  const type = headers["content-type"] ?? "";
  const boundary = [...type.matchAll(/boundary\*?\d*\*?=(?:utf-8'')?"?([^";]+)"?/gi)].at(-1)?.[1];
  if (boundary === undefined) return body.length === 0 ? {} : (JSON.parse(body.toString("utf8")) as Json);
  const fields: { [name: string]: unknown } = {};
  for (const part of body.toString("latin1").split(`--${boundary}`)) {
    if (part.startsWith("--")) break;
    const end = part.indexOf("\r\n\r\n");
    const name = /name="([^"]*)"/.exec(part.slice(0, end))?.[1];
    if (end < 0 || name === undefined) continue;
    const value = part.slice(end + 4).replace(/\r\n$/, "");
    const read = part.slice(0, end).includes("filename=") ? { bytes: value.length } : value;
    if (name.endsWith("[]")) fields[name.slice(0, -2)] = [...list(fields[name.slice(0, -2)]), read];
    else fields[name] = read;
  }
  return fields;
}
