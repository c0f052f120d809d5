// One exchange of every endpoint that is read, in the shape of the providers' own: what is asked, and what comes back,
// whole or in events, and of sessions what either side says. Tests change them at random places. Counts in them are
// small and odd, so that sums show.
import type { DialectName } from "../../proxy/dialects/dialect.ts";

export type Exchange = {
  readonly dialect: DialectName;
  readonly method: "GET" | "POST" | "PATCH";
  readonly path: string;
  readonly request: object;
  /** What comes back: each is an answer of its own, or one of the events of a stream, or a line of a result. */
  readonly said: readonly object[];
};

export type SessionExchange = {
  readonly dialect: DialectName;
  readonly path: string;
  readonly query: string;
  readonly sent: readonly object[];
  readonly received: readonly object[];
};

const CHAT_USAGE = {
  prompt_tokens: 101,
  completion_tokens: 43,
  total_tokens: 144,
  prompt_tokens_details: { cached_tokens: 31, audio_tokens: 7, cache_write_tokens: 5 },
  completion_tokens_details: { reasoning_tokens: 11, audio_tokens: 3 },
  cost: 0.000_12,
  cost_details: { upstream_inference_cost: 0.000_1 },
  service_tier: "default",
};
const TOOLS = [
  { type: "function", function: { name: "f", parameters: {} } },
  { type: "web_search", allowed_callers: ["direct"], model: "x" },
  { type: "namespace", tools: [{ type: "custom" }] },
  { type: "shell", environment: { type: "local" } },
];
const RESPONSE_USAGE = {
  input_tokens: 101,
  output_tokens: 43,
  total_tokens: 144,
  input_tokens_details: { cached_tokens: 31, cache_write_tokens_details: { ttl_12h_tokens: 2 } },
  output_tokens_details: { reasoning_tokens: 11 },
};
const RESPONSE = {
  id: "resp_1",
  object: "response",
  status: "completed",
  model: "gpt-5.2",
  service_tier: "flex",
  store: true,
  tools: [{ type: "image_generation", model: "gpt-image-1" }],
  output: [
    { type: "web_search_call", action: { type: "search" } },
    { type: "code_interpreter_call", container_id: "cntr_1" },
    { type: "shell_call", environment: { container_id: "cntr_2" } },
    { type: "image_generation_call", quality: "low", size: "1024x1024", status: "completed" },
  ],
  tool_usage: {
    image_gen: { input_tokens: 3, output_tokens: 17, input_tokens_details: { image_tokens: 1 } },
    web_search: { num_requests: 1 },
  },
  usage: RESPONSE_USAGE,
};
const CLAUDE_USAGE = {
  input_tokens: 101,
  cache_creation_input_tokens: 20,
  cache_read_input_tokens: 31,
  cache_creation: { ephemeral_5m_input_tokens: 15, ephemeral_1h_input_tokens: 5 },
  output_tokens: 43,
  output_tokens_details: { thinking_tokens: 7 },
  service_tier: "standard",
  inference_geo: "us",
  speed: "fast",
  server_tool_use: { web_search_requests: 1 },
};
const CLAUDE = {
  id: "msg_1",
  type: "message",
  model: "claude-haiku-4-5",
  content: [{ type: "text", text: "hi" }],
  usage: {
    ...CLAUDE_USAGE,
    iterations: [
      { type: "message", ...CLAUDE_USAGE },
      { type: "advisor_message", model: "claude-opus-4-5", input_tokens: 9, output_tokens: 2 },
    ],
  },
};
const CLAUDE_REQUEST = {
  model: "claude-haiku-4-5",
  max_tokens: 200,
  stream: true,
  system: [{ type: "text", text: "be kind", cache_control: { type: "ephemeral" } }],
  messages: [
    {
      role: "user",
      content: [
        { type: "image", source: { type: "base64", data: "" } },
        { type: "tool_addition", tool: { definition: { type: "bash_20250124", model: "claude-x" } } },
      ],
    },
  ],
  tools: [
    { type: "bash_20250124", name: "bash" },
    { name: "f", input_schema: {}, allowed_callers: ["direct"] },
  ],
  thinking: { type: "enabled", budget_tokens: 50 },
  context_management: { edits: [{ type: "clear_thinking_20251015" }] },
  metadata: { user_id: "u1" },
  anthropic_beta: ["context-1m-2025-08-07"],
  fallbacks: [{ model: "claude-sonnet-4-5" }],
};
const GEMINI_COUNTS = {
  promptTokenCount: 101,
  cachedContentTokenCount: 31,
  candidatesTokenCount: 30,
  thoughtsTokenCount: 11,
  toolUsePromptTokenCount: 3,
  totalTokenCount: 145,
  promptTokensDetails: [
    { modality: "TEXT", tokenCount: 90 },
    { modality: "IMAGE", tokenCount: 11 },
  ],
  cacheTokensDetails: [{ modality: 4, tokenCount: 2 }],
  candidatesTokensDetails: [{ modality: "AUDIO", tokenCount: 5 }],
  trafficType: "ON_DEMAND_FLEX",
};
const GEMINI = {
  candidates: [
    {
      index: 0,
      content: { parts: [{ text: "hi" }] },
      finishReason: "STOP",
      groundingMetadata: { webSearchQueries: ["a", "b"] },
    },
  ],
  promptFeedback: { safetyRatings: [] },
  usageMetadata: GEMINI_COUNTS,
  modelVersion: "gemini-2.5-flash",
  responseId: "g1",
};
const GEMINI_REQUEST = {
  contents: [{ role: "user", parts: [{ text: "hi" }, { fileData: { fileUri: "https://x.test/v1beta/files/abc" } }] }],
  tools: [{ functionDeclarations: [] }],
  generationConfig: {
    maxOutputTokens: 200,
    candidateCount: 1,
    thinkingConfig: { thinkingBudget: 0 },
    responseModalities: ["TEXT"],
    routingConfig: { manualMode: { modelName: "gemini-2.5-pro" } },
  },
  cachedContent: "cachedContents/c1",
  serviceTier: "flex",
  labels: { team: "search" },
};
const GEMINI_BATCH = {
  batch: { model: "models/gemini-2.5-flash", inputConfig: { requests: { requests: [{ request: GEMINI_REQUEST }] } } },
};
const INTERACTION = {
  id: "i1",
  status: "completed",
  model: "gemini-2.5-flash",
  service_tier: "flex",
  store: true,
  steps: [{ type: "google_search_call", arguments: { queries: ["a"] } }],
  outputs: [{ type: "text", text: "hi" }],
  usage: {
    total_tokens: 160,
    total_input_tokens: 101,
    total_cached_tokens: 31,
    total_output_tokens: 43,
    total_thought_tokens: 11,
    total_tool_use_tokens: 5,
    input_tokens_by_modality: [{ modality: "audio", tokens: 7 }],
    cached_tokens_by_modality: [{ modality: "audio", tokens: 2 }],
    output_tokens_by_modality: [{ modality: "image", tokens: 3 }],
    grounding_tool_count: [{ count: 1 }],
  },
};
const IMAGE_USAGE = {
  input_tokens: 50,
  output_tokens: 300,
  total_tokens: 350,
  input_tokens_details: { text_tokens: 40, image_tokens: 10 },
  output_tokens_details: { text_tokens: 9 },
};

