// A thread that reads large bodies: requests, and answers that are needed whole. The bytes come and go back without
// being copied.
import { parentPort } from "node:worker_threads";
import { DIALECTS } from "./dialects/index.ts";
import { parseObject } from "./dialects/json.ts";
import { readRequest } from "./read-request.ts";
import type { FromReader, ToReader } from "./readers.ts";
import { Refused } from "./refusals.ts";

const port = parentPort;
if (!port) throw new Error("proxy/reading-thread.ts runs as a worker thread only");

port.on("message", (asked: ToReader) => void answer(asked));

async function answer(asked: ToReader): Promise<void> {
  const body = Buffer.from(asked.bytes);
  const say = (message: FromReader, more: readonly ArrayBuffer[] = []): void =>
    port?.postMessage(message, [asked.bytes, ...more]);
  try {
    if (asked.kind === "answer") {
      const reader = DIALECTS[asked.dialect].reader(asked.call, false);
      const parsed = parseObject(body.toString("latin1"));
      if (parsed) reader.body(parsed);
      return say({ id: asked.id, kind: "answer", reading: reader.reading(), bytes: asked.bytes });
    }
    const { rewritten, ...read } = await readRequest(asked.toRead, body);
    // What was written anew is bytes of its own.
    const changed = rewritten && Uint8Array.from(rewritten.body).buffer;
    say(
      { id: asked.id, kind: "request", ...read, changed, hides: rewritten?.hides ?? false, bytes: asked.bytes },
      changed ? [changed] : [],
    );
  } catch (error) {
    const { reason, message } =
      error instanceof Refused
        ? error
        : { reason: undefined, message: error instanceof Error ? error.message : String(error) };
    say({ id: asked.id, kind: "failed", reason, message, bytes: asked.bytes });
  }
}
