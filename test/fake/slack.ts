// Slack's Web API and Socket Mode on loopback: keeps the messages of its channels, threads, files and metadata, counts
// calls, has Slack's limits, and fails as told. Its journal is what a test counts by.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";

type SlackCall = {
  readonly method: string;
  readonly channel: string;
  readonly text: string;
  readonly blocks: unknown;
  readonly ts: string | null;
  readonly threadTs: string | null;
  readonly atMs: number;
};
type Failure = {
  readonly status?: number;
  readonly error?: string;
  readonly retryAfter?: number;
  readonly hang?: boolean;
  /** Slack takes it, and the answer gets lost. */
  readonly isTaken?: boolean;
  /** Only calls of this method. */
  readonly method?: string;
};
type Posted = {
  readonly channel: string;
  readonly ts: string;
  readonly threadTs: string | undefined;
  text: string;
  readonly metadata: unknown;
  readonly file: { readonly name: string; readonly bytes: Buffer } | undefined;
};

export type FakeSlack = {
  readonly url: string;
  readonly calls: readonly SlackCall[];
  /** What stands in channels now, by message id; not what stands in threads. */
  readonly messages: ReadonlyMap<string, string>;
  /** All there is, threads and files too. */
  readonly posted: readonly Posted[];
  /** The next calls fail like these, one after the other. */
  readonly failures: Failure[];
  /** Calls while this is set get it. */
  outage: Failure | undefined;
  /** Channels that do not take messages, and why. */
  readonly closed: Map<string, string>;
  /** What the token may do. */
  scopes: string[];
  /** Whether Slack's limit holds: a message a second in a channel, and some in a burst. */
  hasLimit: boolean;
  /** Calls that Slack had to refuse because they came too fast. */
  limited: number;
  /** Programs that listen to buttons now. */
  listening(): number;
  /** Presses a button, as somebody in Slack. */
  press(action: string, value: string, user: { id: string; name: string }): void;
  close(): Promise<void>;
};

/** A message a second in a channel, with some to spare in a burst. */
const BURST = 5;

