// What clients bring up, and what providers keep for them: large files that nobody holds on the way, Gemini's own way
// of uploading, uploads in parts, and chats that are stored. Each key reaches its own.
import { createHash } from "node:crypto";
import type { Hash } from "node:crypto";
import { once } from "node:events";
import { createServer, request as openRequest } from "node:http";
import type { ClientRequest, IncomingMessage, ServerResponse } from "node:http";
import { connect } from "node:net";
import type { AddressInfo } from "node:net";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ApiError, GoogleGenAI } from "@google/genai";
import OpenAI, { APIError, toFile } from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startMeasuredProxy } from "../attacks/measured-proxy.ts";
import type { MeasuredProxy } from "../attacks/measured-proxy.ts";
import { json } from "../fake/provider.ts";
import type { Script } from "../fake/provider.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { withProxy, withProxyBefore } from "../with-proxy.ts";

const MEGABYTE = 1024 * 1024;
const PROVIDERS_OWN = {
  openai: "Bearer sk-proj-provider-credential-openai",
  google: "AIzaProviderCredentialGoogle",
};

/** A provider that keeps nothing of a body but its length and its hash, and hears of it while it comes. */
type Sink = {
  readonly url: string;
  /** Of each request that came, in order. */
  readonly came: { readonly request: IncomingMessage; bytes: number; readonly hash: Hash; isCut: boolean }[];
  /** Answers before the body has come to its end; undefined: when it has. */
  early: ((response: ServerResponse) => void) | undefined;
  close(): Promise<void>;
};

