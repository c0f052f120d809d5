// Telegram's bot API, Discord's REST API and somebody's webhook on loopback: what stands there, what was asked, their limits and errors as
// they document them, and failures as told. Its journal is what a test counts by.
import { createHmac } from "node:crypto";
import { createServer } from "node:http";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type Kind = "telegram" | "discord" | "webhook" | "teams";
type Failure = {
  readonly status?: number;
  readonly hang?: boolean;
  /** It is taken, and the answer gets lost. */
  readonly isTaken?: boolean;
  readonly retryAfter?: number;
};
/** What stands in a chat: a message, or what was added to one. */
export type Standing = {
  readonly id: string;
  readonly replyTo: string | undefined;
  text: string;
  readonly picture: boolean;
};

export type FakeReceivers = {
  readonly url: string;
  readonly calls: { readonly kind: Kind; readonly what: string; readonly body: string }[];
  readonly standing: { readonly [kind in Kind]: Standing[] };
  /** The next calls fail like these, one after the other. */
  readonly failures: Failure[];
  /** Calls while this is set get it. */
  outage: Failure | undefined;
  /** Deletes a message, as somebody in the chat. */
  remove(kind: Kind, id: string): void;
  /** Presses Acknowledge in Telegram. */
  press(messageId: string, by: string): void;
  /** How often somebody asked for presses. */
  readonly polled: number;
  /** What the bot said to who pressed. */
  readonly answers: string[];
  close(): Promise<void>;
};

export const TELEGRAM_TOKEN = "123456:telegram-token-of-a-test";
export const DISCORD_TOKEN = "discord-token-of-a-test";
export const WEBHOOK_SECRET = `whsec_${Buffer.from("a-secret-of-a-webhook").toString("base64")}`;
export const CHAT = "-1001234567890";
export const CHANNEL = "123456789012345678";
const SKEW_SECONDS = 300;

type Reply = { readonly status: number; readonly body: object; readonly headers?: { readonly [name: string]: string } };

