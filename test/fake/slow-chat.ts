// A provider's script that takes its time: a chat completion, JSON or stream, in steps with pauses. The number that the
// request says in its metadata decides what it costs.
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

/** Which one it is. */
export function numberOf(body: Buffer): number {
  return Number((JSON.parse(body.toString("utf8")) as { metadata: { n: string } }).metadata.n);
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
