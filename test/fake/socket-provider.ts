// A provider's WebSockets on loopback: does what a test tells it and keeps a journal of every handshake and message.
import { createServer } from "node:http";
import type { IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";

type Message = { readonly [name: string]: unknown };

export type FakeSocketProvider = {
  readonly url: string;
  readonly handshakes: readonly { readonly url: string; readonly headers: IncomingHttpHeaders }[];
  readonly messages: readonly Message[];
  /** The sockets that are open now. */
  readonly sockets: ReadonlySet<WebSocket>;
  /** What to do with a message; `undefined` in `onOpen`'s place says nothing. */
  script: { onOpen?: (say: Say) => void; onMessage: (message: Message, say: Say, socket: WebSocket) => void };
  /** A status with which handshakes are refused. */
  refusesWith: number | undefined;
  close(): Promise<void>;
};
type Say = (message: object) => void;

export async function startFakeSocketProvider(): Promise<FakeSocketProvider> {
  const handshakes: { url: string; headers: IncomingHttpHeaders }[] = [];
  const messages: Message[] = [];
  const server = createServer();
  const wss = new WebSocketServer({ noServer: true });
  server.on("upgrade", (request, socket, head) => {
    handshakes.push({ url: request.url ?? "", headers: request.headers });
    if (fake.refusesWith !== undefined) {
      const body = JSON.stringify({ error: { message: "no", code: "invalid_api_key" } });
      socket.end(
        `HTTP/1.1 ${fake.refusesWith} No\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
      );
      return;
    }
    wss.handleUpgrade(request, socket, head, (opened) => {
      const say: Say = (message) => opened.send(JSON.stringify(message));
      opened.on("message", (data: Buffer) => {
        const message = JSON.parse(data.toString("utf8")) as Message;
        messages.push(message);
        fake.script.onMessage(message, say, opened);
      });
      fake.script.onOpen?.(say);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const fake: FakeSocketProvider = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    handshakes,
    messages,
    sockets: wss.clients,
    script: { onMessage: () => {} },
    refusesWith: undefined,
    close: () =>
      new Promise((resolve) => {
        for (const client of wss.clients) client.terminate();
        server.close(() => resolve());
      }),
  };
  return fake;
}
