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
const NOTHING = Buffer.alloc(0);

/** Puts stars in the place of a secret, as many as it has characters. Undefined: there is none, as of an upstream that
 *  asks for no key. */
export function createMask(secret: string | undefined): Mask | undefined {
  // An empty one would be found everywhere, for ever.
  if (secret === undefined || secret === "") return undefined;
  // Only errors are looked through: most masks never need it.
  let made: Buffer | undefined;
  let waiting: Buffer = NOTHING;
  const cover = (bytes: Buffer): Buffer => {
    const wanted = (made ??= Buffer.from(secret));
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
    text: (given) => (given.includes(secret) ? given.replaceAll(secret, "*".repeat(secret.length)) : given),
    push(chunk) {
      const bytes = cover(waiting.length > 0 ? Buffer.concat([waiting, chunk]) : chunk);
      const keep = Math.min(bytes.length, Buffer.byteLength(secret) - 1);
      waiting = bytes.subarray(bytes.length - keep);
      return keep < bytes.length ? bytes.subarray(0, bytes.length - keep) : undefined;
    },
    end() {
      const rest = waiting;
      waiting = NOTHING;
      return rest;
    },
  };
}
