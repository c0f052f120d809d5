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
      const stated = Number(request.headers["content-length"] ?? 0);
      if (stated > mostBodyBytes) throw tooLarge(mostBodyBytes);
      const one = { address, bytes: 0 };
      taken.set(request, one);
      // Most bodies come in one piece. More of them go into one as they come: to join 60 MB at its end would hold
      // everybody up. What nobody has written yet is no memory yet.
      let body: Buffer = NOTHING;
      let size = 0;
      const tooSlow = setTimeout(() => request.destroy(), MOST_TAKING_MS).unref();
      try {
        await readPieces(request, (piece) => {
          const before = size;
          size += piece.length;
          if (size > mostBodyBytes) throw tooLarge(mostBodyBytes);
          one.bytes = size;
          count(address, piece.length);
          checkRoom(address, size <= SMALL_BYTES);
          if (before === 0) body = piece;
          else if (size <= body.length) piece.copy(body, before);
          else {
            const smaller = body.subarray(0, before);
            body = Buffer.allocUnsafeSlow(Math.max(stated || FIRST_BYTES, body.length * 2, size));
            piece.copy(body, before);
            return copyInSlices(smaller, body);
          }
          return undefined;
        });
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

const NOTHING = Buffer.alloc(0);

/** Gives each piece of a body to `take` as it comes, and stops while that is not done. By events: an iterator costs more
 *  than all of the reading. Rejects with what `take` throws, and when the body breaks off; the rest is then not taken,
 *  and the socket stays, for whoever is refused has to hear it. */
function readPieces(request: IncomingMessage, take: (piece: Buffer) => Promise<void> | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (error?: unknown): void => {
      request.off("data", onPiece).off("end", onEnd).off("error", end).off("close", broken);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onPiece = (piece: Buffer): void => {
      try {
        const taking = take(piece);
        if (!taking) return;
        request.pause();
        taking.then(() => request.resume(), end);
      } catch (error) {
        end(error);
      }
    };
    const broken = (): void => end(new Refused("bad_body", "the body broke off before its end"));
    const onEnd = (): void => (request.complete ? end() : broken());
    request.on("data", onPiece).on("end", onEnd).on("error", end).on("close", broken);
    if (request.destroyed) broken();
  });
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
