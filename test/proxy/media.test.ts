// Pictures, sound and film: by the token, by the piece, by the second and by the character, through the official SDK.
import OpenAI, { toFile } from "openai";
import { beforeAll, describe, expect, it } from "vitest";
import { withProxy } from "../with-proxy.ts";

const bench = withProxy(() => {}, { KEYMETER_DURABILITY: "process" });
let client: OpenAI;
const KEY = "sk-test-media-client-key";
beforeAll(() => {
  client = new OpenAI({ baseURL: `${bench.running.url}/openai/v1`, apiKey: KEY, maxRetries: 0 });
});

function answers(body: object | string | Buffer, type = "application/json"): void {
  bench.provider.script = (_arrived, response) =>
    void response
      .writeHead(200, { "content-type": type })
      .end(typeof body === "string" || Buffer.isBuffer(body) ? body : JSON.stringify(body));
}

/** The event of what is asked: cost, state and quantities. */
async function booked(ask: () => Promise<unknown>): Promise<{ cost: string | null; state: string; usage: object }> {
  const before = (await bench.running.events()).length;
  await ask();
  await expect.poll(async () => (await bench.running.events()).length).toBe(before + 1);
  const event = (await bench.running.events()).at(-1);
  return { cost: event?.costNanoUsd ?? null, state: event?.usageState ?? "", usage: event?.usage ?? {} };
}

const PICTURE = Buffer.from("89504e470d0a1a0a", "hex");
const USAGE = {
  input_tokens: 60,
  input_tokens_details: { text_tokens: 50, image_tokens: 10 },
  output_tokens: 4_160,
  total_tokens: 4_220,
};
const PRICED = { cost: String(50 * 5_000 + 10 * 10_000 + 4_160 * 40_000), state: "reported" };

describe("pictures", () => {
  it("of a model with a price each: by quality and size, as many as came", async () => {
    answers({ created: 1, data: [{ url: "https://x/1" }] });
    const ask = (): Promise<unknown> =>
      client.images.generate({ model: "dall-e-3", prompt: "a cat", quality: "hd", size: "1024x1792" });
    expect(await booked(ask)).toEqual({ cost: "120000000", state: "reported", usage: { image: 1 } });
    answers({ created: 1, data: [{ url: "1" }, { url: "2" }, { url: "3" }] });
    expect(
      await booked(() => client.images.generate({ model: "dall-e-2", prompt: "a cat", n: 3, size: "256x256" })),
    ).toEqual({
      cost: "48000000",
      state: "reported",
      usage: { image: 3 },
    });
  });

  it("of a model that nobody names pass: without usage they are the old default's, by the piece; with usage they have no price", async () => {
    answers({ created: 1, data: [{ url: "1" }] });
    expect(
      await booked(() => client.images.edit({ prompt: "x", image: new File([PICTURE], "a.png"), size: "256x256" })),
    ).toEqual({ cost: "16000000", state: "estimated", usage: { image: 1 } });
    answers({ created: 1, data: [{ b64_json: "aGk=" }], usage: USAGE });
    expect(await booked(() => client.images.generate({ prompt: "x" }))).toMatchObject({
      cost: null,
      state: "reported",
      usage: { output_image: 4_160 },
    });
    expect((await bench.running.events()).at(-1)).toMatchObject({ priceConfidence: "unpriced", servedModel: null });
  });

  it("of a size that has no price are unpriced, never zero", async () => {
    answers({ created: 1, data: [{ url: "1" }] });
    await client.images.generate({ model: "dall-e-3", prompt: "a cat", size: "4096x4096" });
    const event = (await bench.running.events()).at(-1);
    expect([event?.priceConfidence, event?.costNanoUsd]).toEqual(["unpriced", null]);
  });

  it("by the token: text and pictures in, pictures out", async () => {
    answers({ created: 1, data: [{ b64_json: "AAAA" }], usage: USAGE });
    expect(await booked(() => client.images.generate({ model: "gpt-image-1", prompt: "a cat" }))).toMatchObject(PRICED);
  });

  it("too large to be held: the usage is read all the same", async () => {
    answers({ created: 1, data: [{ b64_json: "A".repeat(3_000_000) }], usage: USAGE });
    expect(await booked(() => client.images.generate({ model: "gpt-image-1", prompt: "a cat" }))).toMatchObject(PRICED);
  });

  it("edited in a form, streamed or not; the form passes byte for byte", async () => {
    answers({ created: 1, data: [{ b64_json: "AAAA" }], usage: USAGE });
    const image = await toFile(PICTURE, "a.png", { type: "image/png" });
    expect(await booked(() => client.images.edit({ model: "gpt-image-1", image, prompt: "bluer" }))).toMatchObject(
      PRICED,
    );
    expect(bench.provider.journal.at(-1)?.body.includes(PICTURE)).toBe(true);

    const last = { type: "image_edit.completed", b64_json: "AAAA", usage: USAGE };
    answers(`event: image_edit.completed\ndata: ${JSON.stringify(last)}\n\n`, "text/event-stream");
    const streamed = async (): Promise<void> => {
      const events = await client.images.edit({ model: "gpt-image-1", image, prompt: "bluer", stream: true });
      for await (const event of events) expect(event.type).toBe("image_edit.completed");
    };
    expect(await booked(streamed)).toMatchObject(PRICED);
  });

  it("hold under a strict cap: what three may cost at most does not fit, one does", async () => {
    const { secret, id } = await bench.running.createKey();
    await bench.running.setBudget({ amountNanoUsd: 100_000_000n, scope: { keyId: id }, mode: "strict" });
    const capped = new OpenAI({ baseURL: `${bench.running.url}/openai/v1`, apiKey: secret, maxRetries: 0 });
    await expect(capped.images.generate({ model: "dall-e-3", prompt: "x", n: 3 })).rejects.toMatchObject({
      status: 402,
    });
    answers({ created: 1, data: [{ url: "1" }] });
    await capped.images.generate({ model: "dall-e-3", prompt: "x" });
    expect((await bench.running.events()).at(-1)?.costNanoUsd).toBe("40000000");
  });

  it("of Imagen: those that came, filtered ones are free", async () => {
    answers({ predictions: [{ bytesBase64Encoded: "AAAA" }, { bytesBase64Encoded: "AAAA" }] });
    const ask = (): Promise<Response> =>
      fetch(`${bench.running.url}/google/v1beta/models/imagen-4.0-generate-001:predict`, {
        method: "POST",
        headers: { "content-type": "application/json", "x-goog-api-key": KEY },
        body: JSON.stringify({ instances: [{ prompt: "a cat" }], parameters: { sampleCount: 3 } }),
      });
    expect(await booked(async () => (await ask()).text())).toEqual({
      cost: "80000000",
      state: "reported",
      usage: { image: 2 },
    });
  });
});

