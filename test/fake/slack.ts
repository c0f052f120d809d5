// Slack's Web API on loopback: holds the messages that stand in its channel, counts calls, and fails as told.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

type SlackCall = {
  readonly method: string;
  readonly text: string;
  readonly blocks: unknown;
  readonly ts: string | null;
};
type Failure = {
  readonly status?: number;
  readonly error?: string;
  readonly retryAfter?: number;
  readonly hang?: boolean;
};

export type FakeSlack = {
  readonly url: string;
  readonly calls: readonly SlackCall[];
  /** What stands in the channel now, by message id. */
  readonly messages: ReadonlyMap<string, string>;
  /** The next calls fail like these, one after the other. */
  readonly failures: Failure[];
  close(): Promise<void>;
};

export async function startFakeSlack(): Promise<FakeSlack> {
  const calls: SlackCall[] = [];
  const messages = new Map<string, string>();
  const failures: Failure[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const form = new URLSearchParams(Buffer.concat(chunks).toString("utf8"));
      const failure = failures.shift();
      if (failure?.hang) return;
      if (failure?.retryAfter !== undefined)
        return void response.writeHead(429, { "retry-after": String(failure.retryAfter) }).end();
      if (failure?.status !== undefined) return void response.writeHead(failure.status).end();
      const reply = (body: object): void =>
        void response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
      if (failure?.error !== undefined) return reply({ ok: false, error: failure.error });
      if (request.headers.authorization !== "Bearer xoxb-test") return reply({ ok: false, error: "invalid_auth" });
      const method = (request.url ?? "").split("/").at(-1) ?? "";
      const ts = form.get("ts");
      calls.push({ method, text: form.get("text") ?? "", blocks: JSON.parse(form.get("blocks") ?? "[]"), ts });
      if (method === "chat.update" && (ts === null || !messages.has(ts)))
        return reply({ ok: false, error: "message_not_found" });
      const id = method === "chat.update" && ts !== null ? ts : `1700000000.${String(messages.size).padStart(6, "0")}`;
      messages.set(id, form.get("text") ?? "");
      reply({ ok: true, channel: "C0TEST", ts: id });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/`,
    calls,
    messages,
    failures,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
