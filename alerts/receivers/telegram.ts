// Telegram: a message in a chat, what follows as replies to it. Its API has no idempotency and no search for bots: a message whose
// answer got lost may be there twice. https://core.telegram.org/bots/api
import { setTimeout as sleep } from "node:timers/promises";
import { FormData } from "undici";
import type { Secret } from "../../service/secret.ts";
import { AGAIN_MS, BROKEN_MS, callReceiver, failed, inTrouble, saidIn } from "./http.ts";
import type { Called } from "./http.ts";
import type { Message } from "../message.ts";
import type { Outcome, Receiver } from "./receiver.ts";
import { HTML, writeMessage, writeText } from "./words.ts";

/** Of a message, and of a picture's words. */
const MOST = 4_096;
const MOST_CAPTION = 1_024;
const ACKNOWLEDGE = { inline_keyboard: [[{ text: "Acknowledge", callback_data: "acknowledge" }]] };
/** A long poll. */
const POLL_SECONDS = 25;

export type TelegramSettings = {
  readonly token: Secret;
  readonly url: string;
  /** A topic of a group. */
  readonly topic: number | undefined;
};

/** `channel` is the chat's id. */
export function createTelegram({ token, url, topic }: TelegramSettings): Receiver {
  const call = (method: string, body: object | FormData): ReturnType<typeof callReceiver> =>
    callReceiver(`${url}/bot${token.reveal()}/${method}`, {
      body: body instanceof FormData ? body : JSON.stringify(body),
    });
  const said = async (channel: string, method: string, body: object | FormData): Promise<Outcome> => {
    const answer = await call(method, body);
    return "ok" in answer ? answer : outcomeOf(answer, channel);
  };
  const common = { parse_mode: "HTML", link_preview_options: { is_disabled: true } };
  const place = (channel: string): object => ({
    chat_id: channel,
    ...(topic === undefined ? {} : { message_thread_id: topic }),
  });
  return {
    post: (channel, message) =>
      said(channel, "sendMessage", {
        ...place(channel),
        ...common,
        text: writeMessage(message, HTML, MOST),
        ...buttonOf(channel, message),
      }),
    async update(channel, ts, message) {
      const outcome = await said(channel, "editMessageText", {
        chat_id: channel,
        message_id: Number(ts),
        ...common,
        text: writeMessage(message, HTML, MOST),
        ...buttonOf(channel, message),
      });
      // It says so already.
      return !outcome.ok && outcome.error.includes("message is not modified") ? { ok: true, channel, ts } : outcome;
    },
    reply: (channel, ts, text, _nonce, isLoud) =>
      said(channel, "sendMessage", {
        ...place(channel),
        ...common,
        text: writeText(text, HTML, MOST),
        reply_parameters: { message_id: Number(ts), allow_sending_without_reply: true },
        disable_notification: !isLoud,
      }),
    picture(channel, ts, { png, title, alt }, nonce) {
      const form = new FormData();
      for (const [name, value] of Object.entries(place(channel))) form.set(name, String(value));
      form.set("caption", `${title}. ${alt}`.slice(0, MOST_CAPTION));
      form.set("reply_parameters", JSON.stringify({ message_id: Number(ts), allow_sending_without_reply: true }));
      form.set("disable_notification", "true");
      form.set("photo", new Blob([new Uint8Array(png)], { type: "image/png" }), `${nonce}.png`);
      return said(channel, "sendPhoto", form);
    },
    find: async () => undefined,
    async check() {
      const answer = await call("getMe", {});
      if ("ok" in answer) throw new Error(answer.error);
      const { username } = (answer.json["result"] ?? {}) as { username?: string };
      if (answer.status !== 200 || username === undefined)
        throw new Error(`${answer.status}: ${saidIn(answer, "description")}`);
      return `@${username}`;
    },
  };
}

/** None where it is over, and none where anybody may come in: a chat that has a name in public. */
function buttonOf(channel: string, { headline }: Message): object {
  return channel.startsWith("@") || headline.startsWith("Resolved after ") ? {} : { reply_markup: ACKNOWLEDGE };
}

