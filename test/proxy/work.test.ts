// Work that goes on at the provider after its answer: one charge each, whoever polls and however often, and nothing
// lost when the proxy starts again in between.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI, { toFile } from "openai";
import { describe, expect, it } from "vitest";
import type { Script } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { withProxy } from "../with-proxy.ts";

const POLLS = 100;
const AT_ONCE = 3;
const KEY = "sk-test-work-client-key";

const bench = withProxy(() => {}, {}, { each: true });

const answer =
  (body: unknown, type = "application/json"): Script =>
  (_arrived, response) =>
    void response.writeHead(200, { "content-type": type }).end(typeof body === "string" ? body : JSON.stringify(body));

const openai = (): OpenAI => new OpenAI({ baseURL: `${bench.running.url}/openai/v1`, apiKey: KEY, maxRetries: 0 });
const anthropic = (): Anthropic =>
  new Anthropic({ baseURL: `${bench.running.url}/anthropic`, apiKey: KEY, authToken: null, maxRetries: 0 });

/** A restart in between: what is pending stands in the books. */
async function restart(): Promise<void> {
  await bench.running.stop();
  await bench.startAgain({ KEYMETER_DATA_DIR: bench.running.dataDir });
  expect(bench.running.proxy.writer.recovered).toBe(0);
}

const response = (status: string, usage: object | null): object => ({
  id: "resp_1",
  object: "response",
  created_at: 1,
  status,
  background: true,
  model: "gpt-4o-mini-2024-07-18",
  output: [],
  service_tier: "default",
  usage,
});
const USED = {
  input_tokens: 1_000,
  output_tokens: 200,
  total_tokens: 1_200,
  input_tokens_details: { cached_tokens: 0 },
};
/** 1,000 in at 0.15 and 200 out at 0.60 USD a million. */
const COST = "270000";

