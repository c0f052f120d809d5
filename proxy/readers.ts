// Reads bodies: small ones at once, large ones in threads, so that no body holds up other requests. Threads are made
// when they are needed.
import { Worker } from "node:worker_threads";
import { joined } from "./bodies.ts";
import type { DialectName } from "./dialects/dialect.ts";
import { readRequest } from "./read-request.ts";
import type { RequestRead, ToRead } from "./read-request.ts";
import { Refused } from "./refusals.ts";
import type { RefusalReason } from "./refusals.ts";
import type { Call } from "./dialects/call.ts";
import type { Reading } from "./dialects/reading.ts";

export type ToReader = { readonly id: number; readonly bytes: ArrayBuffer } & (
  | { readonly kind: "request"; readonly toRead: ToRead }
  | { readonly kind: "answer"; readonly dialect: DialectName; readonly call: Call }
);

export type FromReader = { readonly id: number; readonly bytes: ArrayBuffer } & (
  | ({ readonly kind: "request"; readonly changed: ArrayBuffer | undefined; readonly hides: boolean } & Omit<
      RequestRead,
      "rewritten"
    >)
  | { readonly kind: "answer"; readonly reading: Reading }
  | { readonly kind: "failed"; readonly reason: RefusalReason | undefined; readonly message: string }
);

export type Readers = {
  /** What a request asks for; and its body, where it is another buffer than before. Rejects with Refused. */
  request(toRead: ToRead, body: Buffer): Promise<RequestRead & { readonly body?: Buffer }>;
  /** What a large answer that is needed whole says. Rejects when it cannot be read. */
  answer(dialect: DialectName, call: Call, body: Buffer): Promise<Reading>;
  close(): Promise<void>;
};

/** Up to here reading costs less than the way to a thread and back, whatever stands in it. */
const SMALL_BYTES = 64 * 1024;
const THREADS = 2;

export function createReaders(): Readers {
  const threads: Thread[] = [];

  /** The one with the least to do. */
  const thread = (): Thread => {
    const idle = threads.find(({ waiting }) => waiting.size === 0);
    if (idle) return idle;
    if (threads.length < THREADS) {
      const one = startThread(() => {
        const at = threads.indexOf(one);
        if (at >= 0) threads.splice(at, 1);
      });
      threads.push(one);
      return one;
    }
    return threads.reduce((least, one) => (one.waiting.size < least.waiting.size ? one : least));
  };

  let last = 0;
  const ask = async (asked: Omit<ToReader, "id" | "bytes">, body: Buffer): Promise<FromReader> => {
    // A part of somebody else's memory cannot be given away.
    const isWhole = body.byteOffset === 0 && body.byteLength === body.buffer.byteLength;
    const bytes = (isWhole ? body : await joined([body])).buffer as ArrayBuffer;
    return new Promise((resolve, reject) => {
      const { worker, waiting } = thread();
      const id = (last += 1);
      waiting.set(id, { resolve, reject });
      worker.ref();
      worker.postMessage({ ...asked, id, bytes }, [bytes]);
    });
  };

  const readElsewhere: Readers["request"] = async (toRead, body) => {
    const read = await ask({ kind: "request", toRead } as Omit<ToReader, "id" | "bytes">, body);
    if (read.kind === "failed" && read.reason !== undefined) throw new Refused(read.reason, read.message);
    if (read.kind !== "request")
      throw new Error(
        read.kind === "failed" ? read.message : "a reading thread answered a request with something else",
      );
    const { call, references, changed, hides } = read;
    return {
      call,
      references,
      body: Buffer.from(read.bytes),
      rewritten: changed && { body: Buffer.from(changed), hides },
    };
  };

  return {
    request: (toRead, body) => (body.length <= SMALL_BYTES ? readRequest(toRead, body) : readElsewhere(toRead, body)),
    async answer(dialect, call, body) {
      const read = await ask({ kind: "answer", dialect, call } as Omit<ToReader, "id" | "bytes">, body);
      if (read.kind !== "answer")
        throw new Error(
          read.kind === "failed" ? read.message : "a reading thread answered an answer with something else",
        );
      return read.reading;
    },
    async close() {
      await Promise.all(threads.map(({ worker }) => worker.terminate()));
    },
  };
}

type Thread = {
  readonly worker: Worker;
  readonly waiting: Map<number, { resolve: (read: FromReader) => void; reject: (error: Error) => void }>;
};

function startThread(gone: () => void): Thread {
  const worker = new Worker(new URL("./reading-thread.ts", import.meta.url), { name: "body-reader" });
  const waiting: Thread["waiting"] = new Map();
  worker.unref();
  worker.on("message", (read: FromReader) => {
    waiting.get(read.id)?.resolve(read);
    waiting.delete(read.id);
    if (waiting.size === 0) worker.unref();
  });
  const end = (error: Error): void => {
    gone();
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  worker.on("error", (error) => end(error instanceof Error ? error : new Error(String(error))));
  worker.on("exit", () => end(new Error("the thread that reads bodies has ended")));
  return { worker, waiting };
}
