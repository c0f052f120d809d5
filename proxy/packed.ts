// Packed request bodies: unpacked to be read, and forwarded as they came. How much comes out is bounded, and nothing
// may stand behind the end of what was packed: another reader could take it for more of the body.
import { promisify } from "node:util";
import { brotliDecompress, gunzip, inflate, zstdDecompress } from "node:zlib";
import type { InputType, ZlibOptions } from "node:zlib";
import { Refused } from "./refusals.ts";

type Unpacked = { readonly buffer: Buffer; readonly engine: { readonly bytesWritten: number } };
type Unpack = (body: InputType, options: ZlibOptions & { info: true }) => Promise<Unpacked>;

/** By the token of content-encoding, RFC 9110 section 8.4.1 and RFC 8878. */
const UNPACKERS = new Map<string, Unpack>(
  Object.entries({
    gzip: gunzip,
    "x-gzip": gunzip,
    deflate: inflate,
    br: brotliDecompress,
    zstd: zstdDecompress,
  }).map(([name, unpack]) => [name, promisify<InputType, ZlibOptions & { info: true }, Unpacked>(unpack as never)]),
);

/** The encodings that are read, for messages. */
const ENCODINGS: readonly string[] = [...UNPACKERS.keys()];

/** Whether a body comes packed. Throws Refused for a packing that cannot be read. */
export function isPacked(contentEncoding: string | undefined): boolean {
  if (contentEncoding === undefined || contentEncoding.toLowerCase() === "identity") return false;
  if (UNPACKERS.has(contentEncoding.toLowerCase())) return true;
  throw new Refused(
    "unsupported_media",
    `a request body with content-encoding "${contentEncoding.slice(0, 40)}" cannot be read; send it plain, or packed once as ${ENCODINGS.join(", ")}`,
  );
}

/** Unpacks a body to at most `mostBytes`. Throws Refused for more, and for what is no such body. */
export async function unpack(contentEncoding: string, body: Buffer, mostBytes: number): Promise<Buffer> {
  const run = UNPACKERS.get(contentEncoding.toLowerCase());
  if (!run) throw new Error(`"${contentEncoding}" is no packing that isPacked accepts`);
  let unpacked: Unpacked;
  try {
    unpacked = await run(body, { maxOutputLength: mostBytes, info: true });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE")
      throw new Refused(
        "body_too_large",
        `the body is larger than ${mostBytes} bytes when it is unpacked; proxy.max_body_mb sets the limit`,
      );
    throw new Refused("bad_body", `the body is not the ${contentEncoding} that its content-encoding says`);
  }
  if (unpacked.engine.bytesWritten !== body.length)
    throw new Refused("bad_body", `bytes stand behind the end of the ${contentEncoding} body`);
  return unpacked.buffer;
}