describe("speech", () => {
  it("by the character, whatever comes back: an emoji is one", async () => {
    answers(Buffer.from([0xff, 0xf3, 0, 1, 2]), "audio/mpeg");
    const ask = (): Promise<unknown> =>
      client.audio.speech
        .create({ model: "tts-1-hd", voice: "alloy", input: "Hello 👋!" })
        .then((r) => r.arrayBuffer());
    expect(await booked(ask)).toEqual({ cost: String(8 * 30_000), state: "reported", usage: { character: 8 } });
  });

  it("by the token is an estimate in bare bytes, and exact in a stream of events", async () => {
    answers(Buffer.from([0xff, 0xf3, 0]), "audio/mpeg");
    const request = { model: "gpt-4o-mini-tts", voice: "alloy", input: "x".repeat(1_000) };
    expect(await booked(() => client.audio.speech.create(request).then((r) => r.arrayBuffer()))).toEqual({
      cost: String(250 * 600 + 1_400 * 12_000),
      state: "estimated",
      usage: { input: 250, output: 1_400 },
    });
    const done = { type: "speech.audio.done", usage: { input_tokens: 14, output_tokens: 101, total_tokens: 115 } };
    answers(`data: ${JSON.stringify(done)}\n\n`, "text/event-stream");
    const ask = (): Promise<unknown> =>
      client.audio.speech.create({ ...request, stream_format: "sse" }).then((r) => r.text());
    expect(await booked(ask)).toEqual({
      cost: String(14 * 600 + 101 * 12_000),
      state: "reported",
      usage: { input: 14, output: 101 },
    });
  });
});

