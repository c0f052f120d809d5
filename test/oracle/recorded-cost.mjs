// What a recorded exchange cost, worked out apart from Keymeter: from the raw answer, by the provider's own stated cost or by prices that
// are published (published-prices.json: facts from LiteLLM's price map, MIT, and from providers' pages; USD per million tokens, fees each;
// `sure`: no list disagrees). It shares no code and no price data with the product, and is as plain as it can be.
// costOf(recording) -> { nanoUsd: decimal text or null, why, source: "stated" | "prices", sure, lines }
import { readFileSync } from "node:fs";
const PRICES = JSON.parse(readFileSync(new URL("./published-prices.json", import.meta.url), "utf8"));

// ---- money: pico-USD a unit, one exact ratio, rounded half up to nano-USD a line ----
function pico(text) {
  // USD per million units -> pico-USD per unit
  const [whole, part = ""] = String(text).split(".");
  return BigInt(whole + part.padEnd(6, "0").slice(0, 6)); // 1 USD/M = 10^6 pico/unit
}
function picoEach(text) {
  // USD each -> pico-USD
  const [whole, part = ""] = String(text).split(".");
  return BigInt(whole + part.padEnd(12, "0").slice(0, 12));
}
const roundUp = (n, d) => (2n * n + d) / (2n * d);
const usdToNano = (usd) => {
  // a decimal or float USD -> nano-USD text, rounded half up
  let t = typeof usd === "string" ? usd : usd.toFixed(15);
  const negative = t.startsWith("-");
  if (negative) t = t.slice(1);
  const [w, p = ""] = t.split(".");
  const n = roundUp(BigInt(w + p.padEnd(15, "0").slice(0, 15)), 1_000_000n);
  return (negative ? -n : n).toString();
};

// ---- the answer, parsed ----
function parse(body) {
  const text = body.trim();
  if (text === "") return { one: undefined, events: [] };
  try {
    const one = JSON.parse(text);
    return Array.isArray(one) ? { one: undefined, events: one } : { one, events: [] };
  } catch {}
  const events = [];
  if (/^(data|event|id|retry|:)/m.test(text))
    for (const block of text.split(/\r?\n\r?\n/)) {
      const data = block
        .split(/\r?\n/)
        .filter((l) => l.startsWith("data:"))
        .map((l) => l.slice(5).trimStart())
        .join("\n");
      if (data && data !== "[DONE]")
        try {
          events.push(JSON.parse(data));
        } catch {}
    }
  if (events.length === 0)
    for (const line of text.split("\n"))
      try {
        events.push(JSON.parse(line.replace(/^data:\s*/, "")));
      } catch {}
  return { one: undefined, events };
}
const last = (list, pick) => {
  for (let i = list.length - 1; i >= 0; i--) {
    const v = pick(list[i]);
    if (v !== undefined && v !== null) return v;
  }
  return undefined;
};
const N = (v) => Number(v ?? 0) || 0;
const reqBody = (r) =>
  r.request_body && typeof r.request_body === "object" && !Array.isArray(r.request_body.multipart)
    ? r.request_body
    : {};
function formField(r, name) {
  const parts = r.request_body?.multipart;
  if (!Array.isArray(parts)) return undefined;
  return parts.find((p) => JSON.stringify(p.headers).includes(`name=\\"${name}\\"`))?.body?.trim();
}

// ---- one priced part ----
function lineUp(u, row, tier, context) {
  const lines = [];
  const missing = [];
  const t = tier && row.tiers?.[tier];
  const long = row.longContext && context > row.longContext.above ? row.longContext : undefined;
  for (const [unit, quantity] of Object.entries(u)) {
    if (!quantity) continue;
    let price,
      num = 1n,
      den = 1n;
    const fallback = {
      cache_read: "input",
      cache_write_5m: "input",
      cache_write_1h: "cache_write_5m",
      input_image: "input",
      input_audio: "input",
      cache_read_audio: "cache_read",
      cache_read_image: "cache_read",
      output_image: "output",
      output_audio: "output",
    };
    let name = unit;
    while (row[name] === undefined && fallback[name]) name = fallback[name];
    price = row[name];
    if (long?.[name] !== undefined) price = long[name];
    if (tier) {
      if (t?.[name] !== undefined && !long) price = t[name];
      else if (tier === "flex" || tier === "batch") {
        den = 2n;
      } else if (tier === "priority") {
        missing.push(`${unit} at ${tier}`);
      }
    }
    if (price === undefined) {
      missing.push(unit);
      continue;
    }
    lines.push({ unit, quantity, price, nano: roundUp(BigInt(quantity) * pico(price) * num, 1000n * den) });
  }
  return { lines, missing };
}

const NONE = (why, more = {}) => ({ nanoUsd: null, why, source: "prices", sure: false, ...more });

