// The tap: bytes pass to the client unchanged, and the same bytes go to the dialect's usage reader. Works on any cut
// into chunks, holds a bounded carry, never throws, and never changes a byte but for the one event it was told to hide.
import type { Call } from "./dialects/call.ts";
import type { Dialect } from "./dialects/dialect.ts";
import { BODY } from "./frames/body.ts";
import { EVENTS } from "./frames/events.ts";
import type { Frame, Meter } from "./frames/frame.ts";
import { LINES } from "./frames/lines.ts";
import { createPackedMeter } from "./frames/packed.ts";
import { UNSAID } from "./frames/unsaid.ts";
import type { Readers } from "./readers.ts";

export type { Meter, Seen } from "./frames/frame.ts";

/** The first that fits is taken. */
const FRAMES: readonly Frame[] = [EVENTS, LINES, BODY, UNSAID];

/** Picks the frame by the answer's content type. What is packed is unpacked beside its way. */
export function createMeter(
  dialect: Dialect,
  call: Call,
  hides: boolean,
  contentType: string,
  contentEncoding = "",
  readers?: Readers,
): Meter {
  const frame = FRAMES.find((one) => one.fits(contentType, call)) ?? UNSAID;
  if (contentEncoding === "" || contentEncoding === "identity") return frame.create({ dialect, call, hides, readers });
  const isWhole = frame !== EVENTS && !call.stream;
  return createPackedMeter(frame.create({ dialect, call, hides: false, readers }), contentEncoding, isWhole);
}
