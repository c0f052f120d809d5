// A provider on loopback that does what a test tells it and keeps its own journal of every request that arrived.
import { createServer } from "node:http";
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

type Arrived = {
  readonly at: number;
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly rawHeaders: readonly string[];
  readonly body: Buffer;
};

/** Answers one request. The body has been read; write to the response as the test needs. */
export type Script = (arrived: Arrived, response: ServerResponse, request: IncomingMessage) => void | Promise<void>;

export type FakeProvider = {
  readonly url: string;
  readonly journal: readonly Arrived[];
  script: Script;
  close(): Promise<void>;
};

export async function startFakeProvider(script: Script): Promise<FakeProvider> {
  const journal: Arrived[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const arrived: Arrived = {
        at: Date.now(),
        method: request.method ?? "",
        url: request.url ?? "",
        headers: request.headers,
        rawHeaders: request.rawHeaders,
        body: Buffer.concat(chunks),
      };
      journal.push(arrived);
      void Promise.resolve(fake.script(arrived, response, request)).catch((error: unknown) =>
        response.destroy(error instanceof Error ? error : undefined),
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const fake: FakeProvider = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    journal,
    script,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  return fake;
}

/** A JSON answer. */
export function json(body: unknown, status = 200, headers: { readonly [name: string]: string } = {}): Script {
  return (_arrived, response) => {
    response
      .writeHead(status, { "content-type": "application/json", ...headers })
      .end(typeof body === "string" ? body : JSON.stringify(body));
  };
}

/** A small chat completion with the given counts. */
export function chatAnswer(prompt = 100, completion = 20, model = "gpt-4o-mini-2024-07-18"): object {
  return {
    id: `chatcmpl-${prompt}-${completion}`,
    object: "chat.completion",
    model,
    choices: [{ index: 0, message: { role: "assistant", content: "hello" }, finish_reason: "stop" }],
    usage: { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion },
  };
}

/** A small message of Anthropic's with the given usage. */
export function messageAnswer(
  usage: { readonly [field: string]: number } = { input_tokens: 10, output_tokens: 1 },
): object {
  return {
    id: "msg_1",
    type: "message",
    role: "assistant",
    model: "claude-haiku-4-5",
    content: [],
    stop_reason: "end_turn",
    usage,
  };
}