export function costOf(r, expected, prices = PRICES) {
  const path = r.url.split("?")[0].replace(/^[^/]*\/+/, "/");
  const provider = r.provider;
  const endpoint = endpointOf(path, r);
  const base = { provider, endpoint };
  if (r.status >= 400) return { ...base, ...NONE("error answer: nothing is billed") };
  if (FREE.test(path) || endpoint === "other") return { ...base, ...NONE("no billed endpoint") };
  if (r.method === "WS") return { ...base, ...realtime(r, prices) };
  const isBinary = r.response_body_encoding !== "utf8";
  const { one, events } = isBinary ? { events: [] } : parse(r.response_body);
  const read = { r, one, events, path, provider, endpoint, prices, expected };
  let out;
  switch (endpoint) {
    case "messages":
      out = anthropic(read);
      break;
    case "generate":
      out = gemini(read);
      break;
    case "interactions":
      out = interactions(read);
      break;
    case "responses":
      out = responses(read);
      break;
    case "embeddings":
    case "chat":
    case "completions":
      out = chat(read);
      break;
    case "gemini-embed":
      out = geminiEmbed(read);
      break;
    case "predict":
      out = predict(read);
      break;
    case "images":
      out = images(read);
      break;
    case "speech":
      out = speech(read);
      break;
    case "transcription":
      out = transcription(read);
      break;
    case "rerank":
      out = rerank(read);
      break;
    case "cohere":
      out = cohere(read);
      break;
    case "ocr":
      out = ocr(read);
      break;
    case "batch":
      out = batch(read);
      break;
    default:
      out = NONE("not a billed endpoint");
  }
  const stated = statedCost(read);
  if (stated !== undefined)
    out = {
      ...out,
      pricesNanoUsd: out.nanoUsd,
      pricesWhy: out.why,
      pricesSure: out.sure,
      why: stated.why,
      nanoUsd: stated.nano,
      source: "stated",
      sure: true,
    };
  if (r.method === "GET") out = { ...out, fetched: true };
  return { ...base, ...out };
}

const FREE =
  /count_tokens|:countTokens|\/input_tokens$|\/moderations|\/models$|\/files(\/|$)|\/organization\/|\/tokenize|client_secrets|realtime\/calls|oidc|instances|projects\/[^/]*$|functions\/hash/;
