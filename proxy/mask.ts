// A credential of ours that a provider repeats, in an error or a header, is for nobody to see.

export type Mask = {
  text(given: string): string;
  /** Of bytes that come at once. */
  whole(bytes: Buffer): Buffer;
  /** Bytes that may go on; what could be the beginning of the credential waits for the next piece. */
  push(chunk: Buffer): Buffer | undefined;
  /** What waited. */
  end(): Buffer;
};

const STAR = 0x2a;

/** Puts stars in the place of a secret, as many as it has characters. Undefined: there is none, as of an upstream that
 *  asks for no key. */
export function createMask(secret: string | undefined): Mask | undefined {
  // An empty one would be found everywhere, for ever.
  if (secret === undefined || secret === "") return undefined;
  const wanted = Buffer.from(secret);
  let waiting: Buffer = Buffer.alloc(0);
  const cover = (bytes: Buffer): Buffer => {
    let covered = bytes;
    for (let at = bytes.indexOf(wanted); at >= 0; at = bytes.indexOf(wanted, at + wanted.length)) {
      // What is read elsewhere keeps its bytes.
      if (covered === bytes) covered = Buffer.from(bytes);
      covered.fill(STAR, at, at + wanted.length);
    }
    return covered;
  };
  return {
    whole: cover,
    text: (given) => given.replaceAll(secret, "*".repeat(secret.length)),
    push(chunk) {
      const bytes = cover(waiting.length > 0 ? Buffer.concat([waiting, chunk]) : chunk);
      const keep = Math.min(bytes.length, wanted.length - 1);
      waiting = bytes.subarray(bytes.length - keep);
      return keep < bytes.length ? bytes.subarray(0, bytes.length - keep) : undefined;
    },
    end() {
      const rest = waiting;
      waiting = Buffer.alloc(0);
      return rest;
    },
  };
}
