// Pages in a browser that call the proxy: those of the origins that a setting names may, all others hear why not.
// Source: fetch.spec.whatwg.org, section "CORS protocol".
import type { IncomingMessage, ServerResponse } from "node:http";
import { Refused } from "./refusals.ts";

const PREFLIGHT_SECONDS = "7200";

/** Lets a page of an allowed origin read the answer, and answers its preflight. Returns whether the request is answered
 *  with that. Throws Refused for the preflight of another origin. */
export function answerCors(
  origins: readonly string[],
  { method, headers }: IncomingMessage,
  response: ServerResponse,
): boolean {
  const { origin } = headers;
  if (origin === undefined) return false;
  const isAllowed = origins.includes("*") || origins.includes(origin);
  if (isAllowed) {
    response.setHeader("access-control-allow-origin", origin);
    response.setHeader("access-control-expose-headers", "*");
    response.setHeader("vary", "origin");
  }
  if (method !== "OPTIONS" || headers["access-control-request-method"] === undefined) return false;
  if (!isAllowed)
    throw new Refused(
      "not_allowed",
      `pages of ${origin.slice(0, 200)} may not call from a browser; whoever runs Keymeter adds that origin to proxy.cors_origins`,
    );
  response.writeHead(204, {
    "access-control-allow-methods": "GET, POST, PATCH, DELETE",
    "access-control-allow-headers": headers["access-control-request-headers"] ?? "",
    "access-control-max-age": PREFLIGHT_SECONDS,
    ...(headers["access-control-request-private-network"] === "true"
      ? { "access-control-allow-private-network": "true" }
      : {}),
  });
  response.end();
  return true;
}
