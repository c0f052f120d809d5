// An answer that came packed though plain was asked for: it passes as it is, and is unpacked beside that for reading.
// Unpacking lags, so the newest chunk waits until the next one comes, and a small whole body until all of it is read.
import type { Transform } from "node:stream";
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress, constants } from "node:zlib";
import { MOST_HELD_BYTES } from "./body.ts";
import type { Meter } from "./frame.ts";

export function createPackedMeter(inner: Meter, contentEncoding: string, isWhole: boolean): Meter {
  const unpack = UNPACKERS[contentEncoding]?.();
  const packed: Buffer[] = [];
  let size = 0;
  let unpacked = 0;
  let isBroken = unpack === undefined;
  unpack?.on("data", (piece: Buffer) => {
    unpacked += piece.length;
    if (unpacked > MOST_UNPACKED_BYTES) unpack.destroy(new Error("it unpacks to more than any answer"));
    else inner.push(piece);
  });
  unpack?.on("error", () => (isBroken = true));
  return {
    push(chunk) {
      if (!isBroken) unpack?.write(chunk);
      size += chunk.length;
      packed.push(chunk);
      if (isWhole && size <= MOST_HELD_BYTES) return undefined;
      const out = Buffer.concat(packed.splice(0, packed.length - 1));
      return out.length > 0 ? out : undefined;
    },
    takeHeld: () => packed.splice(0),
    flush: () =>
      new Promise<void>((resolve) => {
        if (!unpack || isBroken) return resolve();
        unpack.once("close", () => resolve());
        unpack.end();
      }).then(() => inner.flush?.()),
    isFinishing: () => inner.isFinishing?.() ?? false,
    isOver: () => inner.isOver?.() ?? false,
    // What is damaged is read as far as it goes, like what is cut.
    reading: () => inner.reading(),
    soFar: () => inner.soFar(),
    seen() {
      const seen = inner.seen();
      return { ...seen, isPartial: isBroken || seen.isPartial };
    },
  };
}

const UNPACKERS: { readonly [encoding: string]: () => Transform } = {
  // What is cut short is unpacked as far as it goes, however it came.
  gzip: () => createGunzip({ finishFlush: constants.Z_SYNC_FLUSH }),
  "x-gzip": () => createGunzip({ finishFlush: constants.Z_SYNC_FLUSH }),
  deflate: () => createInflate({ finishFlush: constants.Z_SYNC_FLUSH }),
  br: () => createBrotliDecompress({ finishFlush: constants.BROTLI_OPERATION_FLUSH }),
  zstd: () => createZstdDecompress({ finishFlush: constants.ZSTD_e_flush }),
};
const MOST_UNPACKED_BYTES = 1024 * 1024 * 1024;
