// The same code with metering off: fastify, headers, forwarder; no gate's reading of the body, no reservation, no
// meter, no books. What the full product is held against.
import Fastify from "fastify";
import { loadProxyConfig } from "../proxy/config.ts";
import { createForwarder } from "../proxy/forward.ts";
import { outgoingHeaders } from "../proxy/headers.ts";
import { checkCredential, findCredentials } from "../proxy/credential.ts";
import { readTarget, resolveTarget } from "../proxy/target.ts";
import type { Meter } from "../proxy/meter.ts";
import { createProviders } from "../proxy/providers/index.ts";

const config = loadProxyConfig();
const providers = createProviders(config);
const forwarder = createForwarder({ connectMs: 5_000, headersMs: 600_000, idleMs: 300_000, totalMs: 3_600_000 });
const app = Fastify({ logger: false, bodyLimit: config.mostBodyBytes });
app.removeAllContentTypeParsers();
app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

function nothingRead(): never {
  throw new Error("nothing was read");
}

/** Holds a JSON answer for one write, as the product does, and reads nothing. */
function createHolder(stream: boolean): Meter {
  const held: Buffer[] = [];
  return {
    push: (chunk) => (stream ? chunk : void held.push(chunk)),
    takeHeld: () => held.splice(0),
    reading: nothingRead,
    soFar: nothingRead,
    seen: () => ({ events: 0, tokens: 0, isPartial: true }),
  };
}

app.all("/*", async (request, reply) => {
  reply.hijack();
  const { path, query } = readTarget(request.raw.url ?? "");
  const { holder: found } = findCredentials(request.raw, query);
  const target = resolveTarget(providers, request.raw, path, query);
  const credential = checkCredential(found, target?.provider);
  if (!target) throw new Error("no target");
  const exchange = forwarder.exchange(
    {
      provider: target.provider,
      method: "POST",
      path: target.upstreamPath,
      headers: outgoingHeaders(request.raw, target.credentialHeader, credential, undefined),
      body: request.body as Buffer,
    },
    reply.raw,
    (_status, contentType) => createHolder(contentType.includes("event-stream")),
    { stream: false, requestId: "bench", headers: [] },
  );
  await exchange.ending;
  exchange.release([]);
});
await app.listen({ host: "127.0.0.1", port: config.proxyPort });
process.send?.({ port: (app.server.address() as { port: number }).port });
process.on("SIGINT", () => process.exit(0));
