// A receiver of OTLP by HTTP on 127.0.0.1: it keeps what it took, and fails as it is told.
import { createServer } from "node:http";
import type { IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { gunzipSync } from "node:zlib";

export type Export = {
  readonly signal: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
};

/** What becomes of an export: taken; taken, but the answer is lost; a status; no answer at all. */
type Doing = "take" | "lose answer" | "hang" | number;

export type FakeOtlp = {
  readonly url: string;
  /** What it took, in order. */
  readonly taken: Export[];
  /** How many came at all. */
  asked: number;
  does: (signal: string, body: Buffer) => Doing;
  close(): Promise<void>;
};

export async function startFakeOtlp(): Promise<FakeOtlp> {
  const fake: FakeOtlp = { url: "", taken: [], asked: 0, does: () => "take", close: async () => undefined };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      fake.asked += 1;
      const sent = Buffer.concat(chunks);
      const body = request.headers["content-encoding"] === "gzip" ? gunzipSync(sent) : sent;
      const signal = (request.url ?? "").replace("/v1/", "");
      const doing = fake.does(signal, body);
      if (doing === "take" || doing === "lose answer") fake.taken.push({ signal, headers: request.headers, body });
      if (doing === "hang") return;
      if (doing === "lose answer") return void request.socket.destroy();
      response.writeHead(doing === "take" ? 200 : doing, {
        "content-type": "application/x-protobuf",
        ...(doing === 429 ? { "retry-after": "0" } : {}),
      });
      response.end();
    });
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return Object.assign(fake, {
    url: `http://127.0.0.1:${port}`,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  });
}
