// The WebSocket to a provider: opened while the client's handshake waits, with no answer to the client before the
// provider's is known.
import type { Duplex } from "node:stream";
import { WebSocket } from "ws";
import type { ProxyContext } from "./context.ts";
import { isKeyProtocol } from "./credential.ts";
import type { Target } from "./target.ts";

const SECOND = 1000;
const MOST_ANSWER_BYTES = 64 * 1024 * 1024;
const MOST_ERROR_BYTES = 64 * 1024;

export type Connected =
  | { readonly kind: "open"; readonly socket: WebSocket }
  /** `ended`: the provider said no, with a status. */
  | {
      readonly kind: "ended" | "unreachable";
      readonly status: number | undefined;
      readonly headers: readonly string[];
      readonly body: Buffer;
    };

/** Never rejects. A client that goes meanwhile ends it. */
export function connect(
  context: Pick<ProxyContext, "config" | "log">,
  { provider, upstreamPath, query, dialect }: Target,
  headers: readonly string[],
  protocols: readonly string[],
  client: Duplex,
): Promise<Connected> {
  const named = Object.create(null) as { [name: string]: string[] };
  for (let i = 0; i + 1 < headers.length; i += 2) {
    const name = headers[i] as string;
    if (!name.startsWith("sec-websocket-") && name !== "accept-encoding")
      (named[name] ??= []).push(headers[i + 1] as string);
  }
  const socket = new WebSocket(
    provider.origin.replace(/^http/, "ws") + upstreamPath + query,
    protocols.filter((protocol) => !isKeyProtocol(protocol)),
    {
      headers: named as unknown as { [name: string]: string },
      perMessageDeflate: false,
      followRedirects: false,
      handshakeTimeout: context.config.connectSeconds * SECOND * 2,
      maxPayload: MOST_ANSWER_BYTES,
    },
  );
  // A client that gives up is not connected for.
  const giveUp = (): void => socket.terminate();
  client.once("close", giveUp);
  return new Promise<Connected>((resolve) => {
    if (client.destroyed) giveUp();
    socket.once("open", () => {
      // What the provider says waits until somebody listens.
      socket.pause();
      resolve({ kind: "open", socket });
    });
    socket.once("unexpected-response", (_request, response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on("data", (chunk: Buffer) => {
        size += chunk.length;
        if (size <= MOST_ERROR_BYTES) chunks.push(chunk);
        else response.destroy();
      });
      response.once("close", () => {
        const status = response.statusCode ?? 502;
        const type = response.headers["content-type"] ?? "application/json";
        resolve({ kind: "ended", status, headers: ["content-type", type], body: Buffer.concat(chunks) });
      });
    });
    socket.once("error", (error) => {
      context.log.warn({ provider: provider.name, err: error }, "no WebSocket to the provider");
      const message = "Keymeter: the provider could not be reached";
      const { body } = dialect.refusal({ kind: "upstream", status: 502, message }, "", "");
      const headersOut = ["content-type", "application/json"];
      resolve({ kind: "unreachable", status: undefined, headers: headersOut, body: Buffer.from(body) });
    });
  }).finally(() => client.removeListener("close", giveUp));
}
