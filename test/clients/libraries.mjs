// node libraries.mjs PART: the calls of one library of npm. Each answer is a line, and so is each error, as its users
// see it.
const url = process.env.KEYMETER_URL ?? "";
const apiKey = process.env.OPENAI_API_KEY ?? "";
const [, , part = ""] = process.argv;
const PROMPT = "say hello";
/** By a name that is worked out, because these are no dependencies of the checkout. */
const load = (...names) => Promise.all(names.map((name) => import(name)));

const drain = async (stream) => {
  let pieces = 0;
  for await (const piece of stream) pieces += piece === undefined ? 0 : 1;
  return `${pieces} pieces`;
};

const PARTS = {
  async openai() {
    const [{ default: OpenAI }] = await load("openai");
    const client = new OpenAI({ baseURL: `${url}/openai/v1`, apiKey });
    const chat = { model: "gpt-4o-mini", messages: [{ role: "user", content: PROMPT }] };
    return [
      () => client.chat.completions.create(chat),
      async () => drain(await client.chat.completions.create({ ...chat, stream: true })),
      () => client.responses.create({ model: "gpt-5.2", input: PROMPT }),
      async () => drain(await client.responses.create({ model: "gpt-5.2", input: PROMPT, stream: true })),
      () => client.embeddings.create({ model: "text-embedding-3-small", input: PROMPT }),
    ];
  },
  async anthropic() {
    const [{ default: Anthropic }] = await load("@anthropic-ai/sdk");
    const client = new Anthropic({ baseURL: `${url}/anthropic`, apiKey });
    const question = { model: "claude-haiku-4-5", max_tokens: 500, messages: [{ role: "user", content: PROMPT }] };
    return [() => client.messages.create(question), () => client.messages.stream(question).finalMessage()];
  },
  async genai() {
    const [{ GoogleGenAI }] = await load("@google/genai");
    const client = new GoogleGenAI({ apiKey, httpOptions: { baseUrl: `${url}/google` } });
    const question = { model: "gemini-2.5-flash", contents: PROMPT };
    return [
      () => client.models.generateContent(question),
      async () => drain(await client.models.generateContentStream(question)),
    ];
  },
  async ai() {
    const [{ generateText, streamText }, openai, anthropic, google] = await load(
      "ai",
      "@ai-sdk/openai",
      "@ai-sdk/anthropic",
      "@ai-sdk/google",
    );
    const ofOpenAi = openai.createOpenAI({ baseURL: `${url}/openai/v1`, apiKey });
    const models = [
      ofOpenAi("gpt-5.2"),
      ofOpenAi.chat("gpt-4o-mini"),
      anthropic.createAnthropic({ baseURL: `${url}/anthropic/v1`, apiKey })("claude-haiku-4-5"),
      google.createGoogleGenerativeAI({ baseURL: `${url}/google/v1beta`, apiKey })("gemini-2.5-flash"),
    ];
    return models.flatMap((model) => [
      () => generateText({ model, prompt: PROMPT }),
      async () => {
        let failure;
        const { textStream } = streamText({ model, prompt: PROMPT, onError: ({ error }) => (failure = error) });
        await drain(textStream);
        if (failure) throw failure;
      },
    ]);
  },
  async "langchain-openai"() {
    const [{ ChatOpenAI, OpenAIEmbeddings }] = await load("@langchain/openai");
    const configuration = { baseURL: `${url}/openai/v1` };
    const chat = new ChatOpenAI({ model: "gpt-4o-mini", apiKey, configuration });
    const responses = new ChatOpenAI({ model: "gpt-5.2", apiKey, configuration, useResponsesApi: true });
    const embeddings = new OpenAIEmbeddings({ model: "text-embedding-3-small", apiKey, configuration });
    return [
      () => chat.invoke(PROMPT),
      async () => drain(await chat.stream(PROMPT)),
      () => responses.invoke(PROMPT),
      () => embeddings.embedQuery(PROMPT),
    ];
  },
  async "langchain-anthropic"() {
    const [{ ChatAnthropic }] = await load("@langchain/anthropic");
    const chat = new ChatAnthropic({ model: "claude-haiku-4-5", apiKey, anthropicApiUrl: `${url}/anthropic` });
    return [() => chat.invoke(PROMPT), async () => drain(await chat.stream(PROMPT))];
  },
  async "langchain-google"() {
    const [{ ChatGoogleGenerativeAI }] = await load("@langchain/google-genai");
    const chat = new ChatGoogleGenerativeAI({ model: "gemini-2.5-flash", apiKey, baseUrl: `${url}/google` });
    return [() => chat.invoke(PROMPT), async () => drain(await chat.stream(PROMPT))];
  },
  async "llamaindex-openai"() {
    const [{ OpenAI }] = await load("@llamaindex/openai");
    const chat = new OpenAI({ model: "gpt-4o-mini", apiKey, baseURL: `${url}/openai/v1` });
    const messages = [{ role: "user", content: PROMPT }];
    return [() => chat.chat({ messages }), async () => drain(await chat.chat({ messages, stream: true }))];
  },
};

const calls = await PARTS[part]();
for (const [i, call] of calls.entries()) {
  try {
    await call();
    console.log(`${part} ${i + 1}: ok`);
  } catch (error) {
    console.log(
      `${part} ${i + 1}: ${error?.constructor?.name} ${error?.status ?? error?.statusCode ?? ""} ${error?.message}`,
    );
  }
}
