// Spending through a proxy, or by a writer of a test's own: for the attacks on the disk, the clock and the files.
import { join } from "node:path";
import { afterEach } from "vitest";
import { openWriter } from "../../ledger/usage/writer.ts";
import type { Writer, WriterOptions } from "../../ledger/usage/writer.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { event, SUBJECT } from "../usage-event.ts";

const writers: Writer[] = [];
afterEach(async () => {
  for (const writer of writers.splice(0)) await writer.close();
});

/** A small chat, with a credential of the client's own. */
export const ask = (url: string): Promise<Response> =>
  fetch(`${url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: "Bearer sk-test-spending-client" },
    body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [] }),
  });

/** What readiness says, with its status. */
export const readyz = async ({ opsUrl }: RunningProxy): Promise<[number, string]> => {
  const answer = await fetch(`${opsUrl}/readyz`);
  return [answer.status, await answer.text()];
};

/** A writer on the books of a folder; it is closed after its test, where the test does not do so. */
export async function writerOn(folder: string, options: Partial<WriterOptions> = {}): Promise<Writer> {
  const writer = await openWriter({
    path: join(folder, "usage.db"),
    durability: "process",
    zone: "UTC",
    capMode: "enforce",
    ...options,
  });
  writers.push(writer);
  return writer;
}

export async function close(writer: Writer): Promise<void> {
  writers.splice(writers.indexOf(writer), 1);
  await writer.close();
}

/** Reserves and settles; whether it was admitted. */
export async function spend(writer: Writer, amount: bigint): Promise<boolean> {
  const attemptId = writer.nextAttemptId();
  const { admitted } = await writer.reserve(
    { attemptId, subject: SUBJECT, boundNanoUsd: amount, expectedNanoUsd: amount },
    "chat_completions",
    undefined,
  );
  if (admitted) await writer.settle(event(attemptId, amount));
  return admitted;
}