function outcomeOf(answer: Called, channel: string): Outcome {
  const { status, json } = answer;
  if (status === 200) {
    const id = (json["result"] as { message_id?: number } | undefined)?.message_id;
    return id === undefined ? inTrouble(status) : { ok: true, channel, ts: String(id) };
  }
  const why = `${status}: ${saidIn(answer, "description")}`;
  if (status === 429) {
    const { retry_after: seconds = AGAIN_MS / 1000 } = (json["parameters"] ?? {}) as { retry_after?: number };
    return failed("everything", why, seconds * 1000);
  }
  if (status >= 500) return inTrouble(status);
  if (status === 401 || status === 404) return failed("everything", `${why}: set the token that @BotFather gave`);
  if (/message to edit not found|message can't be edited|MESSAGE_ID_INVALID/i.test(why)) return failed("gone", why);
  if (
    /chat not found|bot was (kicked|blocked)|not enough rights|have no rights|deactivated|upgraded to a supergroup|TOPIC_CLOSED|thread not found/i.test(
      why,
    ) ||
    status === 403
  )
    return failed("channel", `${why}: add the bot to the chat, and check its id`);
  return failed(/parse entities|too long|entity/i.test(why) ? "form" : "call", why);
}

/** Listens to presses of Acknowledge, by long polling: the bot needs no address of its own, and one listener is all that it may have. */
export function listenToTelegram(
  { token, url }: Pick<TelegramSettings, "token" | "url">,
  acknowledge: (chat: string, messageId: string, by: string) => Promise<string>,
  warn: (what: string) => void,
): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const call = async (method: string, body: object): Promise<unknown> => {
    const answer = await fetch(`${url}/bot${token.reveal()}/${method}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.any([stopping.signal, AbortSignal.timeout((POLL_SECONDS + 10) * 1000)]),
    });
    const said = (await answer.json()) as {
      ok?: boolean;
      description?: string;
      result?: unknown;
      parameters?: { retry_after?: number };
    };
    if (said.ok === true) return said.result;
    const { retry_after: seconds = BROKEN_MS / 1000 } = said.parameters ?? {};
    throw new Refused(`${method}: ${said.description ?? answer.status}`, seconds * 1000);
  };
  const poll = async (): Promise<void> => {
    for (let offset = 0; !stopping.signal.aborted;) {
      try {
        const updates = await call("getUpdates", {
          offset,
          timeout: POLL_SECONDS,
          allowed_updates: ["callback_query"],
        });
        for (const { update_id: id, callback_query: query } of (updates ?? []) as Update[]) {
          if (query?.data === "acknowledge" && query.message) {
            const { chat, message_id: messageId } = query.message;
            const by = query.from.username === undefined ? query.from.first_name : `@${query.from.username}`;
            const text = await acknowledge(String(chat.id), String(messageId), by);
            // A press that is old is answered no more.
            await call("answerCallbackQuery", { callback_query_id: query.id, text }).catch(() => undefined);
          }
          offset = id + 1;
        }
      } catch (error) {
        if (stopping.signal.aborted) return;
        const isRefused = error instanceof Refused;
        if (isRefused) warn(`presses of Acknowledge in Telegram are not heard: ${error.message}`);
        await sleep(isRefused ? error.waitMs : AGAIN_MS, undefined, { signal: stopping.signal }).catch(() => undefined);
      }
    }
  };
  const polling = poll();
  return {
    async stop() {
      stopping.abort();
      await polling;
    },
  };
}

/** Telegram does not do it; again after a while. */
class Refused extends Error {
  readonly waitMs: number;
  constructor(message: string, waitMs: number) {
    super(message);
    this.waitMs = waitMs;
  }
}

type Update = {
  readonly update_id: number;
  readonly callback_query?: {
    readonly id: string;
    readonly data?: string;
    readonly from: { readonly username?: string; readonly first_name: string };
    readonly message?: { readonly message_id: number; readonly chat: { readonly id: number } };
  };
};
