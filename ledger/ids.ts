// Attempt ids: one number a dispatch upstream, made before the first byte. An id is its instant (milliseconds since
// 2020) and a sequence of 4,096 a millisecond, so ids grow with time, rows append, and an event's instant can never
// differ from its reservation's. Safe integers until 2089.
import { randomUUID } from "node:crypto";

const EPOCH_MS = 1_577_836_800_000;
const PER_MS = 4_096;

export type AttemptId = number;

/** Of several nodes each makes the ids whose low bits are its own: 16 a millisecond, and then ids that are a little ahead. */
const NODES = 256;

/** Makes ids that never repeat nor go back. `last` is the largest id in the books, or the largest that does not lie
 *  ahead of a clock that was accepted; `taken` are those that do. `node`: which of several makes them. */
export function createAttemptIds(
  last: AttemptId,
  now: () => number,
  taken: Iterable<AttemptId> = [],
  node: () => number | undefined = () => undefined,
): () => AttemptId {
  let previous = last;
  const ahead = new Set(taken);
  return () => {
    previous = Math.max(previous + 1, firstAttemptId(now()));
    const own = node();
    if (own !== undefined) previous += (own - (previous % NODES) + NODES) % NODES;
    while (ahead.has(previous)) previous += own === undefined ? 1 : NODES;
    return previous;
  };
}

/** The instant of an attempt: the moment of its reservation, in UTC milliseconds. */
export function attemptAtMs(id: AttemptId): number {
  return Math.floor(id / PER_MS) + EPOCH_MS;
}

/** The smallest id that an instant can have: `[firstAttemptId(a), firstAttemptId(b))` are the attempts of `[a, b)`. */
export function firstAttemptId(atMs: number): AttemptId {
  return Math.max(0, Math.floor(atMs) - EPOCH_MS) * PER_MS;
}

/** As people and logs see it: `x-keymeter-request-id`. */
export function formatRequestId(id: AttemptId): string {
  return `req_km_${id}`;
}

/** An id in that form for an answer behind which no attempt stands: a refusal, or what passes unmetered. Only the log
 *  knows it; it is no number, so that nobody takes it for an attempt's. */
export function createAnswerId(): string {
  return `req_km_r${randomUUID().replaceAll("-", "")}`;
}

export function formatAttemptId(id: AttemptId): string {
  return `att_${id}`;
}

/** The id behind that form. */
export function readAttemptId(text: string): AttemptId {
  return Number(text.slice("att_".length));
}

export function isAttemptId(text: string): boolean {
  return /^att_\d{1,16}$/.test(text);
}
