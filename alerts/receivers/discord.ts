// Discord: a message in a channel, what follows as replies to it. A message that is sent again with its nonce within some minutes is the
// same one. https://discord.com/developers/docs/resources/message
import { createHash } from "node:crypto";
import { FormData } from "undici";
import type { Secret } from "../../service/secret.ts";
import { askedToWait, callReceiver, failed, inTrouble, saidIn } from "./http.ts";
import type { Called } from "./http.ts";
import type { Message } from "../message.ts";
import type { Outcome, Receiver } from "./receiver.ts";
import { MARKDOWN, writeMessage, writeText } from "./words.ts";

const MOST = 2_000;
/** A name that somebody gave to a key calls nobody. */
const CALLS_NOBODY = { parse: [] };
/** What Discord calls its errors. */
const UNKNOWN_CHANNEL = 10_003;
const UNKNOWN_MESSAGE = 10_008;
const NOT_OURS = 50_005;
const NO_ACCESS = new Set([50_001, 50_013, 50_083]);
const BAD_FORM = 50_035;

export type DiscordSettings = { readonly token: Secret; readonly url: string };

/** `channel` is the channel's id. */
export function createDiscord({ token, url }: DiscordSettings): Receiver {
  const said = async (
    channel: string,
    method: "POST" | "PATCH",
    path: string,
    body: object,
    file?: { readonly png: Uint8Array; readonly name: string },
  ): Promise<Outcome> => {
    const answer = await callReceiver(`${url}/channels/${channel}/messages${path}`, {
      method,
      headers: { authorization: `Bot ${token.reveal()}` },
      body: file ? formOf(body, file) : JSON.stringify(body),
    });
    return "ok" in answer ? answer : outcomeOf(answer, channel);
  };
  const once = (nonce: string): object => ({
    // At most 25 characters.
    nonce: createHash("sha256").update(nonce).digest("hex").slice(0, 25),
    enforce_nonce: true,
    allowed_mentions: CALLS_NOBODY,
  });
  const change = (channel: string, ts: string, message: Message): Promise<Outcome> =>
    said(channel, "PATCH", `/${ts}`, {
      content: writeMessage(message, MARKDOWN, MOST),
      allowed_mentions: CALLS_NOBODY,
    });
  const answerTo = (ts: string): object => ({ message_reference: { message_id: ts, fail_if_not_exists: false } });
  return {
    async post(channel, message, nonce, isAgain) {
      const content = writeMessage(message, MARKDOWN, MOST);
      const outcome = await said(channel, "POST", "", { content, flags: NO_PREVIEWS, ...once(nonce) });
      // With a nonce that it knows Discord answers with what stands there.
      return outcome.ok && isAgain ? change(channel, outcome.ts, message) : outcome;
    },
    update: change,
    reply: (channel, ts, text, nonce, isLoud) =>
      said(channel, "POST", "", {
        content: writeText(text, MARKDOWN, MOST),
        flags: NO_PREVIEWS | (isLoud ? 0 : SILENT),
        ...answerTo(ts),
        ...once(nonce),
      }),
    picture: (channel, ts, { png, title, alt }, nonce) =>
      said(
        channel,
        "POST",
        "",
        {
          content: writeText(title, MARKDOWN, MOST),
          attachments: [{ id: 0, description: alt.slice(0, 1_024) }],
          flags: SILENT,
          ...answerTo(ts),
          ...once(nonce),
        },
        { png, name: `${nonce}.png` },
      ),
    // Sending it again finds it.
    find: async () => undefined,
    async check() {
      const answer = await callReceiver(`${url}/users/@me`, {
        method: "GET",
        headers: { authorization: `Bot ${token.reveal()}` },
      });
      if ("ok" in answer) throw new Error(answer.error);
      if (answer.status !== 200) throw new Error(`${answer.status}: ${saidIn(answer, "message")}`);
      return String(answer.json["username"]);
    },
  };
}

const NO_PREVIEWS = 1 << 2;
const SILENT = 1 << 12;

function formOf(body: object, { png, name }: { readonly png: Uint8Array; readonly name: string }): FormData {
  const form = new FormData();
  form.set("payload_json", JSON.stringify(body));
  form.set("files[0]", new Blob([new Uint8Array(png)], { type: "image/png" }), name);
  return form;
}

function outcomeOf(answer: Called, channel: string): Outcome {
  const { status, json } = answer;
  const { id, code } = json;
  if (status < 300) return typeof id === "string" ? { ok: true, channel, ts: id } : inTrouble(status);
  const why = `${status}: ${saidIn(answer, "message")}`;
  if (status === 429) {
    const seconds = json["retry_after"];
    return typeof seconds === "number" ? failed("everything", why, Math.ceil(seconds * 1000)) : askedToWait(answer);
  }
  if (status >= 500) return inTrouble(status);
  if (status === 401) return failed("everything", `${why}: set the bot's token`);
  if (code === UNKNOWN_MESSAGE || code === NOT_OURS) return failed("gone", why);
  if (code === UNKNOWN_CHANNEL || NO_ACCESS.has(Number(code)))
    return failed("channel", `${why}: let the bot see the channel and send messages there`);
  return failed(code === BAD_FORM ? "form" : "call", why);
}