const openai = (path: string, request: object, ...said: object[]): Exchange => ({
  dialect: "openai",
  method: "POST",
  path,
  request,
  said,
});
const anthropic = (path: string, request: object, ...said: object[]): Exchange => ({
  ...openai(path, request, ...said),
  dialect: "anthropic",
});
const google = (path: string, request: object, ...said: object[]): Exchange => ({
  ...openai(path, request, ...said),
  dialect: "google",
});

export const EXCHANGES: readonly Exchange[] = [
  openai(
    "/chat/completions",
    {
      model: "gpt-4o-mini",
      stream: true,
      stream_options: { include_usage: true },
      max_completion_tokens: 200,
      n: 1,
      messages: [{ role: "user", content: [{ type: "image_url", image_url: { url: "data:" } }], audio: { id: "a1" } }],
      tools: TOOLS,
      modalities: ["text", "audio"],
      audio: { voice: "alloy" },
      prediction: { type: "content", content: "x" },
      reasoning: { effort: "low" },
      metadata: { team: "search" },
      user: "u1",
      service_tier: "flex",
      models: ["gpt-4o"],
      plugins: [{ model: "m1", allowed_models: ["m2"] }],
      providerOptions: { gateway: { models: ["m3"] } },
      compound_custom: { models: { answering_model: "m4" } },
      web_search_options: { search_context_size: "high" },
    },
    { id: "chatcmpl-1", model: "gpt-4o-mini", choices: [{ index: 0, delta: { content: "hi" }, finish_reason: null }] },
    { id: "chatcmpl-1", model: "gpt-4o-mini", choices: [{ index: 0, delta: {}, finish_reason: "stop" }] },
    { id: "chatcmpl-1", model: "gpt-4o-mini", choices: [], usage: CHAT_USAGE, x_groq: { usage: CHAT_USAGE } },
  ),
  openai(
    "/completions",
    { model: "gpt-3.5-turbo-instruct", prompt: ["a", "b"], best_of: 2, max_tokens: 5 },
    { id: "cmpl-1", model: "gpt-3.5-turbo-instruct", choices: [{ text: "hi", index: 0 }], usage: CHAT_USAGE },
  ),
  openai(
    "/responses",
    {
      model: "gpt-5.2",
      max_output_tokens: 200,
      background: true,
      input: [
        { type: "item_reference", id: "msg_1" },
        { type: "reasoning", encrypted_content: "x" },
        { type: "message", content: [{ type: "input_file", file_id: "file-1" }] },
        { type: "additional_tools", tools: TOOLS },
      ],
      tools: TOOLS,
      reasoning: { effort: "low" },
      previous_response_id: "resp_0",
      conversation: { id: "conv_1" },
      prompt: { id: "pmpt_1" },
    },
    RESPONSE,
    { type: "response.created", response: { ...RESPONSE, status: "in_progress", usage: null } },
    { type: "response.output_text.delta", delta: "hi" },
    { type: "response.completed", response: RESPONSE },
  ),
  openai("/responses/compact", { model: "gpt-5.2", input: "hi" }, { ...RESPONSE, object: "response.compaction" }),
  openai("/decisions", { model: "gpt-5.2", input: "hi" }, { id: "d1", model: "gpt-5.2", usage: RESPONSE_USAGE }),
  openai(
    "/batches",
    { input_file_id: "file-1", endpoint: "/v1/responses" },
    {
      id: "batch_1",
      object: "batch",
      status: "completed",
      model: "gpt-5.2",
      output_file_id: "file-2",
      error_file_id: "file-3",
      request_counts: { total: 2, completed: 2, failed: 0 },
      usage: RESPONSE_USAGE,
    },
  ),
  openai(
    "/embeddings",
    { model: "text-embedding-3-small", input: ["a", "b"] },
    { data: [{ embedding: [0.1] }], model: "text-embedding-3-small", usage: { prompt_tokens: 9, total_tokens: 9 } },
  ),
  openai(
    "/images/generations",
    {
      model: "gpt-image-1",
      prompt: "x",
      n: 2,
      size: "1024x1024",
      quality: "high",
      partial_images: 1,
      images: [{ file_id: "f" }],
      mask: {},
    },
    {
      data: [{ b64_json: "" }],
      usage: IMAGE_USAGE,
      svg_usage: { model: "m", input_tokens: 3, output_tokens: 4 },
      cost_in_usd_ticks: 5,
    },
    { type: "image_generation.completed", usage: IMAGE_USAGE },
  ),
  openai(
    "/audio/speech",
    { model: "gpt-4o-mini-tts", input: "hello", voice: "alloy", stream_format: "sse" },
    { type: "speech.audio.done", usage: { input_tokens: 5, output_tokens: 60, total_tokens: 65 } },
  ),
  openai(
    "/audio/transcriptions",
    { model: "whisper-1", file: { bytes: 64_000 }, stream: "true" },
    { text: "hi", duration: 3.2, usage: { type: "duration", seconds: 4 } },
    {
      type: "transcript.text.done",
      text: "hi",
      usage: { input_tokens: 30, output_tokens: 5, input_token_details: { audio_tokens: 29 } },
    },
    { text: "hi", usage: { ...CHAT_USAGE, prompt_audio_seconds: 2.5 } },
  ),
  openai(
    "/videos",
    { model: "sora-2", prompt: "x", seconds: "8", size: "720x1280" },
    { id: "video_1", object: "video", status: "completed", model: "sora-2", seconds: "8", size: "720x1280" },
  ),
  anthropic(
    "/messages",
    CLAUDE_REQUEST,
    CLAUDE,
    { type: "message_start", message: CLAUDE },
    { type: "content_block_delta", index: 0, delta: { type: "text_delta", text: "hi" } },
    { type: "message_delta", delta: { stop_reason: "end_turn" }, usage: { output_tokens: 43 } },
    { type: "message_stop" },
  ),
  anthropic(
    "/messages/batches",
    { requests: [{ custom_id: "a", params: CLAUDE_REQUEST }] },
    { id: "msgbatch_1", type: "message_batch", processing_status: "in_progress" },
    { custom_id: "a", result: { type: "succeeded", message: CLAUDE } },
    { custom_id: "b", result: { type: "errored", error: {} } },
  ),
  google("/models/gemini-2.5-flash:generateContent", GEMINI_REQUEST, GEMINI),
  google("/models/gemini-2.5-flash:streamGenerateContent", GEMINI_REQUEST, GEMINI, GEMINI),
  google(
    "/models/gemini-embedding-001:embedContent",
    { content: { parts: [{ text: "hi" }] } },
    { embedding: { values: [0.1] }, usageMetadata: { promptTokenCount: 9 } },
  ),
  google(
    "/models/gemini-embedding-001:batchEmbedContents",
    { requests: [{ model: "models/gemini-embedding-001", content: { parts: [{ text: "hi" }] } }] },
    { embeddings: [], usageMetadata: { promptTokenCount: 9 } },
  ),
  google(
    "/models/imagen-4.0-generate-001:predict",
    { instances: [{ prompt: "x" }], parameters: { sampleCount: 2 } },
    { predictions: [{ bytesBase64Encoded: "" }] },
  ),
  google(
    "/models/text-embedding-005:predict",
    { instances: [{ content: "x" }] },
    { predictions: [{ embeddings: { statistics: { token_count: 9 } } }] },
  ),
  google(
    "/models/veo-3.0-generate-001:predictLongRunning",
    { instances: [{ prompt: "x" }], parameters: { durationSeconds: 8, sampleCount: 1, resolution: "720p" } },
    { name: "models/veo-3.0-generate-001/operations/o1" },
  ),
  google(
    "/models/gemini-2.5-flash:batchGenerateContent",
    GEMINI_BATCH,
    {
      name: "batches/b1",
      done: true,
      response: { responsesFile: "files/f1", inlinedResponses: { inlinedResponses: [{ response: GEMINI }] } },
    },
    { key: "a", response: GEMINI },
  ),
  google(
    "/interactions",
    {
      model: "gemini-2.5-flash",
      input: [{ type: "image", data: "", uri: "files/f1" }],
      tools: [{ type: "google_search" }],
      generation_config: { max_output_tokens: 200 },
      previous_interaction_id: "i0",
      background: true,
      service_tier: "flex",
    },
    INTERACTION,
    { event_type: "interaction.start", interaction: { id: "i1", status: "in_progress" } },
    { event_type: "content.delta", delta: { text: "hi" } },
    { event_type: "interaction.completed", interaction: INTERACTION },
  ),
  google(
    "/cachedContents",
    { model: "models/gemini-2.5-flash", contents: [], ttl: "3600s" },
    {
      name: "cachedContents/c1",
      model: "models/gemini-2.5-flash",
      createTime: "2026-11-29T00:00:00Z",
      updateTime: "2026-11-29T00:00:00Z",
      expireTime: "2026-11-29T01:00:00Z",
      usageMetadata: { totalTokenCount: 5_000 },
    },
  ),
  {
    ...google(
      "/cachedContents/c1",
      { expireTime: "2026-11-29T02:00:00Z" },
      {
        name: "cachedContents/c1",
        model: "models/gemini-2.5-flash",
        createTime: "2026-11-29T00:00:00Z",
        updateTime: "2026-11-29T00:30:00Z",
        expireTime: "2026-11-29T02:00:00Z",
        usageMetadata: { totalTokenCount: 5_000 },
      },
    ),
    method: "PATCH",
  },
];

