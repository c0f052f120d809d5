// The upstream of the benchmark: answers from memory on a bare socket, so that it is never what is measured. A request
// body that asks for a stream gets 100 events: all at once, or one each PACE_MS; any other a JSON answer of 2 KB, at
// once or after DELAY_MS. Each answer has an id of its own. It counts what it answered: "count" asks for it.
import { createServer } from "node:net";
import type { Socket } from "node:net";

const PACE_MS = Number(process.env["PACE_MS"] ?? "0");
const DELAY_MS = Number(process.env["DELAY_MS"] ?? "0");
const CHUNKS = 100;
const WORDS = 340;
const ID_DIGITS = 12;
const NO_ID = "0".repeat(ID_DIGITS);
const HEAD_END = Buffer.from("\r\n\r\n");

let answered = 0;
const usage = { prompt_tokens: 100, completion_tokens: 100, total_tokens: 200 };
const common = `"id":"chatcmpl-${NO_ID}","created":1,"model":"gpt-4o-mini-2024-07-18"`;

/** Bytes with the place of the id in them. */
type Template = { readonly bytes: Buffer; readonly idAt: number };

function template(text: string): Template {
  const bytes = Buffer.from(text);
  return { bytes, idAt: bytes.indexOf(NO_ID) };
}

/** A copy with an id of its own. */
function withId({ bytes, idAt }: Template, id: string): Buffer {
  const copy = Buffer.from(bytes);
  copy.write(id, idAt, "latin1");
  return copy;
}

const body = `{${common},"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"${"word ".repeat(WORDS)}"},"finish_reason":"stop"}],"usage":${JSON.stringify(usage)}}`;
const ANSWER = template(
  `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: bench\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
);
const HEAD = Buffer.from("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
const frame = (text: string): string => `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
const event = (choices: string, rest: string): string =>
  frame(`data: {${common},"object":"chat.completion.chunk","choices":${choices}${rest}}\n\n`);
const delta = (sentAt: string): string =>
  event('[{"index":0,"delta":{"content":"word "},"finish_reason":null}]', `,"sent":"${sentAt}","usage":null`);
const EVENT = template(delta(""));
const END = template(
  event('[{"index":0,"delta":{},"finish_reason":"stop"}]', ',"usage":null') +
    event("[]", `,"usage":${JSON.stringify(usage)}`),
);
const LAST = Buffer.from(`${frame("data: [DONE]\n\n")}0\r\n\r\n`);

/** The first request of what has come: its body, and how many bytes it takes. Undefined: not all of it is there. */
function readRequest(bytes: Buffer): { readonly body: Buffer; readonly size: number } | undefined {
  const headEnd = bytes.indexOf(HEAD_END);
  if (headEnd < 0) return undefined;
  const head = bytes.toString("latin1", 0, headEnd);
  const start = headEnd + HEAD_END.length;
  if (/\r\ntransfer-encoding: *chunked/i.test(head)) return readChunks(bytes, start);
  const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? "0");
  return bytes.length < start + length
    ? undefined
    : { body: bytes.subarray(start, start + length), size: start + length };
}

function readChunks(bytes: Buffer, start: number): ReturnType<typeof readRequest> {
  const pieces: Buffer[] = [];
  for (let at = start; ;) {
    const lineEnd = bytes.indexOf("\r\n", at);
    if (lineEnd < 0) return undefined;
    const size = Number.parseInt(bytes.toString("latin1", at, lineEnd), 16);
    const from = lineEnd + 2;
    if (bytes.length < from + size + 2) return undefined;
    if (size === 0) return { body: Buffer.concat(pieces), size: from + 2 };
    pieces.push(bytes.subarray(from, from + size));
    at = from + size + 2;
  }
}

function answer(socket: Socket, streams: boolean): void {
  answered += 1;
  const id = String(answered).padStart(ID_DIGITS, "0");
  if (!streams) return void socket.write(withId(ANSWER, id));
  socket.write(HEAD);
  // The last two events name the id twice: the second one is written behind the first.
  const end = withId(END, id);
  end.write(id, end.indexOf(NO_ID), "latin1");
  if (PACE_MS === 0) {
    const one = withId(EVENT, id);
    for (let i = 0; i < CHUNKS; i++) socket.write(one);
    socket.write(end);
    return void socket.write(LAST);
  }
  let sent = 0;
  const timer = setInterval(() => {
    if (socket.destroyed) return clearInterval(timer);
    sent += 1;
    socket.write(withId(template(delta(process.hrtime.bigint().toString())), id));
    if (sent < CHUNKS) return;
    clearInterval(timer);
    socket.write(Buffer.concat([end, LAST]));
  }, PACE_MS);
}

const server = createServer((socket) => {
  let buffered = Buffer.alloc(0);
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk) => {
    buffered = buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk]);
    for (;;) {
      const request = readRequest(buffered);
      if (!request) return;
      const streams = request.body.includes('"stream":true');
      buffered = buffered.subarray(request.size);
      if (DELAY_MS === 0) answer(socket, streams);
      else setTimeout(() => !socket.destroyed && answer(socket, streams), DELAY_MS);
    }
  });
});
process.on("message", (message) => message === "count" && process.send?.({ count: answered }));
server.listen(Number(process.env["PORT"] ?? "0"), "127.0.0.1", () =>
  process.send?.({ port: (server.address() as { port: number }).port }),
);