describe("sound that is written down", () => {
  const transcribe = async (model: string, format?: "text" | "verbose_json"): Promise<unknown> =>
    client.audio.transcriptions.create({
      model,
      file: await toFile(Buffer.alloc(48_000), "a.mp3"),
      ...(format ? { response_format: format } : {}),
    });

  it("by the second, begun ones whole: stated, or in a verbose answer", async () => {
    answers({ text: "hi", usage: { type: "duration", seconds: 4 } });
    // 0.006 USD a minute.
    expect(await booked(() => transcribe("whisper-1"))).toEqual({
      cost: "400000",
      state: "reported",
      usage: { audio_second: 4 },
    });
    answers({ task: "transcribe", language: "english", duration: 8.47, text: "hi" });
    expect(await booked(() => transcribe("whisper-1", "verbose_json"))).toMatchObject({ cost: "900000" });
  });

  it("in plain text states nothing: an estimate by the size of the file, never zero", async () => {
    answers("hi there", "text/plain");
    expect(await booked(() => transcribe("whisper-1", "text"))).toMatchObject({ cost: "300000", state: "estimated" });
  });

  it("by the token, sound apart from text, streamed or not", async () => {
    const usage = {
      type: "tokens",
      input_tokens: 47,
      input_token_details: { text_tokens: 10, audio_tokens: 37 },
      output_tokens: 12,
      total_tokens: 59,
    };
    const expected = { cost: String(10 * 2_500 + 37 * 2_500 + 12 * 10_000), state: "reported" };
    answers({ text: "hi", usage });
    expect(await booked(() => transcribe("gpt-4o-transcribe"))).toMatchObject(expected);
    answers(
      `data: {"type":"transcript.text.delta","delta":"hi"}\n\ndata: ${JSON.stringify({ type: "transcript.text.done", text: "hi", usage })}\n\ndata: [DONE]\n\n`,
      "text/event-stream",
    );
    const streamed = async (): Promise<void> => {
      const file = await toFile(Buffer.alloc(10), "a.mp3");
      const events = await client.audio.transcriptions.create({ model: "gpt-4o-transcribe", file, stream: true });
      const types: string[] = [];
      for await (const event of events) types.push(event.type);
      expect(types).toEqual(["transcript.text.delta", "transcript.text.done"]);
    };
    expect(await booked(streamed)).toMatchObject(expected);
  });

  it("in a form with a field twice, or in no form at all, is refused and goes nowhere", async () => {
    const arrived = bench.provider.journal.length;
    const post = async (body: FormData | string, type?: string): Promise<[number, string]> => {
      const answer = await fetch(`${bench.running.url}/openai/v1/audio/transcriptions`, {
        method: "POST",
        headers: { authorization: `Bearer ${KEY}`, ...(type === undefined ? {} : { "content-type": type }) },
        body,
      });
      return [answer.status, await answer.text()];
    };
    const form = new FormData();
    form.append("model", "whisper-1");
    form.append("model", "gpt-4o-transcribe");
    const [status, text] = await post(form);
    expect([status, text.includes("stands twice")]).toEqual([400, true]);
    expect((await post("garbage", "multipart/form-data; boundary=x"))[0]).toBe(400);
    expect((await post("garbage", "multipart/form-data"))[0]).toBe(415);
    expect(bench.provider.journal.length).toBe(arrived);
  });
});

describe("film", () => {
  const film = (status: string, id = "video_1"): object => ({
    id,
    object: "video",
    status,
    model: "sora-2",
    seconds: "8",
    size: "1280x720",
    progress: 0,
  });
  it("is pending until it is there, then by the second, once; one that failed is free", async () => {
    answers(film("queued"));
    await client.videos.create({ model: "sora-2", prompt: "a cat", seconds: "8", size: "1280x720" });
    expect(bench.running.proxy.context.work.list().map(({ workId }) => workId)).toEqual(["video_1"]);
    answers(film("completed"));
    expect(await booked(() => client.videos.retrieve("video_1"))).toEqual({
      cost: "800000000",
      state: "reported",
      usage: { video_second: 8 },
    });
    const before = (await bench.running.events()).length;
    for (let i = 0; i < 3; i++) await client.videos.retrieve("video_1");
    expect((await bench.running.events()).length).toBe(before);
    answers(film("queued", "video_2"));
    await client.videos.create({ prompt: "a dog" });
    answers(film("failed", "video_2"));
    expect(await booked(() => client.videos.retrieve("video_2"))).toEqual({ cost: "0", state: "reported", usage: {} });
  });
});