const TRANSCRIBES = { audio: { input: { transcription: { model: "whisper-1" } } } };
const LIVE = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";

export const SESSIONS: readonly SessionExchange[] = [
  {
    dialect: "openai",
    path: "/realtime",
    query: "model=gpt-realtime",
    sent: [
      { type: "session.update", session: TRANSCRIBES },
      { type: "response.create", event_id: "e1", response: { model: "gpt-realtime" } },
      { type: "input_audio_buffer.append", audio: "" },
    ],
    received: [
      { type: "session.created", session: { model: "gpt-realtime", ...TRANSCRIBES } },
      { type: "response.created", response: { id: "resp_1" } },
      {
        type: "response.done",
        response: {
          id: "resp_1",
          status: "completed",
          usage: {
            total_tokens: 144,
            input_tokens: 101,
            output_tokens: 43,
            input_token_details: {
              text_tokens: 60,
              audio_tokens: 41,
              image_tokens: 0,
              cached_tokens: 31,
              cached_tokens_details: { text_tokens: 11, audio_tokens: 20, image_tokens: 0 },
            },
            output_token_details: { text_tokens: 13, audio_tokens: 30 },
          },
        },
      },
      {
        type: "conversation.item.input_audio_transcription.completed",
        item_id: "item_1",
        usage: { total_tokens: 17, input_tokens: 14, output_tokens: 3, input_token_details: { audio_tokens: 14 } },
      },
      { type: "error", error: { event_id: "e1", code: "conversation_already_has_active_response" } },
    ],
  },
  {
    dialect: "openai",
    path: "/responses",
    query: "",
    sent: [{ type: "response.create", stream_id: "s1", model: "gpt-5.2", input: "hi", max_output_tokens: 100 }],
    received: [
      { type: "response.created", stream_id: "s1", response: { ...RESPONSE, status: "in_progress", usage: null } },
      { type: "response.output_text.delta", stream_id: "s1", delta: "hi" },
      { type: "response.completed", stream_id: "s1", response: RESPONSE },
      { type: "error", stream_id: "s1", error: { message: "x" } },
    ],
  },
  {
    dialect: "google",
    path: LIVE,
    query: "",
    sent: [
      { setup: { model: "models/gemini-live-2.5-flash" } },
      { clientContent: { turnComplete: true } },
      { toolResponse: {} },
      { realtimeInput: {} },
    ],
    received: [
      { setupComplete: {} },
      { serverContent: { modelTurn: { parts: [{ text: "hi" }] } } },
      { toolCall: {} },
      { serverContent: { turnComplete: true }, usageMetadata: { ...GEMINI_COUNTS, responseTokenCount: 30 } },
    ],
  },
];
