// One export by OTLP: encoded bytes to a receiver, and what became of them.
import { request } from "undici";

export type Sent =
  /** `said`: it took only a part, and says why. */
  | { readonly ok: true; readonly said?: string | undefined }
  | {
      readonly ok: false;
      readonly error: string;
      /** What it was sent is to blame, not it: less of it may go. */
      readonly isRefused: boolean;
      readonly retryAfterMs: number;
    };

export type Outgoing = {
  readonly url: string;
  readonly body: Uint8Array;
  readonly headers: { readonly [name: string]: string };
  /** What the answer says of a part that was not taken. */
  readonly readAnswer: (bytes: Uint8Array) => string | undefined;
};

const TIMEOUT_MS = 10_000;
/** However long a receiver asks to be left alone. */
const MOST_WAIT_MS = 5 * 60_000;
const MOST_ANSWER_BYTES = 64 * 1024;
const TYPE = "application/x-protobuf";

/** Never rejects. */
export async function send({ url, body, headers, readAnswer }: Outgoing): Promise<Sent> {
  try {
    const answer = await request(url, {
      method: "POST",
      headers: { "content-type": TYPE, ...headers },
      body,
      headersTimeout: TIMEOUT_MS,
      bodyTimeout: TIMEOUT_MS,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    const chunks: Buffer[] = [];
    let size = 0;
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size <= MOST_ANSWER_BYTES) chunks.push(chunk);
    }
    const { statusCode: status } = answer;
    if (status >= 200 && status < 300) return { ok: true, said: saidOf(Buffer.concat(chunks), readAnswer) };
    const seconds = Number(answer.headers["retry-after"] ?? 0);
    return {
      ok: false,
      error: `it answers ${status}`,
      isRefused: status === 400 || status === 413 || status === 422,
      retryAfterMs: Number.isFinite(seconds) ? Math.min(seconds * 1_000, MOST_WAIT_MS) : 0,
    };
  } catch (error) {
    const why = error instanceof Error ? error.message || error.name : String(error);
    return { ok: false, error: `no answer (${why})`, isRefused: false, retryAfterMs: 0 };
  }
}

/** An answer that is none is no reason to send it all again. */
function saidOf(bytes: Uint8Array, readAnswer: Outgoing["readAnswer"]): string | undefined {
  try {
    return bytes.length === 0 ? undefined : readAnswer(bytes);
  } catch {
    return undefined;
  }
}
