// The trace that a request belongs to, where its client says one (W3C Trace Context). The header itself goes on as it came.
import type { IncomingHttpHeaders } from "node:http";

const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const NONE = /^0+$/;

/** "TRACE-SPAN-FLAGS" in hex; undefined: none, or none that the standard allows. */
export function readTrace({ traceparent }: IncomingHttpHeaders): string | undefined {
  if (typeof traceparent !== "string" || traceparent.startsWith("ff")) return undefined;
  const [, trace = "", span = "", flags = "", more] = TRACEPARENT.exec(traceparent) ?? [];
  // Of version 0 nothing comes after the flags.
  if (trace === "" || NONE.test(trace) || NONE.test(span) || (more !== undefined && traceparent.startsWith("00")))
    return undefined;
  return `${trace}-${span}-${flags}`;
}