describe("a background response", () => {
  it("is pending from creation, and one charge after 100 polls and 3 retrievals at once, with a restart in between", async () => {
    await bench.running.setBudget({ amountNanoUsd: 1_000_000_000_000n, kind: "soft" });
    bench.provider.script = answer(response("queued", null));
    await openai().responses.create({ model: "gpt-4o-mini", input: "hi", background: true, max_output_tokens: 300 });
    expect(await bench.running.events()).toEqual([]);
    expect((await bench.running.proxy.writer.verify()).reservedNanoUsd).toBeGreaterThan(0n);

    bench.provider.script = answer(response("in_progress", null));
    for (let i = 0; i < POLLS / 2; i++) await openai().responses.retrieve("resp_1");
    expect(await bench.running.events()).toEqual([]);
    await restart();
    expect(bench.running.proxy.context.work.list().length).toBe(1);
    const metrics = await (await fetch(`${bench.running.opsUrl}/metrics`)).text();
    expect(metrics).toContain('keymeter_pending_work{provider="openai",endpoint="responses"} 1');
    expect(metrics).toMatch(/keymeter_pending_work_oldest_timestamp_seconds\{provider="openai"\} \d{10}/);
    expect((await bench.running.proxy.writer.verify()).reservedNanoUsd).toBeGreaterThan(0n);

    bench.provider.script = answer(response("completed", USED));
    await Promise.all(Array.from({ length: AT_ONCE }, () => openai().responses.retrieve("resp_1")));
    for (let i = 0; i < POLLS / 2; i++) await openai().responses.retrieve("resp_1");
    await restart();
    await openai().responses.retrieve("resp_1");

    const events = await bench.running.events();
    expect(events.length).toBe(1);
    expect(events[0]).toMatchObject({
      endpoint: "responses",
      requestedModel: "gpt-4o-mini",
      servedModel: "gpt-4o-mini-2024-07-18",
      usageState: "reported",
      costNanoUsd: COST,
      outcome: "complete",
    });
    expect(await bench.running.proxy.writer.verify()).toEqual({ differences: [], reservedNanoUsd: 0n });
  });

  it("whose stream the client leaves is pending, and settled by the next retrieval", async () => {
    bench.provider.script = (_arrived, out) => {
      out.writeHead(200, { "content-type": "text/event-stream" });
      out.write(
        `event: response.created\ndata: ${JSON.stringify({ type: "response.created", sequence_number: 0, response: response("queued", null) })}\n\n`,
      );
    };
    const stream = await openai().responses.create({
      model: "gpt-4o-mini",
      input: "hi",
      background: true,
      stream: true,
    });
    for await (const event of stream) if (event.type === "response.created") break;
    await expect.poll(() => bench.running.proxy.context.work.list().length).toBe(1);
    bench.provider.script = answer(response("completed", USED));
    await openai().responses.retrieve("resp_1");
    expect((await bench.running.events()).map((event) => event.costNanoUsd)).toEqual([COST]);
  });

  it("that two attempts got the same id for is one charge: the provider did the work once", async () => {
    bench.provider.script = answer(response("queued", null));
    for (let i = 0; i < 2; i++)
      await openai().responses.create({ model: "gpt-4o-mini", input: "hi", background: true });
    bench.provider.script = answer(response("completed", USED));
    await openai().responses.retrieve("resp_1");
    const events = await bench.running.events();
    expect(events.map((event) => event.costNanoUsd).toSorted()).toEqual(["0", COST]);
    expect(await bench.running.proxy.writer.verify()).toEqual({ differences: [], reservedNanoUsd: 0n });
  });

  it("that the provider refuses is booked at once, as refused", async () => {
    bench.provider.script = (_arrived, out) =>
      void out
        .writeHead(400, { "content-type": "application/json" })
        .end(JSON.stringify({ error: { message: "no", type: "invalid_request_error", param: null, code: null } }));
    await expect(openai().responses.create({ model: "gpt-4o-mini", input: "hi", background: true })).rejects.toThrow(
      "no",
    );
    expect((await bench.running.events()).map(({ outcome, costNanoUsd }) => [outcome, costNanoUsd])).toEqual([
      ["upstream_rejected", "0"],
    ]);
    expect(bench.running.proxy.context.work.list()).toEqual([]);
  });

  it("of which a retrieval names work that was not begun here is passed on and charged to nobody", async () => {
    bench.provider.script = answer(response("completed", USED));
    expect((await openai().responses.retrieve("resp_1")).id).toBe("resp_1");
    expect(await bench.running.events()).toEqual([]);
  });

  it("is not open to another Keymeter key, nor are lists and files; its own is, also when it is settled", async () => {
    const [mine, other] = [await bench.running.createKey(), await bench.running.createKey()];
    const client = (apiKey: string): OpenAI =>
      new OpenAI({ baseURL: `${bench.running.url}/openai/v1`, apiKey, maxRetries: 0 });
    bench.provider.script = answer(response("queued", null));
    await client(mine.secret).responses.create({ model: "gpt-4o-mini", input: "hi", background: true });
    bench.provider.script = answer(response("completed", USED));
    const arrived = bench.provider.journal.length;
    await expect(client(other.secret).responses.retrieve("resp_1")).rejects.toMatchObject({ status: 404 });
    await expect(client(other.secret).responses.delete("resp_1")).rejects.toMatchObject({ status: 404 });
    await expect(client(other.secret).batches.list()).rejects.toMatchObject({ status: 404 });
    await expect(client(mine.secret).files.list()).rejects.toMatchObject({ status: 404 });
    expect(bench.provider.journal.length).toBe(arrived);
    expect((await client(mine.secret).responses.retrieve("resp_1")).status).toBe("completed");
    await restart();
    expect((await client(mine.secret).responses.retrieve("resp_1")).status).toBe("completed");
    expect((await bench.running.events()).map(({ keyId }) => keyId)).toEqual([mine.id]);
  });

  it("that nobody fetches is closed by hand at what is held for it, and a result that passes later is charged to nobody", async () => {
    await bench.running.setBudget({ amountNanoUsd: 1_000_000_000_000n });
    bench.provider.script = answer(response("queued", null));
    await openai().responses.create({ model: "gpt-4o-mini", input: "hi", background: true, max_output_tokens: 300 });
    const held = (await bench.running.proxy.writer.verify()).reservedNanoUsd;
    const close = (workId: string): Promise<Response> =>
      fetch(`${bench.running.opsUrl}/admin/changes`, {
        method: "POST",
        headers: { authorization: `Bearer ${bench.running.adminToken}`, "content-type": "application/json" },
        body: JSON.stringify({ type: "closeWork", workId }),
      });
    expect((await close("resp_unheard")).status).toBe(409);
    expect((await close("resp_1")).status).toBe(200);
    expect((await close("resp_1")).status).toBe(409);
    bench.provider.script = answer(response("completed", USED));
    await openai().responses.retrieve("resp_1");
    expect(
      (await bench.running.events()).map((event) => [event.costNanoUsd, event.usageState, event.usageReason]),
    ).toEqual([[held.toString(), "estimated", "not_fetched"]]);
    expect(bench.running.proxy.context.work.list()).toEqual([]);
    expect(await bench.running.proxy.writer.verify()).toEqual({ differences: [], reservedNanoUsd: 0n });
  });

  it("is settled by the command, also under the verb's old name, which says so", async () => {
    for (const verb of ["settle", "close"]) {
      bench.provider.script = answer({ ...response("queued", null), id: `resp_${verb}` });
      await openai().responses.create({ model: "gpt-4o-mini", input: "hi", background: true, max_output_tokens: 300 });
      const said = await runKeymeter(bench.running, "work", verb, `resp_${verb}`);
      expect(said).toMatchObject({ code: 0 });
      expect(said.text).toContain(`resp_${verb} is settled at the amount that was held for it`);
      expect(said.text.includes("is `keymeter work settle` now")).toBe(verb === "close");
    }
    expect((await bench.running.events()).map(({ usageReason }) => usageReason)).toEqual([
      "not_fetched",
      "not_fetched",
    ]);
  });

  it("that was deleted is settled at the most that it can cost; that it is gone is not believed at its first word", async () => {
    const mine = await bench.running.createKey();
    const client = new OpenAI({ baseURL: `${bench.running.url}/openai/v1`, apiKey: mine.secret, maxRetries: 0 });
    bench.provider.script = answer(response("queued", null));
    await client.responses.create({ model: "gpt-4o-mini", input: "hi", background: true, max_output_tokens: 100 });
    bench.provider.script = (_arrived, out) =>
      void out.writeHead(404, { "content-type": "application/json" }).end('{"error":{"message":"gone"}}');
    await expect(openai().responses.retrieve("resp_1")).rejects.toMatchObject({ status: 404 });
    expect(await bench.running.events()).toEqual([]);
    // Providers say so of work that has just begun, too.
    await expect(client.responses.retrieve("resp_1")).rejects.toMatchObject({ status: 404 });
    expect(await bench.running.events()).toEqual([]);
    const [pending] = bench.running.proxy.context.work.list();
    bench.provider.script = answer({ id: "resp_1", object: "response", deleted: true });
    await client.responses.delete("resp_1");
    const [event] = await bench.running.events();
    // What is gone has no answer that could be called complete.
    expect(event).toMatchObject({ usageState: "estimated", usageReason: "not_fetched", httpStatus: null });
    expect(event?.costNanoUsd).toBe(pending?.mostNanoUsd?.toString());
    expect(BigInt(event?.costNanoUsd ?? 0)).toBeGreaterThan(0n);
    expect(bench.running.proxy.context.work.list()).toEqual([]);
  });

  it("whose id is written with escapes, or of which a part is asked for, hides nothing", async () => {
    bench.provider.script = answer(response("queued", null));
    await openai().responses.create({ model: "gpt-4o-mini", input: "hi", background: true });
    bench.provider.script = answer(response("completed", USED));
    const get = (path: string): Promise<Response> =>
      fetch(`${bench.running.url}/openai/v1/responses/${path}`, {
        headers: { authorization: `Bearer ${KEY}`, range: "bytes=0-", "if-none-match": "x" },
      });
    expect((await get("resp%5F1")).status).toBe(400);
    expect((await get("resp_1")).status).toBe(200);
    expect(bench.provider.journal.at(-1)?.headers).not.toHaveProperty("range");
    expect(bench.provider.journal.at(-1)?.headers).not.toHaveProperty("if-none-match");
    expect((await bench.running.events()).length).toBe(1);
  });

  it("whose result passes while its stream is still open is settled when the stream ends", async () => {
    let end = (): void => {};
    bench.provider.script = (_arrived, out) => {
      out.writeHead(200, { "content-type": "text/event-stream" });
      out.write(
        `data: ${JSON.stringify({ type: "response.created", sequence_number: 0, response: response("queued", null) })}\n\n`,
      );
      end = () => void out.end();
    };
    const stream = openai().responses.create({ model: "gpt-4o-mini", input: "hi", background: true, stream: true });
    const reading = (async () => {
      for await (const event of await stream) expect(event.type).toBe("response.created");
    })();
    await expect.poll(() => bench.provider.journal.length).toBe(1);
    const stop = end;
    bench.provider.script = answer(response("completed", USED));
    await openai().responses.retrieve("resp_1");
    expect(await bench.running.events()).toEqual([]);
    stop();
    await reading;
    await expect.poll(async () => (await bench.running.events()).map(({ costNanoUsd }) => costNanoUsd)).toEqual([COST]);
    expect(bench.running.proxy.context.work.list()).toEqual([]);
  });
});

