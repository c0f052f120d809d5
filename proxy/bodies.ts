// Bodies in memory: they are taken in only up to a limit, in all and for each address, so that nobody fills the machine
// for everybody.
import type { IncomingMessage } from "node:http";
import { setImmediate as nextTurn } from "node:timers/promises";
import { isPacked, unpack } from "./packed.ts";
import { Refused } from "./refusals.ts";

export type Bodies = {
  /** Takes a body in whole. It counts until it is let go. Throws Refused when it is too large, or too much is in
   *  flight. */
  take(request: IncomingMessage, address: string): Promise<Buffer>;
  /** Unpacks a body that was taken in; what comes out counts too. Throws Refused as `take` does. */
  unpack(request: IncomingMessage, body: Buffer): Promise<Buffer>;
  /** Its answer is over. */
  letGo(request: IncomingMessage): void;
  /** Bytes in flight. */
  bytes(): number;
};

/** Whoever sends slower than this is not waited for. */
const MOST_TAKING_MS = 300_000;
/** Where no length is stated. */
const FIRST_BYTES = 64 * 1024;
/** As much is copied in a turn: a few milliseconds. */
const SLICE_BYTES = 4 * 1024 * 1024;
/** A body up to this size is taken in also when there is no room: others' large ones are not its fault. */
const SMALL_BYTES = 64 * 1024;
/** Small ones too have an end: many of one address must leave room for the others. */
const SMALL_ROOM = 1.5;
/** One address gets at most this part of the room, but always one body of the largest size. */
const SHARE_OF_ONE = 2;

export function createBodies(mostBodyBytes: number, mostBytes: number): Bodies {
  let inFlight = 0;
  const byAddress = new Map<string, number>();
  const taken = new WeakMap<IncomingMessage, { readonly address: string; bytes: number }>();
  const mostOfOne = Math.max(mostBytes / SHARE_OF_ONE, mostBodyBytes);

  const checkRoom = (address: string, isSmall: boolean): void => {
    const ofAddress = byAddress.get(address) ?? 0;
    if ((!isSmall && inFlight > mostBytes) || ofAddress > mostOfOne * (isSmall ? SMALL_ROOM : 1))
      throw new Refused(
        "busy",
        "more bytes of requests are in flight than this Keymeter takes in at once (proxy.max_bodies_mb); try again shortly",
        { headers: ["retry-after", "1"] },
      );
  };

  const count = (address: string, bytes: number): void => {
    inFlight += bytes;
    const ofOne = (byAddress.get(address) ?? 0) + bytes;
    if (ofOne > 0) byAddress.set(address, ofOne);
    else byAddress.delete(address);
  };

  return {
    bytes: () => inFlight,
    letGo(request) {
      const one = taken.get(request);
      if (!one) return;
      count(one.address, -one.bytes);
      one.bytes = 0;
    },
    async unpack(request, body) {
      const encoding = request.headers["content-encoding"];
      if (encoding === undefined || !isPacked(encoding)) return body;
      const plain = await unpack(encoding, body, mostBodyBytes);
      const one = taken.get(request);
      if (one) {
        one.bytes += plain.length;
        count(one.address, plain.length);
        checkRoom(one.address, plain.length <= SMALL_BYTES);
      }
      return plain;
    },
    async take(request, address) {
      if (Number(request.headers["content-length"] ?? 0) > mostBodyBytes) throw tooLarge(mostBodyBytes);
      const stated = Number(request.headers["content-length"] ?? 0);
      // Into one piece as it comes: to join 60 MB at its end would hold everybody up. What nobody has written yet is no
      // memory yet.
      let body = Buffer.allocUnsafeSlow(Number.isSafeInteger(stated) && stated > 0 ? stated : FIRST_BYTES);
      let size = 0;
      const one = { address, bytes: 0 };
      taken.set(request, one);
      const tooSlow = setTimeout(() => request.destroy(), MOST_TAKING_MS).unref();
      try {
        // Whoever is refused has to hear it: the socket stays.
        for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
          if (size + chunk.length > mostBodyBytes) throw tooLarge(mostBodyBytes);
          if (size + chunk.length > body.length) {
            const larger = Buffer.allocUnsafeSlow(Math.max(body.length * 2, size + chunk.length));
            await copyInSlices(body.subarray(0, size), larger);
            body = larger;
          }
          chunk.copy(body, size);
          size += chunk.length;
          one.bytes = size;
          count(address, chunk.length);
          checkRoom(address, size <= SMALL_BYTES);
        }
        if (!request.complete) throw new Refused("bad_body", "the body broke off before its end");
      } catch (error) {
        // Its bytes are gone, whenever its socket closes.
        count(address, -one.bytes);
        one.bytes = 0;
        throw error;
      } finally {
        clearTimeout(tooSlow);
      }
      return size === body.length ? body : body.subarray(0, size);
    },
  };
}

/** Pieces as one, in memory of its own, without holding anybody up. */
export async function joined(pieces: readonly Buffer[]): Promise<Buffer> {
  const whole = Buffer.allocUnsafeSlow(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  let copied = 0;
  for (const piece of pieces) {
    await copyInSlices(piece, whole, at);
    at += piece.length;
    copied += piece.length;
    if (copied < SLICE_BYTES) continue;
    copied = 0;
    await nextTurn();
  }
  return whole;
}

async function copyInSlices(from: Buffer, to: Buffer, at = 0): Promise<void> {
  for (let start = 0; start < from.length; start += SLICE_BYTES) {
    if (start > 0) await nextTurn();
    from.copy(to, at + start, start, Math.min(start + SLICE_BYTES, from.length));
  }
}

function tooLarge(mostBodyBytes: number): Refused {
  return new Refused(
    "body_too_large",
    `the body is larger than ${mostBodyBytes} bytes; proxy.max_body_mb sets the limit`,
  );
}