async function startSink(): Promise<Sink> {
  const came: Sink["came"] = [];
  const server = createServer((request, response) => {
    const one = { request, bytes: 0, hash: createHash("sha256"), isCut: false };
    came.push(one);
    request.on("error", () => (one.isCut = true));
    request.on("close", () => (one.isCut ||= !request.complete));
    if (sink.early) return sink.early(response);
    request.on("data", (chunk: Buffer) => {
      one.bytes += chunk.length;
      one.hash.update(chunk);
    });
    request.on("end", () => {
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ id: "file-large", object: "file", bytes: one.bytes, filename: "large.jsonl" }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const sink: Sink = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    came,
    early: undefined,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  return sink;
}

/** Begins an upload; its body is the caller's to write. */
function begin(url: string, key: string, length: number | undefined, path = "/openai/v1/files"): ClientRequest {
  return openRequest(url + path, {
    method: "POST",
    headers: {
      authorization: `Bearer ${key}`,
      "content-type": "multipart/form-data; boundary=b",
      ...(length === undefined ? {} : { "content-length": length }),
    },
  });
}

/** Writes so many megabytes, as fast as they are taken. */
async function write(request: ClientRequest, megabytes: number, hash?: Hash): Promise<void> {
  const closed = new Promise<void>((resolve) => request.once("close", resolve));
  for (let i = 0; i < megabytes && !request.destroyed; i++) {
    const piece = Buffer.alloc(MEGABYTE, `${i} megabytes are behind these bytes.`);
    hash?.update(piece);
    if (!request.write(piece)) await Promise.race([once(request, "drain"), closed]);
  }
}

async function answered(request: ClientRequest): Promise<{ status: number | undefined; text: string }> {
  request.setTimeout(4_000, () => request.destroy(new Error("four seconds passed without a byte")));
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    request.once("response", resolve);
    request.once("error", reject);
  });
  let text = "";
  for await (const chunk of response) text += String(chunk);
  return { status: response.statusCode, text };
}

describe("a file of 200 MB", () => {
  const SIZE = 200;
  const secrets = { own: "", other: "" };
  let sink: Sink;
  let measured: MeasuredProxy;
  let memory = 0;
  let sent = "";
  let answer: { status: number | undefined; text: string };
  beforeAll(async () => {
    sink = await startSink();
    measured = await startMeasuredProxy(
      sink.url,
      async (running) => {
        secrets.own = (await running.createKey()).secret;
        secrets.other = (await running.createKey()).secret;
      },
      { KEYMETER_DURABILITY: "process", KEYMETER_MAX_BODY_MB: "64" },
    );
    const hash = createHash("sha256");
    const { residentBytes } = await measured.memory(async () => {
      const request = begin(measured.url, secrets.own, SIZE * MEGABYTE);
      const coming = answered(request);
      await write(request, SIZE, hash);
      request.end();
      answer = await coming;
    });
    memory = residentBytes;
    sent = hash.digest("hex");
  });
  afterAll(async () => {
    await measured.stop();
    await sink.close();
  });

  it("passes where bodies that are read may have 64, with every byte and its length stated", () => {
    expect(answer.status).toBe(200);
    const [came] = sink.came;
    expect(came?.bytes).toBe(SIZE * MEGABYTE);
    expect(came?.hash.digest("hex")).toBe(sent);
    expect(came?.request.headers["content-length"]).toBe(String(SIZE * MEGABYTE));
    expect(came?.request.headers.authorization).toBe(PROVIDERS_OWN.openai);
  });

  it("is not held on its way: the proxy grows by less than 60 MB, garbage left out", () => {
    expect(memory).toBeLessThan(60 * MEGABYTE);
  });

  it("is then its key's own: that may fetch it by its id, and no other key may", async () => {
    const fetchBy = async (key: string): Promise<number> =>
      (await fetch(`${measured.url}/openai/v1/files/file-large`, { headers: { authorization: `Bearer ${key}` } }))
        .status;
    expect(await fetchBy(secrets.own)).toBe(200);
    const before = sink.came.length;
    expect(await fetchBy(secrets.other)).toBe(404);
    expect(sink.came.length).toBe(before);
  });
});

describe("an upload", () => {
  const bench = withProxyBefore(startSink, { KEYMETER_DURABILITY: "process", KEYMETER_MAX_BODY_MB: "1" }, { key: {} });
  afterEach(() => {
    bench.provider.early = undefined;
  });

  const nothingIsOpen = async (): Promise<void> => {
    await expect.poll(() => bench.running.proxy.context.forwarder.open(), { timeout: 3_000 }).toBe(0);
  };

  it("of no stated length passes too, in chunks", async () => {
    const request = begin(bench.running.url, bench.secret, undefined);
    const coming = answered(request);
    const hash = createHash("sha256");
    await write(request, 3, hash);
    request.end();
    expect((await coming).status).toBe(200);
    const came = bench.provider.came.at(-1);
    expect(came?.bytes).toBe(3 * MEGABYTE);
    expect(came?.hash.digest("hex")).toBe(hash.digest("hex"));
  });

  it("that is packed passes as it is: nobody here reads it", async () => {
    const request = begin(bench.running.url, bench.secret, 2 * MEGABYTE);
    request.setHeader("content-encoding", "gzip");
    const coming = answered(request);
    await write(request, 2);
    request.end();
    expect((await coming).status).toBe(200);
    expect(bench.provider.came.at(-1)?.request.headers["content-encoding"]).toBe("gzip");
  });

  it("of a key that nobody knows is not taken in", async () => {
    const before = bench.provider.came.length;
    const request = begin(bench.running.url, "km_x_y_z", 8 * MEGABYTE);
    const coming = answered(request);
    await write(request, 1);
    expect((await coming).status).toBe(401);
    request.destroy();
    expect(bench.provider.came.length).toBe(before);
  });

  it("reaches the provider while it is still being sent", async () => {
    const before = bench.provider.came.length;
    const request = begin(bench.running.url, bench.secret, 4 * MEGABYTE);
    const coming = answered(request);
    await write(request, 1);
    await expect.poll(() => bench.provider.came.at(before)?.bytes).toBe(MEGABYTE);
    await write(request, 3);
    request.end();
    expect((await coming).status).toBe(200);
  });

  it("whose client leaves in the middle is cut at the provider too, and nothing is left hanging", async () => {
    const before = bench.provider.came.length;
    const request = begin(bench.running.url, bench.secret, 50 * MEGABYTE);
    request.on("error", () => {});
    await write(request, 2);
    await expect.poll(() => bench.provider.came.at(before)?.bytes).toBe(2 * MEGABYTE);
    request.destroy();
    await expect.poll(() => bench.provider.came.at(before)?.isCut, { timeout: 3_000 }).toBe(true);
    await nothingIsOpen();
  });

  const denied = JSON.stringify({ error: { message: "Incorrect API key provided", code: "invalid_api_key" } });
  const MANNERS: readonly (readonly [manner: string, early: (response: ServerResponse) => void])[] = [
    [
      "and reads on",
      (response) => {
        response.req.resume();
        response.writeHead(401, { "content-type": "application/json" }).end(denied);
      },
    ],
    [
      "and reads no more",
      (response) => void response.writeHead(401, { "content-type": "application/json" }).end(denied),
    ],
    [
      "and says no more but reads on",
      (response) => {
        response.req.resume();
        response.writeHead(401, { "content-type": "application/json", connection: "close" });
        // The end of a chunked answer, and of what this side sends.
        response.write(denied, () => response.req.socket.end("0\r\n\r\n"));
      },
    ],
  ];

  it.each(MANNERS)(
    "that the provider answers with 401 before its end, %s, lets its client hear that",
    async (_how, early) => {
      bench.provider.early = early;
      const request = begin(bench.running.url, bench.secret, 20 * MEGABYTE);
      const coming = answered(request);
      await write(request, 1);
      const { status, text } = await coming;
      request.destroy();
      expect(status).toBe(401);
      expect(text).toContain("Incorrect API key provided");
      await nothingIsOpen();
    },
  );

  it.each(MANNERS)(
    "that the provider answers with 401 at once, %s, lets a client hear that which goes on sending until it has it",
    async (_how, early) => {
      bench.provider.early = early;
      const { hostname, port } = new URL(bench.running.url);
      const socket = connect(Number(port), hostname);
      const pieces: string[] = [];
      const heard = (): string => pieces.join("");
      socket.on("data", (chunk: Buffer) => pieces.push(chunk.toString("latin1")));
      socket.on("error", () => {});
      socket.write(
        `POST /openai/v1/files HTTP/1.1\r\nhost: k\r\nauthorization: Bearer ${bench.secret}\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: ${30 * MEGABYTE}\r\n\r\n`,
      );
      const piece = Buffer.alloc(MEGABYTE, 1);
      for (let i = 0; i < 30 && !socket.destroyed && pieces.length === 0; i++) {
        socket.write(piece);
        await sleep(2);
      }
      await expect.poll(heard, { timeout: 2_000 }).toContain("Incorrect API key provided");
      expect(heard()).toMatch(/^HTTP\/1\.1 401 /);
      socket.destroy();
      await nothingIsOpen();
    },
  );
});

/** Gemini's files: begun with a start, brought to the address that the answer names, finalised with the last bytes. */
function speaksGoogleFiles(base: () => string): {
  readonly script: Script;
  readonly brought: { [name: string]: Buffer };
} {
  const brought: { [name: string]: Buffer } = {};
  const parts: Buffer[] = [];
  let made = 0;
  const script: Script = (arrived, response) => {
    const { pathname, searchParams } = new URL(arrived.url, "http://k");
    const answer = (body: object, headers: { [name: string]: string } = {}): void =>
      void response.writeHead(200, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
    const command = String(arrived.headers["x-goog-upload-command"] ?? "");
    if (pathname === "/upload/v1beta/files" && command === "start") {
      parts.length = 0;
      return answer(
        {},
        {
          "x-goog-upload-status": "active",
          "x-goog-upload-url": `${base()}/upload/v1beta/files?upload_id=up-${(made += 1)}&upload_protocol=resumable`,
        },
      );
    }
    if (pathname === "/upload/v1beta/files" && searchParams.get("upload_id") === `up-${made}`) {
      expect(Number(arrived.headers["x-goog-upload-offset"])).toBe(parts.reduce((sum, { length }) => sum + length, 0));
      parts.push(arrived.body);
      if (!command.includes("finalize")) return answer({}, { "x-goog-upload-status": "active" });
      const name = `files/up${made}`;
      brought[name] = Buffer.concat(parts);
      return answer(
        { file: { name, uri: `https://generativelanguage.googleapis.com/v1beta/${name}`, mimeType: "text/plain" } },
        { "x-goog-upload-status": "final" },
      );
    }
    const named = /^\/v1beta\/(files\/\w+)$/.exec(pathname)?.[1];
    if (named !== undefined && named in brought) return answer(arrived.method === "DELETE" ? {} : { name: named });
    if (pathname.endsWith(":generateContent"))
      return answer({
        candidates: [{ content: { parts: [{ text: "seen" }] }, finishReason: "STOP" }],
        usageMetadata: { promptTokenCount: 500, candidatesTokenCount: 5, totalTokenCount: 505 },
        modelVersion: "gemini-2.5-flash",
      });
    response
      .writeHead(404, { "content-type": "application/json" })
      .end('{"error":{"code":404,"message":"unknown here"}}');
  };
  return { script, brought };
}

describe("Gemini's files.upload", () => {
  const OWN_KEY = "AIzaTestUploadClientOwnKey";
  const { script, brought } = speaksGoogleFiles(() => bench.provider.url);
  const bench = withProxy(script, { KEYMETER_DURABILITY: "process", KEYMETER_MAX_BODY_MB: "1" });

  const google = (apiKey: string, base = "/google"): GoogleGenAI =>
    new GoogleGenAI({ apiKey, httpOptions: { baseUrl: bench.running.url + base, apiVersion: "v1beta" } });
  const upload = async (client: GoogleGenAI, text: string): Promise<{ name: string; uri: string }> => {
    const { name = "", uri = "" } = await client.files.upload({
      file: new Blob([text]),
      config: { mimeType: "text/plain" },
    });
    return { name, uri };
  };
  const statusOf = (promise: Promise<unknown>): Promise<number | undefined> =>
    promise.then(
      () => undefined,
      (error: unknown) => (error instanceof ApiError ? error.status : -1),
    );

  it.each([
    ["with a Keymeter key", "/google", async () => (await bench.running.createKey()).secret, PROVIDERS_OWN.google],
    ["with a key of the client's own", "/google", async () => OWN_KEY, OWN_KEY],
    [
      "with a Keymeter key at the address alone",
      "",
      async () => (await bench.running.createKey()).secret,
      PROVIDERS_OWN.google,
    ],
    [
      "with a Keymeter key under an alias",
      "/gemini",
      async () => (await bench.running.createKey()).secret,
      PROVIDERS_OWN.google,
    ],
  ])(
    "%s brings the bytes through the proxy, and the provider sees only the credential it should",
    async (_whose, base, keyOf, credential) => {
      const key = await keyOf();
      const before = bench.provider.journal.length;
      let throughProxy = 0;
      const count = (): void => void (throughProxy += 1);
      bench.running.proxy.app.server.on("request", count);
      const { name } = await upload(google(key, base), `hello from ${base}`);
      bench.running.proxy.app.server.off("request", count);
      expect(brought[name]?.toString()).toBe(`hello from ${base}`);
      const arrived = bench.provider.journal.slice(before);
      expect(arrived.map(({ headers }) => headers["x-goog-upload-command"])).toEqual(["start", "upload, finalize"]);
      expect(throughProxy).toBe(2);
      for (const { headers, url } of arrived) {
        expect(headers["x-goog-api-key"]).toBe(credential);
        expect(`${url} ${JSON.stringify(headers)}`).not.toContain("km_");
      }
    },
  );

  it.each([
    ["/google", "/google"],
    ["/gemini", "/google"],
    ["", ""],
  ])(
    "begun at %j is sent on to an address of the proxy's own, for clients that follow it as it stands",
    async (base, sentTo) => {
      const { secret } = await bench.running.createKey();
      const headers = { "x-goog-api-key": secret };
      const begun = await fetch(`${bench.running.url}${base}/upload/v1beta/files`, {
        method: "POST",
        headers: { ...headers, "content-type": "application/json", "x-goog-upload-command": "start" },
        body: "{}",
      });
      const address = begun.headers.get("x-goog-upload-url") ?? "";
      expect(address).toMatch(/\?upload_id=up-\d+&upload_protocol=resumable$/);
      expect(address.split("?")[0]).toBe(`${bench.running.url}${sentTo}/upload/v1beta/files`);
      const ended = await fetch(address, {
        method: "POST",
        headers: { ...headers, "x-goog-upload-command": "upload, finalize", "x-goog-upload-offset": "0" },
        body: "followed",
      });
      const { file } = (await ended.json()) as { file: { name: string } };
      expect(brought[file.name]?.toString()).toBe("followed");
      expect((await fetch(`${bench.running.url}/google/v1beta/${file.name}`, { headers })).status).toBe(200);
    },
  );

  it("from a path brings a file in pieces, larger than a body that is read may be", async () => {
    const { secret } = await bench.running.createKey();
    const path = join(temporaryFolder(), "large.txt");
    const bytes = Buffer.alloc(9 * MEGABYTE, "0123456789-");
    writeFileSync(path, bytes);
    const { name = "" } = await google(secret).files.upload({ file: path });
    expect(brought[name]?.equals(bytes)).toBe(true);
    expect(bench.provider.journal.slice(-2).map(({ headers }) => headers["x-goog-upload-command"])).toEqual([
      "upload",
      "upload, finalize",
    ]);
  });

  it("makes a file that its key may use in a prompt, metered, fetch and delete", async () => {
    const { secret } = await bench.running.createKey();
    const client = google(secret);
    const { name, uri } = await upload(client, "a document");
    const answer = await client.models.generateContent({
      model: "gemini-2.5-flash",
      contents: [{ role: "user", parts: [{ fileData: { fileUri: uri, mimeType: "text/plain" } }, { text: "hi" }] }],
    });
    expect(answer.text).toBe("seen");
    expect((await bench.running.events()).at(-1)?.costNanoUsd).toBe(String(500 * 300 + 5 * 2_500));
    expect((await client.files.get({ name })).name).toBe(name);
    await client.files.delete({ name });
    expect(bench.provider.journal.at(-1)).toMatchObject({ method: "DELETE", url: `/v1beta/${name}` });
  });

  it("makes a file that another Keymeter key can neither fetch, delete nor use in a prompt", async () => {
    const { name, uri } = await upload(google((await bench.running.createKey()).secret), "a secret");
    const other = google((await bench.running.createKey()).secret);
    const before = bench.provider.journal.length;
    expect(await statusOf(other.files.get({ name }))).toBe(404);
    expect(await statusOf(other.files.delete({ name }))).toBe(404);
    const asked = other.models.generateContent({
      model: "gemini-2.5-flash",
      contents: [{ role: "user", parts: [{ fileData: { fileUri: uri, mimeType: "text/plain" } }] }],
    });
    expect(await statusOf(asked)).toBe(404);
    expect(bench.provider.journal.length).toBe(before);
  });

  it("books nothing: files cost nothing", async () => {
    const before = (await bench.running.events()).length;
    await upload(google((await bench.running.createKey()).secret), "free");
    expect((await bench.running.events()).length).toBe(before);
  });
});

describe("what OpenAI keeps", () => {
  const bench = withProxy(() => {}, { KEYMETER_DURABILITY: "process" });
  let own: OpenAI;
  let other: OpenAI;
  beforeAll(async () => {
    const client = async (): Promise<OpenAI> =>
      new OpenAI({
        baseURL: `${bench.running.url}/openai/v1`,
        apiKey: (await bench.running.createKey()).secret,
        maxRetries: 0,
      });
    [own, other] = [await client(), await client()];
  });
  let made = 0;
  let id = "";
  beforeEach(() => {
    id = `thing-${(made += 1)}`;
  });

  /** What the provider got of this: how many requests, and the last one's method and path. */
  const sentBy = async (
    call: () => PromiseLike<unknown>,
  ): Promise<readonly [status: number, sent: string | undefined]> => {
    const before = bench.provider.journal.length;
    const status = await call().then(
      () => 200,
      (error: unknown) => (error instanceof APIError ? Number(error.status) : -1),
    );
    const last = bench.provider.journal.at(-1);
    return [status, bench.provider.journal.length > before && last ? `${last.method} ${last.url}` : undefined];
  };

  const stored = (): object => ({
    id: `chatcmpl-${id}`,
    object: "chat.completion",
    model: "gpt-4o-mini",
    choices: [{ index: 0, message: { role: "assistant", content: "kept" }, finish_reason: "stop" }],
    usage: { prompt_tokens: 10, completion_tokens: 2, total_tokens: 12 },
  });
  const streamed: Script = (_arrived, response) => {
    const chunk = (more: object): string =>
      `data: ${JSON.stringify({ id: `chatcmpl-${id}`, object: "chat.completion.chunk", model: "gpt-4o-mini", ...more })}\n\n`;
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write(chunk({ choices: [{ index: 0, delta: { content: "kept" }, finish_reason: "stop" }] }));
    response.write(chunk({ choices: [], usage: { prompt_tokens: 10, completion_tokens: 2, total_tokens: 12 } }));
    response.end("data: [DONE]\n\n");
  };
  const asked = { model: "gpt-4o-mini", store: true, messages: [{ role: "user" as const, content: "hi" }] };

  it.each(["whole", "streamed"])(
    "of a chat that is stored (%s) may be fetched, listed and deleted by its own key, and by no other",
    async (how) => {
      bench.provider.script = how === "whole" ? json(stored()) : streamed;
      if (how === "whole") await own.chat.completions.create(asked);
      else
        for await (const chunk of await own.chat.completions.create({ ...asked, stream: true }))
          expect(chunk.id).toBe(`chatcmpl-${id}`);
      const path = `/v1/chat/completions/chatcmpl-${id}`;
      bench.provider.script = json({ ...stored(), data: [], object: "list", has_more: false });
      const chatId = `chatcmpl-${id}`;
      for (const client of [own, other]) {
        const passes = client === own;
        const expected = (method: string, more = ""): unknown =>
          passes ? [200, `${method} ${path}${more}`] : [404, undefined];
        expect(await sentBy(() => client.chat.completions.retrieve(chatId))).toEqual(expected("GET"));
        expect(await sentBy(() => client.chat.completions.messages.list(chatId))).toEqual(expected("GET", "/messages"));
        expect(await sentBy(() => client.chat.completions.update(chatId, { metadata: { a: "b" } }))).toEqual(
          expected("POST"),
        );
        expect(await sentBy(() => client.chat.completions.delete(chatId))).toEqual(expected("DELETE"));
      }
    },
  );

  it("of a chat that is not stored is nobody's", async () => {
    bench.provider.script = json(stored());
    await own.chat.completions.create({ ...asked, store: false });
    expect(await sentBy(() => own.chat.completions.retrieve(`chatcmpl-${id}`))).toEqual([404, undefined]);
  });

  it("in a list of all stored chats is for no Keymeter key", async () => {
    expect(await sentBy(() => own.chat.completions.list())).toEqual([404, undefined]);
  });

  it("of an upload in parts is its key's: parts, completion and the file that it becomes", async () => {
    bench.provider.script = json({ id: `upload-${id}`, object: "upload", status: "pending" });
    const upload = await own.uploads.create({
      bytes: 5,
      filename: "a.jsonl",
      mime_type: "text/jsonl",
      purpose: "batch",
    });
    const part = async (client: OpenAI): Promise<unknown> =>
      client.uploads.parts.create(upload.id, { data: await toFile(Buffer.from("hello"), "part") });
    bench.provider.script = json({ id: `part-${id}`, object: "upload.part", upload_id: upload.id });
    expect(await sentBy(() => part(other))).toEqual([404, undefined]);
    expect(await sentBy(() => part(own))).toEqual([200, `POST /v1/uploads/${upload.id}/parts`]);
    expect(bench.provider.journal.at(-1)?.body.toString()).toContain("hello");
    bench.provider.script = json({ id: upload.id, object: "upload", status: "completed", file: { id: `file-${id}` } });
    const complete = (client: OpenAI): PromiseLike<unknown> =>
      client.uploads.complete(upload.id, { part_ids: [`part-${id}`] });
    expect(await sentBy(() => complete(other))).toEqual([404, undefined]);
    expect(await sentBy(() => complete(own))).toEqual([200, `POST /v1/uploads/${upload.id}/complete`]);
    bench.provider.script = json({ id: `file-${id}`, object: "file" });
    expect(await sentBy(() => own.files.retrieve(`file-${id}`))).toEqual([200, `GET /v1/files/file-${id}`]);
    expect(await sentBy(() => other.files.retrieve(`file-${id}`))).toEqual([404, undefined]);
  });

  it("of an upload in parts may be given up by its own key alone", async () => {
    bench.provider.script = json({ id: `upload-${id}`, object: "upload", status: "pending" });
    const upload = await own.uploads.create({
      bytes: 5,
      filename: "a.jsonl",
      mime_type: "text/jsonl",
      purpose: "batch",
    });
    expect(await sentBy(() => other.uploads.cancel(upload.id))).toEqual([404, undefined]);
    expect(await sentBy(() => own.uploads.cancel(upload.id))).toEqual([200, `POST /v1/uploads/${upload.id}/cancel`]);
  });
});
