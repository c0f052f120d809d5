// The demo's live traffic: every key asks through the proxy in its own dialect, by turns JSON and stream; one key
// leaks.
import { setTimeout as sleep } from "node:timers/promises";
import type { DemoKey, Work } from "./past.ts";

const PAUSE_MS = 1_440;
const LEAK_PAUSE_MS = 120;
const LEAK_MODEL = "claude-opus-4-6";
const USUAL_OUTPUT_TOKENS = 200;
const LEAK_OUTPUT_TOKENS = 16_000;

export type Counts = { requests: number; refused: number; failed: number };

/** Sends until `done`, and says how it went. */
export async function runTraffic(
  base: string,
  keys: readonly DemoKey[],
  leaked: DemoKey,
  done: () => boolean,
  { leakAfterMs, onFirstRefusal }: { readonly leakAfterMs: number; readonly onFirstRefusal: (words: string) => void },
): Promise<Counts> {
  const counts = { requests: 0, refused: 0, failed: 0 };
  const repeat = async (pauseMs: number, next: (i: number) => Question): Promise<void> => {
    for (let i = 0; !done(); i++) {
      const refusal = await ask(base, next(i), counts);
      if (refusal !== undefined && counts.refused === 1) onFirstRefusal(refusal);
      await sleep(pauseMs);
    }
  };
  const usual = (key: DemoKey, i: number): Question => ({
    secret: key.secret,
    dialect: key.work.dialect,
    model: key.work.model,
    most: USUAL_OUTPUT_TOKENS,
    stream: i % 2 === 0,
  });
  const leak: Question = {
    secret: leaked.secret,
    dialect: "anthropic",
    model: LEAK_MODEL,
    most: LEAK_OUTPUT_TOKENS,
    stream: false,
  };
  // Each key at a pace of its own, so that they do not ask in step.
  await Promise.all([
    ...keys.map((key, place) => repeat(PAUSE_MS + place * 17, (i) => usual(key, i))),
    sleep(leakAfterMs).then(() => repeat(LEAK_PAUSE_MS, () => leak)),
  ]);
  return counts;
}

type Question = {
  readonly secret: string;
  readonly dialect: Work["dialect"];
  readonly model: string;
  /** The most output tokens. */
  readonly most: number;
  readonly stream: boolean;
};

/** One request in a dialect, JSON or stream. Returns what a client that was refused reads. */
async function ask(
  base: string,
  { secret, dialect, model, most, stream }: Question,
  counts: Counts,
): Promise<string | undefined> {
  const question = "How much did we spend on this today, and why?";
  const requests: {
    readonly [name in Work["dialect"]]: () => [path: string, headers: Record<string, string>, body: object];
  } = {
    openai: () => [
      "/openai/v1/chat/completions",
      { authorization: `Bearer ${secret}` },
      { model, stream, max_tokens: most, messages: [{ role: "user", content: question }] },
    ],
    responses: () => [
      "/openai/v1/responses",
      { authorization: `Bearer ${secret}` },
      { model, stream, max_output_tokens: most, input: question },
    ],
    anthropic: () => [
      "/anthropic/v1/messages",
      { "x-api-key": secret, "anthropic-version": "2023-06-01" },
      { model, stream, max_tokens: most, messages: [{ role: "user", content: question }] },
    ],
    google: () => [
      `/google/v1beta/models/${model}:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`,
      { "x-goog-api-key": secret },
      { contents: [{ role: "user", parts: [{ text: question }] }], generationConfig: { maxOutputTokens: most } },
    ],
  };
  const [path, headers, body] = requests[dialect]();
  try {
    const answer = await fetch(base + path, {
      method: "POST",
      headers: { "content-type": "application/json", "x-keymeter-feature": "demo", ...headers },
      body: JSON.stringify(body),
    });
    const text = await answer.text();
    counts.requests += 1;
    if (answer.status === 402) {
      counts.refused += 1;
      return (JSON.parse(text) as { error?: { message?: string } }).error?.message;
    }
    if (!answer.ok) counts.failed += 1;
  } catch {
    counts.failed += 1;
  }
  return undefined;
}