export async function startFakeSlack(): Promise<FakeSlack> {
  const calls: SlackCall[] = [];
  const messages = new Map<string, string>();
  const posted: Posted[] = [];
  const uploads = new Map<string, { name: string; bytes: Buffer }>();
  const rates = new Map<string, { tokens: number; atMs: number }>();
  const listeners = new Set<WebSocket>();
  const fake: Omit<FakeSlack, "url" | "close"> = {
    calls,
    messages,
    posted,
    failures: [],
    outage: undefined,
    closed: new Map(),
    scopes: ["chat:write", "files:write", "channels:history"],
    hasLimit: false,
    limited: 0,
    listening: () => listeners.size,
    press(action, value, user) {
      const payload = { type: "block_actions", user, actions: [{ type: "button", action_id: action, value }] };
      for (const socket of listeners)
        socket.send(
          JSON.stringify({
            envelope_id: `e${calls.length}`,
            type: "interactive",
            payload,
            accepts_response_payload: false,
          }),
        );
    },
  };
  const mayPost = (channel: string): boolean => {
    const now = Date.now();
    const rate = rates.get(channel) ?? { tokens: BURST, atMs: now };
    rate.tokens = Math.min(BURST, rate.tokens + (now - rate.atMs) / 1000);
    rate.atMs = now;
    rates.set(channel, rate);
    if (rate.tokens < 1) return false;
    rate.tokens -= 1;
    return true;
  };
  const put = (form: URLSearchParams, file?: Posted["file"]): Posted => {
    const channel = form.get("channel") ?? form.get("channel_id") ?? "";
    const one: Posted = {
      channel: channel.startsWith("#") ? "C0TEST" : channel,
      ts: `${Math.floor(Date.now() / 1000)}.${String(posted.length).padStart(6, "0")}`,
      threadTs: form.get("thread_ts") ?? undefined,
      text: form.get("text") ?? "",
      metadata: JSON.parse(form.get("metadata") ?? "null"),
      file,
    };
    posted.push(one);
    if (one.threadTs === undefined || form.get("reply_broadcast") === "true") messages.set(one.ts, one.text);
    return one;
  };
  const asMessage = ({ ts, text, metadata, file }: Posted): object => ({
    ts,
    text,
    ...(metadata === null ? {} : { metadata }),
    ...(file ? { files: [{ name: file.name }] } : {}),
  });

  const answer = (method: string, form: URLSearchParams, base: string): object => {
    const ts = form.get("ts");
    const channel = form.get("channel") ?? form.get("channel_id") ?? "";
    const needs = (scope: string): object | undefined =>
      fake.scopes.includes(scope) ? undefined : { ok: false, error: "missing_scope", needed: scope };
    switch (method) {
      case "auth.test":
        return { ok: true, team: "Test", user: "keymeter" };
      case "chat.postMessage": {
        const refused = needs("chat:write");
        if (refused) return refused;
        const why = fake.closed.get(channel);
        if (why !== undefined) return { ok: false, error: why };
        const one = put(form);
        return { ok: true, channel: one.channel, ts: one.ts };
      }
      case "chat.update": {
        const one = posted.find((other) => other.ts === ts && other.channel === channel);
        if (!one || !messages.has(one.ts)) return { ok: false, error: "message_not_found" };
        one.text = form.get("text") ?? "";
        messages.set(one.ts, one.text);
        return { ok: true, channel: one.channel, ts: one.ts };
      }
      case "conversations.history":
      case "conversations.replies": {
        const refused = needs("channels:history");
        if (refused) return refused;
        if (!channel.startsWith("C")) return { ok: false, error: "channel_not_found" };
        const own = posted.filter(
          (one) =>
            one.channel === channel &&
            Number(one.ts) >= Number(form.get("oldest") ?? 0) &&
            (method === "conversations.replies" ? one.threadTs === ts : one.threadTs === undefined),
        );
        return { ok: true, messages: own.map(asMessage) };
      }
      case "files.getUploadURLExternal": {
        const refused = needs("files:write");
        if (refused) return refused;
        const id = `F${uploads.size}`;
        uploads.set(id, { name: form.get("filename") ?? "", bytes: Buffer.alloc(0) });
        return { ok: true, file_id: id, upload_url: `${base}/upload/${id}` };
      }
      case "files.completeUploadExternal": {
        const files = JSON.parse(form.get("files") ?? "[]") as { id: string }[];
        for (const { id } of files) put(form, uploads.get(id));
        return { ok: true, files };
      }
      case "apps.connections.open":
        return { ok: true, url: `${base.replace("http", "ws")}/socket` };
      default:
        return { ok: false, error: "unknown_method" };
    }
  };

  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks);
      const [path = ""] = (request.url ?? "").split("?");
      const method = path.split("/").at(-1) ?? "";
      const upload = uploads.get(method);
      if (path.includes("/upload/") && upload) {
        upload.bytes = body;
        return void response.writeHead(200).end("OK");
      }
      const form = new URLSearchParams(body.toString("utf8"));
      const base = `http://${request.headers.host ?? ""}`;
      const reply = (answered: object): void =>
        void response
          .writeHead(200, { "content-type": "application/json", "x-oauth-scopes": fake.scopes.join(",") })
          .end(JSON.stringify(answered));
      const [next] = fake.failures;
      const failure =
        fake.outage ??
        (next && (next.method === undefined || next.method === method) ? fake.failures.shift() : undefined);
      if (failure?.isTaken) answer(method, form, base);
      if (failure?.hang) return;
      if (failure?.retryAfter !== undefined)
        return void response.writeHead(429, { "retry-after": String(failure.retryAfter) }).end();
      if (failure?.status !== undefined) return void response.writeHead(failure.status).end();
      if (failure?.error !== undefined) return reply({ ok: false, error: failure.error });
      const token = method === "apps.connections.open" ? "Bearer xapp-test" : "Bearer xoxb-test";
      if (request.headers.authorization !== token) return reply({ ok: false, error: "invalid_auth" });
      const channel = form.get("channel") ?? "";
      if (fake.hasLimit && method.startsWith("chat.") && !mayPost(channel)) {
        fake.limited += 1;
        return void response.writeHead(429, { "retry-after": "1" }).end();
      }
      calls.push({
        method,
        channel,
        text: form.get("text") ?? "",
        blocks: JSON.parse(form.get("blocks") ?? "[]"),
        ts: form.get("ts"),
        threadTs: form.get("thread_ts"),
        atMs: Date.now(),
      });
      reply(answer(method, form, base));
    });
  });
  const sockets = new WebSocketServer({ server, path: "/socket" });
  sockets.on("connection", (socket) => {
    listeners.add(socket);
    socket.on("close", () => listeners.delete(socket));
    socket.send(JSON.stringify({ type: "hello", num_connections: 1 }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return Object.assign(fake, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/api/`,
    close: () =>
      new Promise<void>((resolve) => {
        for (const socket of listeners) socket.terminate();
        sockets.close();
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  });
}