export async function startFakeReceivers(): Promise<FakeReceivers> {
  const calls: FakeReceivers["calls"] = [];
  const standing: { [kind in Kind]: Standing[] } = { telegram: [], discord: [], webhook: [], teams: [] };
  const nonces = new Map<string, Standing>();
  const seen = new Set<string>();
  const updates: { update_id: number }[] = [];
  const polls: ((status: number) => void)[] = [];
  const answers: string[] = [];
  let polled = 0;
  let last = 1_000;
  const add = (kind: Kind, text: string, replyTo: string | undefined, picture = false): Standing => {
    const one = { id: kind === "discord" ? `9000000000000${++last}` : String(++last), replyTo, text, picture };
    standing[kind].push(one);
    return one;
  };

  const telegram = (method: string, body: Body): Reply => {
    const ok = (result: object): Reply => ({ status: 200, body: { ok: true, result } });
    const no = (status: number, description: string): Reply => ({
      status,
      body: { ok: false, error_code: status, description },
    });
    const text = body.get("text") ?? body.get("caption") ?? "";
    if (method === "getMe") return ok({ id: 1, is_bot: true, username: "keymeter_bot" });
    if (method === "answerCallbackQuery") {
      answers.push(text);
      return ok({});
    }
    if (body.get("chat_id") !== CHAT) return no(400, "Bad Request: chat not found");
    if (text.length > 4_096) return no(400, "Bad Request: message is too long");
    // Its parser knows few tags, and no bare signs.
    if (/<(?!\/?(b|code|a)\b)|&(?!(lt|gt|amp|quot);)/.test(text)) return no(400, "Bad Request: can't parse entities");
    if (method === "editMessageText") {
      const found = standing.telegram.find(({ id }) => id === body.get("message_id"));
      if (!found) return no(400, "Bad Request: message to edit not found");
      if (found.text === text) return no(400, "Bad Request: message is not modified");
      found.text = text;
      return ok({ message_id: Number(found.id) });
    }
    const { message_id: to } = JSON.parse(body.get("reply_parameters") ?? "{}") as { message_id?: number };
    return ok({
      message_id: Number(add("telegram", text, to === undefined ? undefined : String(to), method === "sendPhoto").id),
    });
  };

  const discord = (method: string, path: string, body: Body): Reply => {
    if (path === "/users/@me") return { status: 200, body: { username: "keymeter" } };
    const [, channel, id] = /^\/channels\/(\d+)\/messages(?:\/(\d+))?$/.exec(path) ?? [];
    if (channel !== CHANNEL) return { status: 404, body: { code: 10_003, message: "Unknown Channel" } };
    const text = body.get("content") ?? "";
    if (text.length > 2_000) return { status: 400, body: { code: 50_035, message: "Invalid Form Body" } };
    if (method === "PATCH") {
      const found = standing.discord.find((one) => one.id === id);
      if (!found) return { status: 404, body: { code: 10_008, message: "Unknown Message" } };
      found.text = text;
      return { status: 200, body: { id: found.id } };
    }
    const nonce = body.get("nonce") ?? "";
    if (nonce.length > 25) return { status: 400, body: { code: 50_035, message: "Invalid Form Body" } };
    const again = body.get("enforce_nonce") === "true" ? nonces.get(nonce) : undefined;
    const { message_id: to } = JSON.parse(body.get("message_reference") ?? "{}") as { message_id?: string };
    const one = again ?? add("discord", text, to, body.hasFile);
    nonces.set(nonce, one);
    return { status: 200, body: { id: one.id, nonce } };
  };

  /** A workflow takes a card, and says nothing of it. */
  const teams = (bytes: Buffer): Reply => {
    if (bytes.length > 28 * 1024) return { status: 413, body: {} };
    const card = JSON.parse(bytes.toString()) as {
      attachments: [{ content: { body: { inlines: { text: string }[] }[] } }];
    };
    const lines = card.attachments[0].content.body.flatMap(({ inlines }) => inlines.map(({ text }) => text));
    add("teams", lines.join("\n"), undefined);
    return { status: 202, body: {} };
  };

  const webhook = (request: IncomingMessage, text: string): Reply => {
    const {
      "webhook-id": id = "",
      "webhook-timestamp": at = "",
      "webhook-signature": signature = "",
    } = request.headers;
    const key = Buffer.from(WEBHOOK_SECRET.slice("whsec_".length), "base64");
    const wanted = `v1,${createHmac("sha256", key)
      .update(`${String(id)}.${String(at)}.${text}`)
      .digest("base64")}`;
    const isNow = Math.abs(Date.now() / 1000 - Number(at)) < SKEW_SECONDS;
    if (signature !== wanted || !isNow) return { status: 401, body: {} };
    if (seen.has(String(id))) return { status: 200, body: {} };
    seen.add(String(id));
    const event = JSON.parse(text) as { type: string; message: string; text?: string };
    if (event.type === "alert.posted")
      standing.webhook.push({ id: event.message, replyTo: undefined, text: event.text ?? "", picture: false });
    else if (event.type === "alert.updated") {
      const found = standing.webhook.find((one) => one.id === event.message);
      if (found) found.text = event.text ?? "";
    } else
      standing.webhook.push({
        id: String(id),
        replyTo: event.message,
        text: event.text ?? "",
        picture: event.type === "alert.picture",
      });
    return { status: 204, body: {} };
  };

  const server = createServer((request, response) => void answer(request, response));
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const bytes = Buffer.concat(chunks);
    const path = request.url ?? "";
    const send = ({ status, body, headers = {} }: Reply): void =>
      void response
        .writeHead(status, { "content-type": "application/json", ...headers })
        .end(status === 204 ? "" : JSON.stringify(body));
    const [, token, method = ""] = /^\/bot([^/]+)\/(\w+)$/.exec(path) ?? [];
    const kind: Kind =
      token !== undefined ? "telegram" : path === "/hook" ? "webhook" : path === "/teams" ? "teams" : "discord";
    if (method === "getUpdates") {
      polled += 1;
      if (token !== TELEGRAM_TOKEN) return send({ status: 401, body: { ok: false, description: "Unauthorized" } });
      // Another one that asks ends the one that waits.
      for (const end of polls.splice(0)) end(409);
      const status = updates.length > 0 ? 200 : await new Promise<number>((resolve) => polls.push(resolve));
      if (status === 409)
        return send({ status, body: { ok: false, description: "Conflict: terminated by other getUpdates request" } });
      return send({ status: 200, body: { ok: true, result: updates.splice(0) } });
    }
    const body = await readBody(request, bytes);
    calls.push({ kind, what: `${request.method} ${method || path}`, body: bytes.toString("latin1") });
    const failure = fake.outage ?? fake.failures.shift();
    const work = (): Reply => {
      if (kind === "telegram")
        return token === TELEGRAM_TOKEN
          ? telegram(method, body)
          : { status: 401, body: { ok: false, description: "Unauthorized" } };
      if (kind === "teams") return teams(bytes);
      if (kind === "webhook") return webhook(request, bytes.toString());
      return request.headers.authorization === `Bot ${DISCORD_TOKEN}`
        ? discord(request.method ?? "", path.replace("/api/v10", ""), body)
        : { status: 401, body: { code: 0, message: "401: Unauthorized" } };
    };
    if (failure?.isTaken) work();
    if (failure?.hang) return;
    if (failure?.isTaken) return void response.destroy();
    if (failure) {
      const { status = 500, retryAfter = 1 } = failure;
      const parameters = { retry_after: retryAfter };
      return send({
        status,
        body:
          status === 429
            ? { ok: false, description: "Too Many Requests", parameters, ...parameters }
            : { message: "in trouble" },
        headers: status === 429 ? { "retry-after": String(retryAfter) } : {},
      });
    }
    send(work());
  };
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const fake: FakeReceivers = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    standing,
    failures: [],
    outage: undefined,
    answers,
    get polled() {
      return polled;
    },
    remove(kind, id) {
      standing[kind].splice(
        standing[kind].findIndex((one) => one.id === id),
        1,
      );
    },
    press(messageId, by) {
      const message = { message_id: Number(messageId), chat: { id: Number(CHAT) } };
      const query = { id: "q", data: "acknowledge", from: { username: by, first_name: by }, message };
      updates.push({ update_id: ++last, callback_query: query } as { update_id: number });
      for (const end of polls.splice(0)) end(200);
    },
    async close() {
      for (const end of polls.splice(0)) end(200);
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return fake;
}

type Body = { readonly get: (name: string) => string | undefined; readonly hasFile: boolean };

/** Fields of JSON, or of a form: objects as JSON. */
async function readBody(request: IncomingMessage, bytes: Buffer): Promise<Body> {
  const type = request.headers["content-type"] ?? "";
  if (type.startsWith("multipart/form-data")) {
    const form = await new Response(new Uint8Array(bytes), { headers: { "content-type": type } }).formData();
    const payload = form.get("payload_json");
    const own = typeof payload === "string" ? (JSON.parse(payload) as { [name: string]: unknown }) : {};
    const fields = new Map(
      [...form.entries()].flatMap(([name, value]) => (typeof value === "string" ? [[name, value] as const] : [])),
    );
    return { get: (name) => fields.get(name) ?? textOf(own[name]), hasFile: true };
  }
  if (bytes.length === 0 || !type.startsWith("application/json")) return { get: () => undefined, hasFile: false };
  const json = JSON.parse(bytes.toString()) as { [name: string]: unknown };
  return { get: (name) => textOf(json[name]), hasFile: false };
}

function textOf(value: unknown): string | undefined {
  return value === undefined || typeof value === "string" ? value : JSON.stringify(value);
}