function endpointOf(path, r) {
  if (r.method === "WS") return "realtime";
  if (/\/messages\/batches|\/batches|\/batch\/jobs|batchGenerateContent|\/batches\//.test(path)) return "batch";
  if (/\/messages$/.test(path) || /[rR]awPredict$/.test(path)) return "messages";
  if (/[gG]enerateContent$/.test(path)) return "generate";
  if (/\/interactions/.test(path)) return "interactions";
  if (/\/responses(\/|$)/.test(path)) return "responses";
  if (/EmbedContents?$|:embedContent$/.test(path)) return "gemini-embed";
  if (/:predict$/.test(path)) return "predict";
  if (r.provider === "cohere" && /\/(chat|generate|embed|embeddings)$/.test(path)) return "cohere";
  if (/\/rerank$/.test(path)) return "rerank";
  if (/\/embeddings$/.test(path) && !/\/api\/embeddings/.test(path)) return "embeddings";
  if (/\/chat\/completions$|models\/[^/]*\/?completions$|\/models\/completions$/.test(path)) return "chat";
  if (/\/completions$/.test(path)) return /\/chat\//.test(path) || /prompts/.test(path) ? "chat" : "completions";
  if (/\/images(\/|$)/.test(path)) return "images";
  if (/\/audio\/speech$|\/tts$/.test(path)) return "speech";
  if (/\/audio\/(transcriptions|translations)$|\/stt$/.test(path)) return "transcription";
  if (/\/ocr$/.test(path)) return "ocr";
  if (/\/videos/.test(path)) return "videos";
  return "other";
}

function statedCost({ one, events, r }) {
  const all = one ? [one] : events;
  const usageOf = (o) => o?.usage ?? o?.response?.usage ?? o?.x_groq?.usage;
  const usage = last(all, usageOf);
  if (r.provider === "xai" && usage?.cost_in_usd_ticks !== undefined)
    return { nano: roundUp(BigInt(usage.cost_in_usd_ticks), 10n).toString(), why: "usage.cost_in_usd_ticks" };
  if (r.provider === "perplexity" && usage?.cost?.total_cost !== undefined)
    return { nano: usdToNano(usage.cost.total_cost), why: "usage.cost.total_cost" };
  const gw = last(
    all,
    (o) =>
      o?.choices?.[0]?.message?.provider_metadata?.gateway ??
      o?.choices?.[0]?.delta?.provider_metadata?.gateway ??
      o?.provider_metadata?.gateway ??
      o?.providerMetadata?.gateway,
  );
  if (gw?.cost !== undefined) return { nano: usdToNano(String(gw.cost)), why: "provider_metadata.gateway.cost" };
  if (typeof usage?.cost === "number") {
    const byok = usage.is_byok === true;
    const up = N(usage.cost_details?.upstream_inference_cost);
    return {
      nano: usdToNano(byok ? usage.cost + up : usage.cost),
      why: byok ? "usage.cost + upstream_inference_cost (BYOK)" : "usage.cost",
    };
  }
  const est = usage?.pydantic_ai_gateway?.cost_estimate;
  if (est !== undefined) return { nano: usdToNano(est), why: "usage.pydantic_ai_gateway.cost_estimate" };
  return undefined;
}

// ---- sum of parts and fees ----
function price(provider, parts, fees, prices, more = {}) {
  const lines = [];
  const notes = [...(more.notes ?? [])];
  let sure = more.sure ?? true;
  for (const part of parts) {
    if (Object.values(part.usage).every((v) => !v)) continue;
    const row = prices[`${provider}/${part.model}`];
    if (!row)
      return NONE(`no price row for ${provider}/${part.model}`, {
        model: parts[0]?.model,
        usage: parts.map((p) => p.usage),
      });
    const context =
      part.context ??
      [
        "input",
        "cache_read",
        "cache_write_5m",
        "cache_write_1h",
        "input_audio",
        "input_image",
        "cache_read_audio",
        "cache_read_image",
      ].reduce((s, k) => s + (part.usage[k] ?? 0), 0);
    const done = lineUp(part.usage, row, part.tier, context);
    if (done.missing.length)
      return NONE(`no price of ${done.missing} for ${provider}/${part.model}`, {
        model: parts[0].model,
        usage: parts.map((p) => p.usage),
      });
    lines.push(...done.lines);
    sure &&= row.sure;
  }
  for (const fee of fees) {
    if (!fee.count) continue;
    if (fee.each === undefined) return NONE(`no price of fee ${fee.name}`, { model: parts[0]?.model });
    lines.push({
      unit: fee.name,
      quantity: fee.count,
      price: fee.each,
      nano: roundUp(BigInt(fee.count) * picoEach(fee.each), 1000n),
    });
    if (fee.unsure) sure = false;
  }
  const sum = lines.reduce((s, l) => s + l.nano, 0n);
  return {
    nanoUsd: sum.toString(),
    source: "prices",
    sure,
    model: parts[0]?.model,
    usage: parts.length === 1 ? parts[0].usage : parts.map((p) => ({ model: p.model, ...p.usage })),
    lines: lines.map((l) => `${l.quantity} ${l.unit} at ${l.price} = ${l.nano}`),
    tier: parts[0]?.tier,
    ...(notes.length ? { why: notes.join("; ") } : {}),
  };
}
const tierOf = (name) =>
  ({ flex: "flex", priority: "priority", fast: "priority", batch: "batch" })[String(name ?? "").toLowerCase()];

// ---- Anthropic: cached tokens lie beside input; compaction and advisor iterations on top ----
function anthropicUsage(u) {
  const total = N(u.cache_creation_input_tokens);
  const hour = N(u.cache_creation?.ephemeral_1h_input_tokens);
  const five = N(u.cache_creation?.ephemeral_5m_input_tokens);
  return {
    input: N(u.input_tokens),
    cache_read: N(u.cache_read_input_tokens),
    cache_write_5m: Math.max(total - hour, u.cache_creation_input_tokens == null ? five : 0),
    cache_write_1h: hour,
    output: N(u.output_tokens),
  };
}
function anthropicParts(message, model, hasServerTools = false) {
  const u = message;
  const tier = tierOf(u.service_tier);
  const own = anthropicUsage(u);
  // A long-context price goes by one request: sums of a server tool loop say nothing of it.
  const iterations = u.iterations ?? [];
  const loop =
    hasServerTools ||
    N(u.server_tool_use?.web_search_requests) + N(u.server_tool_use?.web_fetch_requests) > 0 ||
    iterations.length > 1;
  const parts = [{ model, usage: own, tier, ...(loop ? { context: 0 } : {}) }];
  for (const i of iterations)
    if (i.type === "compaction" || i.type === "advisor_message")
      parts.push({ model: i.model ?? model, usage: anthropicUsage(i), tier });
  const notes = [];
  if (u.inference_geo === "us") notes.push("inference_geo us is not priced here");
  if (u.speed === "fast") notes.push("speed fast is not priced here");
  return { parts, fees: [{ name: "web_search", count: N(u.server_tool_use?.web_search_requests) }], notes };
}
function anthropic({ r, one, events, path, provider, prices }) {
  let usage, model;
  if (one) {
    usage = one.usage;
    model = one.model;
  } else
    for (const e of events) {
      if (e.type === "message_start") {
        usage = { ...e.message.usage };
        model = e.message.model;
      }
      if (e.type === "message_delta" && e.usage) {
        usage ??= {};
        for (const [k, v] of Object.entries(e.usage)) if (v !== null) usage[k] = v;
      }
    }
  model ??= reqBody(r).model ?? /models\/([^:]+)/.exec(path)?.[1];
  if (!usage) return NONE("no usage in the answer", { model });
  if (
    one === undefined &&
    !events.some((e) => e.type === "message_stop" || e.type === "message_delta") &&
    !(N(usage.input_tokens) === 0 && N(usage.output_tokens) === 0)
  )
    return NONE("stream without its end", { model });
  const p = provider === "vertex" ? "vertex" : provider;
  const { parts, fees, notes } = anthropicParts(
    usage,
    model,
    /"type":\s*"(server_tool_use|code_execution_tool_result|web_search_tool_result)"/.test(r.response_body),
  );
  for (const f of fees) f.each = prices["anthropic/tools"].fees[f.name];
  const rows = p === "snowflake" || p === "local-compat" ? p : p;
  return price(rows, parts, fees, prices, { notes });
}

// ---- OpenAI chat form: cached and audio tokens lie inside the prompt; reasoning inside the completion (not for xAI's chat) ----
function chatUsage(u, provider) {
  const prompt =
      N(u.prompt_tokens ?? (u.completion_tokens === undefined ? u.total_tokens : 0)) ||
      (u.completion_tokens === undefined ? N(u.total_tokens) : 0),
    details = u.prompt_tokens_details ?? u.prompt_token_details ?? {};
  let read = N(details.cached_tokens) || N(u.prompt_cache_hit_tokens) || N(u.num_cached_tokens) || N(u.cached_tokens);
  let write = N(details.cache_write_tokens);
  let output = N(u.completion_tokens);
  const reasoning = N(u.completion_tokens_details?.reasoning_tokens) || N(u.reasoning_tokens);
  const total = N(u.total_tokens);
  if (reasoning && total === prompt + output + reasoning) output += reasoning;
  const audioIn = provider === "mistral" ? 0 : N(details.audio_tokens);
  const audioOut = N(u.completion_tokens_details?.audio_tokens);
  const contradictory = read > prompt;
  const cachedAudio = N(details.cached_tokens_details?.audio_tokens);
  const usage = {
    input: prompt - read - audioIn - (read + write > prompt ? 0 : write),
    cache_read: read - cachedAudio,
    cache_write_5m: write,
    input_audio: audioIn - cachedAudio,
    cache_read_audio: cachedAudio,
    output: output - audioOut,
    output_audio: audioOut,
  };
  if (audioIn && cachedAudio === 0) usage.input = prompt - read - audioIn - write;
  return { usage, contradictory };
}
function chat({ r, one, events, path, provider, prices }) {
  const all = one ? [one] : events;
  const usage = last(all, (o) => o.usage) ?? last(all, (o) => o.x_groq?.usage);
  const model = last(all, (o) => o.model || undefined) ?? reqBody(r).model;
  const tier = tierOf(last(all, (o) => o.service_tier));
  if (!usage) return NONE("no usage in the answer", { model });
  if (r.provider === "gemini" && /openai/.test(path)) {
    const out = N(usage.total_tokens) - N(usage.prompt_tokens);
    return price(
      "gemini",
      [
        {
          model: model.replace(/^models\//, ""),
          usage: {
            input: N(usage.prompt_tokens) - N(usage.prompt_tokens_details?.cached_tokens),
            cache_read: N(usage.prompt_tokens_details?.cached_tokens),
            output: out,
          },
          tier,
        },
      ],
      [],
      prices,
      { notes: ["thoughts = total - prompt - completion"] },
    );
  }
  const breakdown =
    one?.usage_breakdown?.models ?? last(all, (o) => o.x_groq?.usage_breakdown?.models ?? o.usage_breakdown?.models);
  if (breakdown) {
    const searches = (one?.choices?.[0]?.message?.executed_tools ?? []).filter((t) =>
      /search/.test(t.type ?? ""),
    ).length;
    return price(
      provider,
      breakdown.map((m) => ({ model: m.model, usage: chatUsage(m.usage, provider).usage })),
      [{ name: "web_search", count: searches, each: prices["groq/tools"].fees.web_search, unsure: true }],
      prices,
      { notes: ["priced by usage_breakdown"] },
    );
  }
  const { usage: u, contradictory } = chatUsage(usage, provider);
  if (provider === "azure" && /grok/.test(model) && !contradictory) {
    const out = price(provider, [{ model, usage: u, tier }], [], prices, {
      sure: false,
      notes: ["Azure Grok: whether cached_tokens lie inside prompt_tokens is unknown"],
    });
    return out;
  }
  if (contradictory) return NONE("cached_tokens above prompt_tokens: meaning unknown", { model, usage: u });
  const fees = [];
  if (provider === "openai" && /search-(preview|api)/.test(model))
    fees.push({ name: "web_search_preview", count: 1, each: /gpt-5-search/.test(model) ? "0.01" : "0.025" });
  if (provider === "mistral" && usage.prompt_audio_seconds) {
    const each = prices[`mistral/${model}`]?.fees?.audio_second ?? "0.000066666667"; // Voxtral Small: 0.004 USD a minute
    fees.push({ name: "audio_second", count: Math.ceil(usage.prompt_audio_seconds), each, unsure: true });
  }
  if (provider === "perplexity")
    fees.push({
      name: "request",
      count: 1,
      each: prices["perplexity/tools"].fees[usage.search_context_size ?? "low"],
      unsure: model !== "sonar",
    });
  if (provider === "groq")
    for (const t of one?.choices?.[0]?.message?.executed_tools ?? [])
      if (/search/.test(t.type ?? ""))
        fees.push({ name: "web_search", count: 1, each: prices["groq/tools"].fees.web_search, unsure: true });
  return price(provider, [{ model, usage: u, tier }], fees, prices);
}

// ---- OpenAI Responses ----
function responses({ r, one, events, provider, prices }) {
  let o = one?.response ?? one;
  if (!o?.usage && events.length)
    o =
      last(events, (e) =>
        ["response.completed", "response.incomplete", "response.failed"].includes(e.type) ? e.response : undefined,
      ) ??
      last(events, (e) => e.response) ??
      {};
  o ??= {};
  const u = o.usage;
  const model = o.model ?? reqBody(r).model;
  if (!u) return NONE(`no usage in the answer (status ${o.status})`, { model });
  const read = N(u.input_tokens_details?.cached_tokens),
    write = N(u.input_tokens_details?.cache_write_tokens);
  const twelve = N(u.input_tokens_details?.cache_write_tokens_details?.ttl_12h_tokens);
  const usage = {
    input: N(u.input_tokens) - read - write,
    cache_read: read,
    cache_write_5m: write - twelve,
    cache_write_1h: twelve,
    output: N(u.output_tokens),
  };
  const notes = [];
  const fees = [];
  let sure = true;
  const items = o.output ?? [];
  const tools = prices[provider === "azure" ? "azure/tools" : "openai/tools"].fees;
  if (provider === "openai" || provider === "azure") {
    const searches =
      o.tool_usage?.web_search?.num_requests ??
      items.filter(
        (i) => i.type === "web_search_call" && (i.action?.type ?? "search") === "search" && i.status !== "failed",
      ).length;
    const preview = (o.tools ?? []).some((t) => /^web_search_preview/.test(t.type));
    const reasoner = /^(gpt-5|gpt-6|o\d)/.test(model);
    const each =
      provider === "azure" ? tools.web_search : preview && !reasoner ? tools.web_search_preview : tools.web_search;
    fees.push({
      name: preview && !reasoner ? "web_search_preview" : "web_search",
      count: searches,
      each,
      unsure: provider === "azure",
    });
    if (searches && !preview && /^gpt-4(o|\.1)-mini/.test(model))
      notes.push("search content of mini models is charged as blocks of 8000 input tokens a call");
    const files = items.filter((i) => i.type === "file_search_call").length;
    fees.push({ name: "file_search", count: files, each: tools.file_search });
    // The first eight digits of a container's id are the second it was begun: billed to the request that began it.
    const ids = new Set(
      items
        .map((i) => (i.type === "code_interpreter_call" ? i.container_id : i.environment?.container_id))
        .filter(Boolean),
    );
    let begun = 0;
    for (const id of ids) {
      const at = parseInt(id.slice(5, 13), 16);
      if (at >= N(o.created_at) - 1 && at <= N(o.created_at) + 3600) begun++;
      else {
        notes.push(`container ${id.slice(0, 13)}.. was begun ${N(o.created_at) - at} s before this request`);
      }
    }
    fees.push({ name: "container", count: begun, each: tools.container });
    const made = items.filter((i) => i.type === "image_generation_call" && i.status !== "failed");
    if (o.tool_usage?.image_gen?.total_tokens) {
      sure = false;
      notes.push("image_gen tokens of another model");
    } else
      for (const i of made) {
        const tool = (o.tools ?? []).find((t) => t.type === "image_generation") ?? {};
        const name = i.model ?? tool.model ?? "gpt-image-1";
        fees.push({
          name: `image ${i.quality}/${i.size}`,
          count: 1,
          each: prices[`openai/${name}`]?.fees?.[`${i.quality}/${i.size}`],
        });
        notes.push(`image by the piece of ${name}; its prompt's tokens are not stated`);
      }
  }
  return price(provider, [{ model: model ?? "?", usage, tier: tierOf(o.service_tier) }], fees, prices, { notes, sure });
}

// ---- Gemini generateContent: cached inside the prompt, thoughts beside the candidates, tool-use prompt on top ----
function geminiUsage(u) {
  const of = (list, name) =>
    (list ?? [])
      .filter((d) => String(d.modality).toUpperCase() === name)
      .reduce((s, d) => s + N(d.tokenCount ?? d.tokens), 0);
  const prompt = N(u.promptTokenCount),
    read = N(u.cachedContentTokenCount),
    tool = N(u.toolUsePromptTokenCount);
  const audio = of(u.promptTokensDetails, "AUDIO"),
    readAudio = of(u.cacheTokensDetails, "AUDIO");
  const toolAudio = of(u.toolUsePromptTokensDetails, "AUDIO");
  const image = of(u.candidatesTokensDetails, "IMAGE"),
    sound = of(u.candidatesTokensDetails, "AUDIO");
  const freshAudio = Math.min(Math.max(audio - readAudio, 0) + toolAudio, prompt - read + tool);
  return {
    input: prompt - read + tool - freshAudio,
    input_audio: freshAudio,
    cache_read: read - readAudio,
    cache_read_audio: readAudio,
    output: N(u.candidatesTokenCount) + N(u.thoughtsTokenCount) - image - sound,
    output_image: image,
    output_audio: sound,
  };
}
function groundingFee(all, model, tools) {
  const is3 = !/gemini-(1|2)/.test(model);
  const queries = new Set();
  let grounded = false;
  for (const o of all)
    for (const c of o.candidates ?? []) {
      const g = c.groundingMetadata;
      if (!g) continue;
      for (const q of g.webSearchQueries ?? [])
        if (q !== "") {
          queries.add(q);
          grounded = true;
        }
      if ((g.groundingChunks ?? []).some((x) => x.web) && g.searchEntryPoint) grounded = true;
    }
  if (is3) return { name: "grounding_query", count: queries.size, each: tools.grounding_query };
  return { name: "grounded_prompt", count: grounded ? 1 : 0, each: tools.grounded_prompt };
}
function gemini({ one, events, path, provider, prices }) {
  const all = (one ? [one] : events).map((o) => o.response ?? o);
  const model = (last(all, (o) => o.modelVersion) ?? /models\/([^:]+)/.exec(path)?.[1] ?? "?").replace(/^models\//, "");
  const u = last(all, (o) => (o.usageMetadata && Object.keys(o.usageMetadata).length ? o.usageMetadata : undefined));
  if (!u) return NONE("no usage in the answer", { model });
  const usage = geminiUsage(u);
  const total = Object.values(usage).reduce((a, b) => a + b, 0);
  const notes = [];
  if (u.totalTokenCount !== undefined && total !== N(u.totalTokenCount))
    notes.push(`classes sum to ${total}, totalTokenCount says ${u.totalTokenCount}`);
  const traffic = String(u.trafficType ?? u.serviceTier ?? "").toLowerCase();
  const tier = /flex/.test(traffic) ? "flex" : /priority/.test(traffic) ? "priority" : undefined;
  if (/provisioned/.test(traffic)) return NONE("provisioned throughput", { model });
  const context = N(u.promptTokenCount);
  const maps = all.some((o) =>
    (o.candidates ?? []).some((c) => (c.groundingMetadata?.groundingChunks ?? []).some((x) => x.maps)),
  );
  return price(
    provider === "vertex" ? "vertex" : "gemini",
    [{ model, usage, tier, context }],
    [
      groundingFee(all, model, prices["gemini/tools"].fees),
      { name: "maps", count: maps ? 1 : 0, each: prices["gemini/tools"].fees.maps },
    ],
    prices,
    { notes },
  );
}
function interactions({ one, events, prices, r }) {
  const o = one ?? last(events, (e) => (e.interaction?.usage ? e.interaction : undefined));
  if (!o?.usage) return NONE("no usage in the answer", { model: reqBody(r).model });
  const u = o.usage;
  const usage = geminiUsage({
    promptTokenCount: u.total_input_tokens,
    cachedContentTokenCount: u.total_cached_tokens,
    candidatesTokenCount: u.total_output_tokens,
    thoughtsTokenCount: u.total_thought_tokens,
    toolUsePromptTokenCount: u.total_tool_use_tokens,
    promptTokensDetails: u.input_tokens_by_modality,
    candidatesTokensDetails: u.output_tokens_by_modality,
  });
  const searches =
    (u.grounding_tool_count ?? []).reduce(
      (s, g) => s + (/search/.test(g.type ?? g.tool ?? "google_search") ? N(g.count) : 0),
      0,
    ) ||
    (o.steps ?? []).filter((s) => s.type === "google_search_call").flatMap((s) => s.arguments?.queries ?? [""]).length;
  const is3 = !/gemini-(1|2)/.test(o.model);
  const f = prices["gemini/tools"].fees;
  return price(
    "gemini",
    [{ model: o.model, usage, tier: tierOf(o.service_tier) }],
    [
      is3
        ? { name: "grounding_query", count: searches, each: f.grounding_query }
        : { name: "grounded_prompt", count: searches ? 1 : 0, each: f.grounded_prompt },
    ],
    prices,
  );
}
function geminiEmbed({ one, path, provider, prices }) {
  const model = /models\/([^:]+)/.exec(path)?.[1];
  const u = one?.usageMetadata;
  if (!u) return NONE("no usage in the answer", { model });
  const of = (name) =>
    (u.promptTokensDetails ?? u.promptTokenDetails ?? [])
      .filter((d) => d.modality === name)
      .reduce((s, d) => s + N(d.tokenCount), 0);
  return price(
    provider,
    [
      {
        model,
        usage: {
          input: N(u.promptTokenCount) - of("IMAGE") - of("AUDIO"),
          input_image: of("IMAGE"),
          input_audio: of("AUDIO"),
        },
      },
    ],
    [],
    prices,
  );
}
function predict({ one, path, provider, prices }) {
  const model = /models\/([^:]+)/.exec(path)?.[1];
  const row = prices[`${provider}/${model}`];
  if (/^(text-embedding-00|multimodalembedding|textembedding)/.test(model)) {
    const characters = one?.metadata?.billableCharacterCount;
    if (characters === undefined) return NONE("no billableCharacterCount", { model });
    return price(
      provider,
      [{ model, usage: {} }],
      [{ name: "character", count: characters, each: row?.fees?.character }],
      prices,
      { notes: ["Vertex bills text-embedding-00x by the character"] },
    );
  }
  const tokens = (one?.predictions ?? []).reduce((s, p) => s + N(p.embeddings?.statistics?.token_count), 0);
  if (!tokens) return NONE("no token count", { model });
  return price(provider, [{ model, usage: { input: tokens } }], [], prices);
}
function images({ r, one, provider, prices }) {
  if (provider !== "openai") return NONE("no price", { model: reqBody(r).model });
  const q = reqBody(r);
  const u = one?.usage;
  const asked = q.model ?? formField(r, "model");
  if (u) {
    if (!asked) return NONE("the model is not recorded");
    const d = u.input_tokens_details ?? {};
    const od = u.output_tokens_details ?? {};
    const usage = {
      input: N(u.input_tokens) - N(d.image_tokens),
      input_image: N(d.image_tokens),
      output: N(od.text_tokens),
      output_image: N(u.output_tokens) - N(od.text_tokens),
    };
    return price(provider, [{ model: asked, usage }], [], prices);
  }
  if (r.request_body === null || r.request_body === undefined) return NONE("the request is not recorded");
  const model = asked ?? "dall-e-2"; // the documented default
  const size = q.size ?? formField(r, "size") ?? "1024x1024";
  const quality = q.quality ?? formField(r, "quality") ?? "standard";
  const fees = prices[`openai/${model}`]?.fees ?? {};
  return price(
    provider,
    [{ model, usage: {} }],
    [
      {
        name: `image ${size}`,
        count: (one?.data ?? []).length || N(q.n ?? formField(r, "n") ?? 1),
        each: fees[size] ?? fees[`${quality}/${size}`],
      },
    ],
    prices,
    { notes: asked ? [] : ["no model asked for: dall-e-2 by default"] },
  );
}
function speech({ r, provider, prices }) {
  const model = reqBody(r).model;
  const row = prices[`${provider}/${model}`];
  if (row?.fees?.character)
    return price(
      provider,
      [{ model, usage: {} }],
      [{ name: "character", count: [...String(reqBody(r).input ?? "")].length, each: row.fees.character }],
      prices,
    );
  return NONE("tokens of a binary answer are not stated", { model });
}
function transcription({ r, one, events, provider, prices }) {
  const all = one ? [one] : events;
  const u = last(all, (o) => o.usage);
  const model = last(all, (o) => o.model) ?? formField(r, "model") ?? reqBody(r).model;
  const row = prices[`${provider}/${model}`];
  if (u?.type === "tokens") {
    const d = u.input_token_details ?? {};
    return price(
      provider,
      [
        {
          model,
          usage: {
            input: N(u.input_tokens) - N(d.audio_tokens),
            input_audio: N(d.audio_tokens),
            output: N(u.output_tokens),
          },
        },
      ],
      [],
      prices,
    );
  }
  const seconds = u?.seconds ?? u?.prompt_audio_seconds ?? undefined;
  if (seconds === undefined) return NONE("no length is stated", { model });
  if (!model) return NONE("the model is not recorded");
  return price(
    provider,
    [{ model, usage: {} }],
    [{ name: "audio_second", count: Math.ceil(seconds), each: row?.fees?.audio_second }],
    prices,
  );
}
function rerank({ r, one, provider, prices }) {
  const model = one?.model ?? reqBody(r).model;
  const units = one?.meta?.billed_units?.search_units;
  const row = prices[`${provider}/${model}`];
  if (units !== undefined)
    return price(provider, [{ model, usage: {} }], [{ name: "query", count: units, each: row?.fees?.query }], prices);
  if (one?.usage?.total_tokens)
    return price(provider, [{ model, usage: { input: one.usage.total_tokens } }], [], prices);
  return NONE("no usage", { model });
}
function cohere({ r, one, events, provider, prices }) {
  const all = one ? [one] : events;
  const model = reqBody(r).model;
  const b = last(
    all,
    (o) =>
      o.usage?.billed_units ?? o.delta?.usage?.billed_units ?? o.meta?.billed_units ?? o.response?.meta?.billed_units,
  );
  if (!b) return NONE("no billed_units", { model });
  if (!model) return NONE("the model is not recorded");
  return price(
    provider,
    [{ model, usage: { input: N(b.input_tokens), output: N(b.output_tokens) } }],
    b.search_units ? [{ name: "query", count: b.search_units, each: undefined }] : [],
    prices,
  );
}
function ocr({ r, one, provider, prices }) {
  const model = one?.model ?? reqBody(r).model;
  const pages = one?.usage_info?.pages_processed;
  return price(
    provider,
    [{ model, usage: {} }],
    [{ name: "page", count: pages, each: prices[`${provider}/${model}`]?.fees?.page }],
    prices,
  );
}
// ---- batches: half price, on the result object only ----
function batch({ r, one, events, provider, prices }) {
  if (r.method !== "GET") return NONE("a batch costs with its results");
  if (provider === "openai" && one?.usage && one.status === "completed") {
    const u = one.usage,
      read = N(u.input_tokens_details?.cached_tokens);
    return price(
      "openai",
      [
        {
          model: one.model,
          usage: { input: N(u.input_tokens) - read, cache_read: read, output: N(u.output_tokens) },
          tier: "batch",
        },
      ],
      [],
      prices,
    );
  }
  if (provider === "anthropic" && (events.length || one?.result)) {
    const messages = (one?.result ? [one] : events).map((e) => e.result?.message).filter(Boolean);
    if (messages.length)
      return price(
        "anthropic",
        messages.flatMap((m) => anthropicParts(m.usage, m.model).parts.map((p) => ({ ...p, tier: "batch" }))),
        [],
        prices,
      );
  }
  if (provider === "gemini" && one?.response?.inlinedResponses) {
    const list = one.response.inlinedResponses.inlinedResponses ?? [];
    return price(
      "gemini",
      list
        .map((i) => i.response)
        .filter((x) => x?.usageMetadata)
        .map((x) => ({ model: x.modelVersion, usage: geminiUsage(x.usageMetadata), tier: "batch" })),
      [],
      prices,
    );
  }
  if (provider === "mistral" && one?.outputs) {
    const bodies = one.outputs.map((o) => o.response?.body).filter((b) => b?.usage);
    return price(
      "mistral",
      bodies.map((b) => ({ model: b.model, usage: chatUsage(b.usage, "mistral").usage, tier: "batch" })),
      [],
      prices,
    );
  }
  if (provider === "xai" && one?.results) {
    const ticks = one.results
      .map((x) => Object.values(x.batch_result?.response ?? {})[0]?.usage?.cost_in_usd_ticks)
      .filter((x) => x !== undefined);
    return {
      nanoUsd: roundUp(
        ticks.reduce((s, t) => s + BigInt(t), 0n),
        10n,
      ).toString(),
      source: "stated",
      sure: true,
      model: "grok-4.3",
      why: "sum of usage.cost_in_usd_ticks",
    };
  }
  return NONE("a batch costs with its results");
}
// ---- realtime: every response.done is a request of its own ----
function realtime(r, prices) {
  if (r.provider === "gemini") {
    // Live: each usageMetadata closes a turn of its own
    let live;
    const turns = [];
    for (const line of r.response_body.split("\n")) {
      if (!line.trim()) continue;
      const { data: d } = JSON.parse(line);
      if (d.setup?.model) live = d.setup.model.replace(/^models\//, "");
      const u = d.usageMetadata;
      if (!u) continue;
      turns.push({
        usage: geminiUsage({
          ...u,
          candidatesTokenCount: u.responseTokenCount,
          candidatesTokensDetails: u.responseTokensDetails,
        }),
      });
    }
    return price(
      "gemini",
      turns.map((t) => ({ ...t, model: live })),
      [],
      prices,
    );
  }
  if (!["openai", "azure"].includes(r.provider)) return NONE("billed by the minute: no price by the message");
  let model, heard;
  const parts = [];
  const fees = [];
  for (const line of r.response_body.split("\n")) {
    if (!line.trim()) continue;
    const { data: d } = JSON.parse(line);
    const s = d.session;
    if (s?.model) model = s.model;
    const t = s?.audio?.input?.transcription?.model ?? s?.input_audio_transcription?.model;
    if (t) heard = t;
    if (d.type === "response.done" && d.response?.usage) {
      const u = d.response.usage,
        i = u.input_token_details ?? {},
        c = i.cached_tokens_details ?? {},
        o = u.output_token_details ?? {};
      const cached = N(i.cached_tokens),
        ca = N(c.audio_tokens),
        ci = N(c.image_tokens);
      parts.push({
        model,
        usage: {
          input: N(u.input_tokens) - N(i.audio_tokens) - N(i.image_tokens) - (cached - ca - ci),
          input_audio: N(i.audio_tokens) - ca,
          input_image: N(i.image_tokens) - ci,
          cache_read: cached - ca - ci,
          cache_read_audio: ca,
          cache_read_image: ci,
          output: N(u.output_tokens) - N(o.audio_tokens),
          output_audio: N(o.audio_tokens),
        },
      });
    }
    if (d.type === "conversation.item.input_audio_transcription.completed" && d.usage) {
      if (d.usage.type === "duration")
        fees.push({
          name: "audio_second",
          count: Math.ceil(d.usage.seconds),
          each: prices[`openai/${heard ?? "whisper-1"}`]?.fees?.audio_second,
        });
    }
  }
  if (!parts.length) return NONE("no response in the session", { model });
  return price(r.provider, parts, fees, prices);
}
