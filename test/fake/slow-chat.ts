// A provider's script that takes its time: an answer in OpenAI's or Anthropic's format, JSON or stream, in steps with pauses. The
// number that the request says decides what it costs.
import type { ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import type { Script } from "./provider.ts";

const MODEL = "gpt-4o-mini";

/** The body of request n. */
export function slowChat(n: number, stream: boolean): string {
  return JSON.stringify({
    model: MODEL,
    metadata: { n: String(n) },
    max_tokens: 500,
    messages: [{ role: "user", content: "hi" }],
    ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
  });
}

/** The same, in Anthropic's format. */
export function slowMessage(n: number, stream: boolean): string {
  const messages = [{ role: "user", content: "hi" }];
  return JSON.stringify({
    model: "claude-haiku-4-5",
    metadata: { user_id: `n=${n}` },
    max_tokens: 500,
    messages,
    stream,
  });
}

/** Which one it is. */
export function numberOf(body: Buffer): number {
  const { metadata } = JSON.parse(body.toString("utf8")) as { metadata: { n?: string; user_id?: string } };
  return Number(metadata.n ?? metadata.user_id?.replace("n=", ""));
}

/** What request n uses, and what that costs. */
export function slowChatUsage(n: number): { readonly input: number; readonly output: number } {
  return { input: 100 + n, output: 10 + n };
}

export function slowChatNanoUsd(n: number): number {
  const { input, output } = slowChatUsage(n);
  return input * 150 + output * 600;
}

export const answerSlowly: Script = async (arrived, response) => {
  const body = JSON.parse(arrived.body.toString("utf8")) as { stream?: boolean };
  const n = numberOf(arrived.body);
  const { input, output } = slowChatUsage(n);
  if (arrived.url.endsWith("/v1/messages")) return messageSlowly(n, body.stream === true, response);
  const usage = { prompt_tokens: input, completion_tokens: output, total_tokens: input + output };
  if (!body.stream) {
    await sleep(3);
    response.writeHead(200, { "content-type": "application/json" }).end(
      JSON.stringify({
        id: `c${n}`,
        model: MODEL,
        choices: [{ index: 0, message: { role: "assistant", content: "x".repeat(200) }, finish_reason: "stop" }],
        usage,
      }),
    );
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  const chunk = (choices: unknown[], more: object): string =>
    `data: ${JSON.stringify({ id: `c${n}`, model: MODEL, choices, ...more })}\n\n`;
  for (let i = 0; i < 5; i++) {
    response.write(chunk([{ index: 0, delta: { content: `word${i} ` }, finish_reason: null }], { usage: null }));
    await sleep(1);
  }
  response.write(chunk([], { usage }));
  response.end("data: [DONE]\n\n");
};

async function messageSlowly(n: number, stream: boolean, response: ServerResponse): Promise<void> {
  const { input, output } = slowChatUsage(n);
  const usage = { input_tokens: input, output_tokens: output };
  const message = {
    id: `m${n}`,
    type: "message",
    role: "assistant",
    model: "claude-haiku-4-5",
    content: [{ type: "text", text: "x".repeat(200) }],
    stop_reason: "end_turn",
    usage,
  };
  if (!stream) {
    await sleep(3);
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(message));
    return;
  }
  response.writeHead(200, { "content-type": "text/event-stream" });
  const say = (type: string, more: object): void =>
    void response.write(`event: ${type}\ndata: ${JSON.stringify({ type, ...more })}\n\n`);
  say("message_start", {
    message: { ...message, content: [], stop_reason: null, usage: { ...usage, output_tokens: 1 } },
  });
  say("content_block_start", { index: 0, content_block: { type: "text", text: "" } });
  for (let i = 0; i < 5; i++) {
    say("content_block_delta", { index: 0, delta: { type: "text_delta", text: `word${i} ` } });
    await sleep(1);
  }
  say("content_block_stop", { index: 0 });
  say("message_delta", { delta: { stop_reason: "end_turn" }, usage: { output_tokens: output } });
  say("message_stop", {});
  response.end();
}
