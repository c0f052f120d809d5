// The upstream of the benchmark: answers from memory on a bare socket, so that it is never what is measured. A request
// body that asks for a stream gets 100 events: all at once, or one each PACE_MS; any other a JSON answer of 2 KB.
import { createServer } from "node:net";

const PACE_MS = Number(process.env["PACE_MS"] ?? "0");
const CHUNKS = 100;

const usage = { prompt_tokens: 100, completion_tokens: 100, total_tokens: 200 };
const answer = JSON.stringify({
  id: "chatcmpl-bench",
  object: "chat.completion",
  created: 1,
  model: "gpt-4o-mini-2024-07-18",
  choices: [{ index: 0, message: { role: "assistant", content: "x".repeat(1_700) }, finish_reason: "stop" }],
  usage,
});
const JSON_ANSWER = Buffer.from(
  `HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: bench\r\ncontent-length: ${Buffer.byteLength(answer)}\r\n\r\n${answer}`,
);
const HEAD = Buffer.from("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
const frame = (text: string): Buffer => Buffer.from(`${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`);
const event = (sentAt: string): string =>
  `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}],"sent":"${sentAt}","usage":null}\n\n`;
const EVENT = frame(event(""));
const END = Buffer.concat([
  frame(
    `data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1,"model":"gpt-4o-mini-2024-07-18","choices":[],"usage":${JSON.stringify(usage)}}\n\n`,
  ),
  frame("data: [DONE]\n\n"),
  Buffer.from("0\r\n\r\n"),
]);

const server = createServer((socket) => {
  let buffered = Buffer.alloc(0);
  socket.setNoDelay(true);
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk) => {
    buffered = buffered.length === 0 ? chunk : Buffer.concat([buffered, chunk]);
    for (;;) {
      const headEnd = buffered.indexOf("\r\n\r\n");
      if (headEnd < 0) return;
      const length = Number(/content-length: *(\d+)/i.exec(buffered.toString("latin1", 0, headEnd))?.[1] ?? "0");
      const whole = headEnd + 4 + length;
      if (buffered.length < whole) return;
      const streams = buffered.subarray(headEnd + 4, whole).includes('"stream":true');
      buffered = buffered.subarray(whole);
      if (!streams) socket.write(JSON_ANSWER);
      else if (PACE_MS === 0) {
        socket.write(HEAD);
        for (let i = 0; i < CHUNKS; i++) socket.write(EVENT);
        socket.write(END);
      } else {
        socket.write(HEAD);
        let sent = 0;
        const timer = setInterval(() => {
          if (socket.destroyed) return clearInterval(timer);
          sent += 1;
          socket.write(frame(event(process.hrtime.bigint().toString())));
          if (sent === CHUNKS) {
            clearInterval(timer);
            socket.write(END);
          }
        }, PACE_MS);
      }
    }
  });
});
server.listen(Number(process.env["PORT"] ?? "0"), "127.0.0.1", () =>
  process.send?.({ port: (server.address() as { port: number }).port }),
);
