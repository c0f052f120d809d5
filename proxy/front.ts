// What a browser sees that opens the proxy's address: what this is, and where SDKs are pointed.
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { exportsOf } from "../service/base-urls.ts";

/** The address itself, and the base URLs, with or without a slash at their end: no provider has anything to read
 *  there. */
const BASE = /^\/((openai|anthropic|google|gemini|genai|vertex|azure)(\/v1\w*)?\/?)?$/;

/** The page of a key's holder, and what it needs: the same for everybody, so no key is needed for it. */
const HOLDER_PAGE: ReadonlyMap<string, { readonly type: string; readonly body: Buffer }> = new Map(
  (
    [
      ["/keymeter", "page.html", "text/html"],
      ["/keymeter/", "page.html", "text/html"],
      ["/keymeter/page.css", "page.css", "text/css"],
      ["/keymeter/page.js", "page.js", "text/javascript"],
    ] as const
  ).map(([path, file, type]) => [
    path,
    { type: `${type}; charset=utf-8`, body: readFileSync(new URL(`holder-page/${file}`, import.meta.url)) },
  ]),
);
/** It runs its own script, asks this address alone, and is shown in no frame. */
const HOLDER_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/** Answers GET and HEAD of the address and of base URLs, and the page of a key's holder. Returns whether it did. Nothing in it is secret: no key is
 *  needed. */
export function answerFront(request: IncomingMessage, response: ServerResponse): boolean {
  const path = (request.url ?? "").split("?")[0] ?? "";
  if (request.method !== "GET" && request.method !== "HEAD") return false;
  const page = HOLDER_PAGE.get(path);
  if (page) {
    response.writeHead(200, {
      "content-type": page.type,
      "content-length": page.body.length,
      "cache-control": "no-cache",
      "content-security-policy": HOLDER_POLICY,
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
    });
    response.end(request.method === "HEAD" ? undefined : page.body);
    return true;
  }
  if (!BASE.test(path)) return false;
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
  ${base}/keymeter in a browser
`;
}
