// What a browser sees that opens the proxy's address: what this is, and where SDKs are pointed.
import type { IncomingMessage, ServerResponse } from "node:http";
import { exportsOf } from "../service/base-urls.ts";

/** The address itself, and the base URLs, with or without a slash at their end: no provider has anything to read
 *  there. */
const BASE = /^\/((openai|anthropic|google|gemini|genai|vertex|azure)(\/v1\w*)?\/?)?$/;

/** Answers GET and HEAD of the address and of base URLs. Returns whether it did. Nothing in it is secret: no key is
 *  needed. */
export function answerFront(request: IncomingMessage, response: ServerResponse): boolean {
  const path = (request.url ?? "").split("?")[0] ?? "";
  if ((request.method !== "GET" && request.method !== "HEAD") || !BASE.test(path)) return false;
  const { host } = request.headers;
  const isSafe = host !== undefined && /^[\w.:[\]-]+$/.test(host);
  const body = frontText(`${"encrypted" in request.socket ? "https" : "http"}://${isSafe ? host : "HOST"}`);
  response.writeHead(200, {
    "content-type": "text/plain; charset=utf-8",
    "cache-control": "no-store",
    "content-length": Buffer.byteLength(body),
  });
  response.end(request.method === "HEAD" ? undefined : body);
  return true;
}

function frontText(base: string): string {
  return `This is Keymeter: it meters and caps the use of AI API keys. Point an SDK here and use it as before:

${exportsOf(base)}
Use a Keymeter key (km_...) or your provider key. What a key has spent and has left:

  curl -H "Authorization: Bearer KEY" ${base}/keymeter/me
`;
}
