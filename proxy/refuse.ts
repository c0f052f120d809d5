// The one place where a client is told no: the refusal is counted, put into the client's own dialect, and answered.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { createAnswerId } from "../ledger/ids.ts";
import type { ProxyContext } from "./context.ts";
import type { Dialect } from "./dialects/dialect.ts";
import type { Refusal } from "./dialects/refusal.ts";
import { guessDialect } from "./target.ts";
import { Refused } from "./refusals.ts";

// Not imported: an import of node:http also loads the WebSocket and fetch of Node, which take 13 MB.
const { STATUS_CODES } = process.getBuiltinModule("node:http");

type Refusing = Pick<ProxyContext, "config" | "log" | "metrics" | "writer">;
type Rendered = { readonly status: number; readonly headers: readonly string[]; readonly body: string };

/** How long a client that still sends is read, so that it hears why. */
const MOST_LINGER_MS = 5_000;

const OUR_ERROR: Refusal = {
  kind: "unavailable",
  status: 500,
  message: "Keymeter: an error of ours; nothing more is known to the client than this id",
};

/** Counts what was refused, or writes into the log what broke, and says it in the dialect's words. */
export function renderRefused(
  context: Refusing,
  error: unknown,
  dialect: Dialect,
  userAgent: string | undefined,
  isCounted = true,
): Rendered {
  const requestId = createAnswerId();
  const isRefused = error instanceof Refused;
  if (!isRefused) context.log.error({ requestId, err: error }, "request failed");
  else if (isCounted) countRefused(context, error);
  const refusal = isRefused ? addressed(context, error.refusal) : OUR_ERROR;
  const { status, headers, body } = dialect.refusal(refusal, requestId, userAgent ?? "");
  return {
    status,
    headers: [
      "content-type",
      "application/json",
      "x-keymeter-request-id",
      requestId,
      ...(isRefused ? error.headers : []),
      ...headers,
    ].map((text) => text.replace(/[^\x20-\x7e]/g, "?")),
    body,
  };
}

/** Into the metrics, and into the books where the ledger has not put it there itself. */
export function countRefused(context: Pick<ProxyContext, "metrics" | "writer">, { reason, isOfBudget }: Refused): void {
  context.metrics.countRefused(reason);
  if (!isOfBudget) context.writer.countRefused("", "", reason);
}

/** Names whom to ask, where the settings say who that is. */
export function addressed({ config }: Pick<ProxyContext, "config">, refusal: Refusal): Refusal {
  const { contact } = config;
  return contact === undefined
    ? refusal
    : { ...refusal, message: refusal.message.replace(/whoever runs Keymeter/gi, () => contact) };
}

/** Answers a request that is refused. A client that still sends its body is read on for a while: to hang up would take
 *  the answer away from it. */
export function answerRefused(
  context: Refusing & Pick<ProxyContext, "providers">,
  request: IncomingMessage,
  response: ServerResponse,
  error: unknown,
  dialect = guessDialect(context.providers, request.url ?? "/"),
): void {
  // Claude Code asks without a key whether somebody is there: that is no refusal to count.
  const isProbe = request.method === "HEAD" && error instanceof Refused && error.reason === "no_credential";
  const { status, headers, body } = renderRefused(context, error, dialect, request.headers["user-agent"], !isProbe);
  if (response.destroyed) return;
  if (response.headersSent) return void response.destroy();
  const isRead = request.complete;
  // A body that was not read to its end would be taken for the next request.
  const hangUp = isRead ? [] : ["connection", "close"];
  response.writeHead(status, [...headers, ...hangUp, "content-length", String(Buffer.byteLength(body))]);
  if (request.method === "HEAD") return void response.end();
  if (isRead) return void response.end(body);
  response.write(body);
  const end = (): void => void response.end();
  const timer = setTimeout(end, MOST_LINGER_MS).unref();
  request.once("end", end).once("close", () => clearTimeout(timer));
  request.resume();
}

/** An HTTP answer on a bare socket: to a handshake that comes to nothing, and to what is no request. */
export function answerSocket(socket: Duplex, status: number, headers: readonly string[], body: Buffer): void {
  if (socket.destroyed) return;
  const lines = [`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Refused"}`];
  for (let i = 0; i + 1 < headers.length; i += 2)
    lines.push(`${headers[i]}: ${(headers[i + 1] as string).replace(/[\r\n]/g, " ")}`);
  lines.push("connection: close", `content-length: ${body.length}`, "", "");
  // A client that does not hang up is not waited for.
  setTimeout(() => socket.destroy(), MOST_LINGER_MS).unref();
  socket.end(Buffer.concat([Buffer.from(lines.join("\r\n"), "latin1"), body]));
}
