// A webhook of somebody's own: what happens to a message is an event, signed as Standard Webhooks says (webhook-id, -timestamp,
// -signature). One that may have come already comes again with its id. https://www.standardwebhooks.com
import { createHash, createHmac } from "node:crypto";
import type { Secret } from "../../service/secret.ts";
import type { Message } from "../message.ts";
import { askedToWait, callReceiver, failed, inTrouble } from "./http.ts";
import type { Outcome, Receiver } from "./receiver.ts";
import { PLAIN, writeMessage, writeText } from "./words.ts";

const MOST = 20_000;
/** Refused for now. */
const TOO_SLOW: ReadonlySet<number> = new Set([408, 425]);
const PREFIX = "whsec_";

export type WebhookSettings = { readonly url: Secret; readonly secret: Secret };

export function createWebhook({ url, secret }: WebhookSettings, now: () => number): Receiver {
  const send = async (channel: string, ts: string, id: string, event: object): Promise<Outcome> => {
    const atMs = now();
    const body = JSON.stringify({ ...event, message: ts, timestamp: new Date(atMs).toISOString() });
    const seconds = String(Math.floor(atMs / 1000));
    const answer = await callReceiver(url.reveal(), {
      headers: {
        "webhook-id": id,
        "webhook-timestamp": seconds,
        "webhook-signature": `v1,${sign(secret.reveal(), `${id}.${seconds}.${body}`)}`,
      },
      body,
    });
    if ("ok" in answer) return answer;
    const { status } = answer;
    if (status >= 200 && status < 300) return { ok: true, channel, ts };
    if (status === 429) return askedToWait(answer);
    // 410: no more, says Standard Webhooks.
    if (status === 410 || status === 404 || status === 401)
      return failed("everything", `it answers ${status}: look at the address and the secret`);
    return status >= 500 || TOO_SLOW.has(status) ? inTrouble(status) : failed("call", `it answers ${status}`);
  };
  const wordsOf = (message: Message): object => ({
    headline: message.headline,
    text: writeMessage(message, PLAIN, MOST),
  });
  const change = (channel: string, ts: string, message: Message, nonce: string): Promise<Outcome> => {
    const words = wordsOf(message);
    return send(channel, ts, idOf(`${nonce} ${JSON.stringify(words)}`), { type: "alert.updated", ...words });
  };
  return {
    async post(channel, message, nonce, isAgain) {
      const ts = idOf(nonce);
      const outcome = await send(channel, ts, ts, { type: "alert.posted", ...wordsOf(message) });
      // Whoever has it already takes it for the same.
      return outcome.ok && isAgain ? change(channel, ts, message, nonce) : outcome;
    },
    update: change,
    reply: (channel, ts, text, nonce, isLoud) =>
      send(channel, ts, idOf(nonce), { type: "alert.note", text: writeText(text, PLAIN, MOST), isLoud }),
    picture: (channel, ts, { png, title, alt }, nonce) =>
      send(channel, ts, idOf(nonce), { type: "alert.picture", title, alt, png: Buffer.from(png).toString("base64") }),
    // Whoever has it already knows it by its id.
    find: async () => undefined,
    async check() {
      const { host } = new URL(url.reveal());
      return host;
    },
  };
}

function idOf(nonce: string): string {
  return `msg_${createHash("sha256").update(nonce).digest("hex").slice(0, 32)}`;
}

function sign(secret: string, text: string): string {
  const key = secret.startsWith(PREFIX) ? Buffer.from(secret.slice(PREFIX.length), "base64") : Buffer.from(secret);
  return createHmac("sha256", key).update(text).digest("base64");
}
