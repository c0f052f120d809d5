// Bodies as they come in: in any pieces they are the same bytes, and whoever breaks off or sends too much leaves
// nothing counted.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { connect } from "node:net";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import { expect, it } from "vitest";
import { createBodies } from "../../proxy/bodies.ts";
import type { Bodies } from "../../proxy/bodies.ts";

const MOST = 16 * 1024 * 1024;

type Taken = Buffer | Error;

/** Sends raw bytes to a server that takes one body in. */
async function take(
  bodies: Bodies,
  send: (socket: ReturnType<typeof connect>) => Promise<void> | void,
): Promise<{ readonly taken: Taken; readonly counted: number; readonly after: number }> {
  let counted = -1;
  const got = Promise.withResolvers<Taken>();
  const server = createServer((request, response) => {
    response.once("close", () => bodies.letGo(request));
    bodies.take(request, "127.0.0.1").then(
      (body) => {
        counted = bodies.bytes();
        response.end();
        got.resolve(body);
      },
      (error: unknown) => {
        counted = bodies.bytes();
        response.writeHead(400).end();
        got.resolve(error as Error);
      },
    );
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  socket.on("error", () => undefined).resume();
  await send(socket);
  const taken = await got.promise;
  socket.destroy();
  server.closeAllConnections();
  await once(server.close(), "close");
  await wait(10);
  return { taken, counted, after: bodies.bytes() };
}

const head = (line: string): string => `POST / HTTP/1.1\r\nhost: a\r\n${line}\r\n\r\n`;

it.each([
  ["in one piece", 2_000, 2_000],
  ["byte by byte", 300, 1],
  ["in pieces of odd sizes", 3_000_000, 70_001],
  ["long, in slices", 13_000_000, 1_000_003],
])("a body %s is what was sent, with a length and without", async (_how, size, piece) => {
  const bodies = createBodies(MOST, 4 * MOST);
  const sent = randomBytes(size);
  const inPieces = async (frame: (one: Buffer) => void): Promise<void> => {
    for (let at = 0; at < size; at += piece) {
      frame(sent.subarray(at, at + piece));
      if (piece === 1 || at % (3 * piece) === 0) await wait(0);
    }
  };
  const stated = await take(bodies, async (socket) => {
    socket.write(head(`content-length: ${size}`));
    await inPieces((one) => socket.write(one));
  });
  const chunked = await take(bodies, async (socket) => {
    socket.write(head("transfer-encoding: chunked"));
    await inPieces((one) => {
      socket.write(`${one.length.toString(16)}\r\n`);
      socket.write(one);
      socket.write("\r\n");
    });
    socket.write("0\r\n\r\n");
  });
  for (const { taken, counted, after } of [stated, chunked]) {
    expect(Buffer.isBuffer(taken) && taken.equals(sent)).toBe(true);
    expect(counted).toBe(size);
    expect(after).toBe(0);
  }
});

it("an empty body is empty", async () => {
  const { taken } = await take(createBodies(MOST, MOST), (socket) => void socket.write(head("content-length: 0")));
  expect(taken).toHaveLength(0);
});

it("who breaks off leaves nothing counted, wherever that is", async () => {
  for (const size of [0, 1, 70_000, 9_000_000]) {
    const bodies = createBodies(MOST, 4 * MOST);
    const { taken, after } = await take(bodies, async (socket) => {
      socket.write(head("content-length: 10000000"));
      socket.write(randomBytes(size));
      await wait(50);
      socket.destroy();
    });
    expect(taken).toBeInstanceOf(Error);
    expect(after).toBe(0);
  }
});

it("what is too large, stated or not, is refused and not counted", async () => {
  const bodies = createBodies(1_000, MOST);
  for (const lines of [
    [head("content-length: 1001")],
    [head("transfer-encoding: chunked"), `3e8\r\n${"a".repeat(1_000)}\r\n`, "1\r\na\r\n"],
  ]) {
    const { taken, counted, after } = await take(bodies, async (socket) => {
      for (const line of lines) {
        socket.write(line);
        await wait(20);
      }
    });
    expect(taken).toMatchObject({ reason: "body_too_large" });
    expect([counted, after]).toEqual([0, 0]);
  }
});
