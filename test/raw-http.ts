// A client that sends exactly the bytes it is told to, and says what came back.
import { connect } from "node:net";

export type RawAnswer = { readonly status: number | undefined; readonly text: string; readonly closed: boolean };

/** Sends the bytes and reads until an answer is whole, the peer closes, or `waitMs` have passed. */
export function sendRaw(url: string, bytes: string | Buffer, waitMs = 1_500): Promise<RawAnswer> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname);
    let text = "";
    const finish = (closed: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      const status = /^HTTP\/1\.1 (\d{3})/.exec(text)?.[1];
      resolve({ status: status === undefined ? undefined : Number(status), text, closed });
    };
    const timer = setTimeout(() => finish(false), waitMs);
    socket.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      const length = /content-length: (\d+)/i.exec(text)?.[1];
      const head = text.indexOf("\r\n\r\n");
      if (head >= 0 && length !== undefined && text.length >= head + 4 + Number(length)) finish(false);
    });
    socket.on("close", () => finish(true));
    socket.on("error", () => finish(true));
    socket.write(bytes);
  });
}

/** A POST of a JSON body with the given extra header lines. */
export function rawPost(target: string, body: string | Buffer, headers: readonly string[] = []): Buffer {
  const bytes = Buffer.from(body);
  return Buffer.concat([
    Buffer.from(
      `POST ${target} HTTP/1.1\r\nhost: keymeter\r\ncontent-type: application/json\r\ncontent-length: ${bytes.length}\r\n${headers.map((line) => `${line}\r\n`).join("")}\r\n`,
    ),
    bytes,
  ]);
}