describe("a batch", () => {
  const batch = (status: string, more: object = {}): object => ({
    id: "batch_1",
    object: "batch",
    endpoint: "/v1/chat/completions",
    input_file_id: "file-1",
    completion_window: "24h",
    created_at: 1,
    status,
    ...more,
  });

  it("of OpenAI: one charge at half the price, with the model that its result names", async () => {
    bench.provider.script = answer(batch("validating"));
    await openai().batches.create({
      input_file_id: "file-1",
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
    });
    bench.provider.script = answer(batch("in_progress"));
    await openai().batches.retrieve("batch_1");
    expect(await bench.running.events()).toEqual([]);
    bench.provider.script = answer(batch("completed", { model: "gpt-4o-mini-2024-07-18", usage: USED }));
    await Promise.all(Array.from({ length: AT_ONCE }, () => openai().batches.retrieve("batch_1")));
    for (let i = 0; i < POLLS; i++) await openai().batches.retrieve("batch_1");
    const events = await bench.running.events();
    expect(events.map(({ costNanoUsd, tier, servedModel }) => [costNanoUsd, tier, servedModel])).toEqual([
      ["135000", "batch", "gpt-4o-mini-2024-07-18"],
    ]);
  });

  it("of OpenAI, by a Keymeter key from the file to the results: the key reaches its own files, and nobody else's", async () => {
    const [mine, other] = [await bench.running.createKey(), await bench.running.createKey()];
    const client = (apiKey: string): OpenAI =>
      new OpenAI({ baseURL: `${bench.running.url}/openai/v1`, apiKey, maxRetries: 0 });
    const me = client(mine.secret);
    bench.provider.script = answer({ id: "file-in", object: "file", purpose: "batch" });
    const file = await me.files.create({ file: await toFile(Buffer.from("{}"), "in.jsonl"), purpose: "batch" });
    expect(bench.provider.journal.at(-1)?.headers["content-type"]).toMatch(/^multipart\/form-data/);
    bench.provider.script = answer(batch("validating"));
    await me.batches.create({ input_file_id: file.id, endpoint: "/v1/responses", completion_window: "24h" });
    await restart();
    bench.provider.script = answer(
      batch("completed", { model: "gpt-4o-mini", usage: USED, output_file_id: "file-out" }),
    );
    await client(mine.secret).batches.retrieve("batch_1");
    await restart();
    bench.provider.script = answer("{}", "application/octet-stream");
    const [again, stranger] = [client(mine.secret), client(other.secret)];
    for (const id of ["file-in", "file-out"]) {
      expect((await again.files.content(id)).status).toBe(200);
      await expect(stranger.files.content(id)).rejects.toMatchObject({ status: 404 });
      await expect(stranger.files.delete(id)).rejects.toMatchObject({ status: 404 });
    }
    await expect(again.files.content("file-other")).rejects.toMatchObject({ status: 404 });
    expect((await bench.running.events()).map(({ costNanoUsd, keyId }) => [costNanoUsd, keyId])).toEqual([
      ["135000", mine.id],
    ]);
  });

  it("of OpenAI that failed before it began costs nothing", async () => {
    bench.provider.script = answer(batch("validating"));
    await openai().batches.create({
      input_file_id: "file-1",
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
    });
    bench.provider.script = answer(batch("failed", { errors: { data: [] } }));
    await openai().batches.retrieve("batch_1");
    expect((await bench.running.events()).map(({ costNanoUsd, usageState }) => [costNanoUsd, usageState])).toEqual([
      ["0", "reported"],
    ]);
  });

  it("is refused under a hard budget when nothing says what it costs", async () => {
    const { secret, id } = await bench.running.createKey();
    await bench.running.setBudget({ amountNanoUsd: 1_000_000_000n, scope: { keyId: id } });
    const client = new OpenAI({ baseURL: `${bench.running.url}/openai/v1`, apiKey: secret, maxRetries: 0 });
    await expect(
      client.batches.create({ input_file_id: "file-1", endpoint: "/v1/chat/completions", completion_window: "24h" }),
    ).rejects.toMatchObject({ status: 402 });
    expect(bench.provider.journal).toEqual([]);
  });

  const results = (lines: readonly object[]): string => lines.map((line) => `${JSON.stringify(line)}\n`).join("");
  const succeeded = (id: string, model: string, input: number, output: number): object => ({
    custom_id: id,
    result: {
      type: "succeeded",
      message: {
        id: `msg_${id}`,
        type: "message",
        role: "assistant",
        model,
        content: [{ type: "text", text: "4" }],
        usage: {
          input_tokens: input,
          cache_creation_input_tokens: 0,
          cache_read_input_tokens: 0,
          output_tokens: output,
          service_tier: "batch",
        },
      },
    },
  });

  it("of Anthropic: its results, a line each, are one charge; an errored one costs nothing", async () => {
    const state = {
      id: "msgbatch_1",
      type: "message_batch",
      processing_status: "in_progress",
      request_counts: { processing: 3, succeeded: 0, errored: 0, canceled: 0, expired: 0 },
      // As Anthropic says it: the SDK follows it with whatever key it has.
      results_url: "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
    };
    bench.provider.script = answer(state);
    const params = {
      model: "claude-haiku-4-5",
      max_tokens: 100,
      messages: [{ role: "user" as const, content: "2+2" }],
    };
    await anthropic().messages.batches.create({
      requests: ["a", "b", "c"].map((id) => ({ custom_id: id, params })),
    });
    const text = results([
      succeeded("a", "claude-haiku-4-5-20251001", 1_000, 100),
      succeeded("b", "claude-haiku-4-5-20251001", 2_000, 50),
      { custom_id: "c", result: { type: "errored", error: { type: "error", error: { type: "api_error" } } } },
    ]);
    bench.provider.script = (arrived, out, request) =>
      (arrived.url.includes("results")
        ? answer(text, "application/x-jsonl")
        : answer({ ...state, processing_status: "ended" }))(arrived, out, request);
    const read = async (): Promise<number> => {
      const ids = new Set<string>();
      for await (const { custom_id: id } of await anthropic().messages.batches.results("msgbatch_1")) ids.add(id);
      return ids.size;
    };
    expect(await Promise.all(Array.from({ length: AT_ONCE }, read))).toEqual([3, 3, 3]);
    expect(await read()).toBe(3);
    const events = await bench.running.events();
    expect(events.length).toBe(1);
    // 3,000 in at 1 and 150 out at 5 USD a million, halved.
    expect(events[0]).toMatchObject({ usage: { input: 3_000, output: 150 }, costNanoUsd: "1875000", tier: "batch" });
  });

  it("whose results are cut stays pending, and is settled when they pass whole", async () => {
    bench.provider.script = answer({ id: "msgbatch_2", type: "message_batch", processing_status: "in_progress" });
    const params = {
      model: "claude-haiku-4-5",
      max_tokens: 100,
      messages: [{ role: "user" as const, content: "2+2" }],
    };
    await anthropic().messages.batches.create({ requests: [{ custom_id: "a", params }] });
    const text = results([
      succeeded("a", "claude-haiku-4-5-20251001", 10, 1),
      succeeded("b", "claude-haiku-4-5-20251001", 10, 1),
    ]);
    bench.provider.script = (_arrived, out) => {
      out.writeHead(200, { "content-type": "application/x-jsonl", "content-length": Buffer.byteLength(text) });
      out.write(text.slice(0, 300));
      setTimeout(() => out.destroy(), 50);
    };
    const ask = async (): Promise<string> =>
      (
        await fetch(`${bench.running.url}/anthropic/v1/messages/batches/msgbatch_2/results`, {
          headers: { "x-api-key": KEY },
        })
      ).text();
    expect(await ask()).toContain("broke off");
    expect(bench.running.proxy.context.work.list().length).toBe(1);
    expect(await bench.running.events()).toEqual([]);
    bench.provider.script = answer(text, "application/x-jsonl");
    expect(await ask()).toBe(text);
    expect((await bench.running.events()).map(({ usage }) => usage)).toEqual([{ input: 20, output: 2 }]);
  });

  it("prices each answer by its own context, and the cap counts each request", async () => {
    const { secret, id } = await bench.running.createKey();
    await bench.running.setBudget({ amountNanoUsd: 1_000_000_000n, scope: { keyId: id } });
    const client = new Anthropic({
      baseURL: `${bench.running.url}/anthropic`,
      apiKey: secret,
      authToken: null,
      maxRetries: 0,
    });
    const create = (count: number): Promise<unknown> =>
      client.messages.batches.create({
        requests: Array.from({ length: count }, (_, i) => ({
          custom_id: `r${i}`,
          params: {
            model: "claude-sonnet-4-5",
            max_tokens: 1_000,
            messages: [{ role: "user" as const, content: "x" }],
          },
        })),
      });
    // 300 answers of 1,000 tokens at 7.50 USD a million may come.
    await expect(create(300)).rejects.toMatchObject({ status: 402 });
    bench.provider.script = answer({ id: "msgbatch_3", type: "message_batch", processing_status: "in_progress" });
    await create(2);
    const lines = Array.from({ length: 300 }, (_, i) => succeeded(`r${i}`, "claude-sonnet-4-5-20250929", 1_000, 10));
    lines.push(succeeded("long", "claude-sonnet-4-5-20250929", 200_001, 10));
    bench.provider.script = answer(results(lines), "application/x-jsonl");
    const passed = await fetch(`${bench.running.url}/anthropic/v1/messages/batches/msgbatch_3/results`, {
      headers: { "x-api-key": secret },
    });
    await passed.text();
    const [event] = await bench.running.events();
    // 3 and 15 USD a million up to 200,000 tokens of one request, 6 and 22.50 above; halved.
    const short = 300_000n * 1_500n + 3_000n * 7_500n;
    const long = 200_001n * 3_000n + 10n * 11_250n;
    expect([event?.costNanoUsd, event?.priceConfidence]).toEqual([String(short + long), "exact"]);
  });

  it("of Gemini larger than what is held of other answers is read whole; one in a file stays pending", async () => {
    const headers = { "content-type": "application/json", "x-goog-api-key": KEY };
    const begin = (name: string): Promise<Response> => {
      bench.provider.script = answer({ name });
      const inputConfig = { requests: { requests: [{ request: {} }] } };
      return fetch(`${bench.running.url}/google/v1beta/models/gemini-2.5-flash:batchGenerateContent`, {
        method: "POST",
        headers,
        body: JSON.stringify({ batch: { inputConfig } }),
      });
    };
    await begin("batches/b2");
    await begin("batches/b3");
    const one = {
      response: {
        candidates: [{ content: { parts: [{ text: "x".repeat(600_000) }] } }],
        usageMetadata: { promptTokenCount: 1_000, candidatesTokenCount: 100 },
      },
    };
    bench.provider.script = answer({
      name: "batches/b2",
      done: true,
      response: { inlinedResponses: { inlinedResponses: [one, one, one] } },
    });
    await (await fetch(`${bench.running.url}/google/v1beta/batches/b2`, { headers })).text();
    expect((await bench.running.events()).map(({ usage }) => usage)).toEqual([{ input: 3_000, output: 300 }]);
    bench.provider.script = answer({ name: "batches/b3", done: true, response: { responsesFile: "files/x" } });
    await (await fetch(`${bench.running.url}/google/v1beta/batches/b3`, { headers })).text();
    expect(bench.running.proxy.context.work.list().map(({ workId }) => workId)).toEqual(["batches/b3"]);
  });

  it("of Gemini with its answers in a file: one charge when the file passes whole, also after a restart; its key alone reaches it", async () => {
    const [mine, other] = [await bench.running.createKey(), await bench.running.createKey()];
    const ask = async (path: string, secret: string, body?: object): Promise<number> => {
      const { status } = await fetch(`${bench.running.url}/google/${path}`, {
        ...(body ? { method: "POST", body: JSON.stringify(body) } : {}),
        headers: { "content-type": "application/json", "x-goog-api-key": secret },
      });
      return status;
    };
    const inputConfig = { fileName: "files/in" };
    bench.provider.script = answer({ name: "batches/f1" });
    await ask("v1beta/models/gemini-2.5-flash:batchGenerateContent", mine.secret, { batch: { inputConfig } });
    bench.provider.script = answer({ name: "batches/f1", done: true, response: { responsesFile: "files/batch-f1" } });
    expect(await ask("v1beta/batches/f1", mine.secret)).toBe(200);
    expect(await bench.running.events()).toEqual([]);
    await restart();
    expect(await ask("v1beta/batches/f1", mine.secret)).toBe(200);
    const usageMetadata = { promptTokenCount: 1_000, candidatesTokenCount: 100 };
    const line = (key: string): string =>
      `${JSON.stringify({ key, response: { modelVersion: "gemini-2.5-flash", usageMetadata } })}\n`;
    const failed = `${JSON.stringify({ key: "c", error: { code: 400 } })}\n`;
    const download = "download/v1beta/files/batch-f1:download?alt=media";
    bench.provider.script = answer(line("a") + line("b").slice(0, 40), "application/octet-stream");
    expect(await ask(download, mine.secret)).toBe(200);
    expect(await bench.running.events()).toEqual([]);
    bench.provider.script = answer(line("a") + line("b") + failed, "application/octet-stream");
    expect(await ask(download, other.secret)).toBe(404);
    for (let i = 0; i < 3; i++) expect(await ask(download, mine.secret)).toBe(200);
    expect(bench.provider.journal.at(-1)?.url).toBe("/download/v1beta/files/batch-f1:download?alt=media");
    // 2,000 at 0.15 and 200 at 1.25 USD a million.
    expect((await bench.running.events()).map(({ costNanoUsd, keyId }) => [costNanoUsd, keyId])).toEqual([
      ["550000", mine.id],
    ]);
  });

  it("of Gemini with its answers inside: one charge at half the price", async () => {
    const headers = { "content-type": "application/json", "x-goog-api-key": KEY };
    bench.provider.script = answer({ name: "batches/b1", metadata: { state: "BATCH_STATE_PENDING" } });
    const request = { request: { contents: [{ parts: [{ text: "hi" }] }] } };
    await fetch(`${bench.running.url}/google/v1beta/models/gemini-2.5-flash:batchGenerateContent`, {
      method: "POST",
      headers,
      body: JSON.stringify({ batch: { displayName: "b", inputConfig: { requests: { requests: [request] } } } }),
    });
    expect(bench.running.proxy.context.work.list().map(({ workId }) => workId)).toEqual(["batches/b1"]);
    const one = {
      response: {
        candidates: [{ content: { parts: [{ text: "hi" }] }, finishReason: "STOP" }],
        modelVersion: "gemini-2.5-flash",
        usageMetadata: { promptTokenCount: 1_000, candidatesTokenCount: 100, totalTokenCount: 1_100 },
      },
    };
    bench.provider.script = answer({
      name: "batches/b1",
      done: true,
      response: { inlinedResponses: { inlinedResponses: [one, one] } },
    });
    for (let i = 0; i < AT_ONCE; i++) await fetch(`${bench.running.url}/google/v1beta/batches/b1`, { headers });
    // 2,000 in at 0.30 and 200 out at 2.50 USD a million, halved.
    expect((await bench.running.events()).map(({ costNanoUsd }) => costNanoUsd)).toEqual(["550000"]);
  });
});
