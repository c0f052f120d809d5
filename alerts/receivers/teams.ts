// Microsoft Teams, by a workflow's webhook: a card in a channel. What stands there cannot be changed or answered from outside, and says no
// id: that something got worse, and that it is over, are cards of their own. A message whose answer got lost may be there twice.
// https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
import { createHash } from "node:crypto";
import type { Secret } from "../../service/secret.ts";
import type { Message } from "../message.ts";
import { askedToWait, callReceiver, failed, inTrouble } from "./http.ts";
import type { Outcome, Receiver } from "./receiver.ts";
import { PLAIN, writeMessage, writeText } from "./words.ts";

/** A card has 28 KB at most. */
const MOST = 12_000;

export type TeamsSettings = { readonly url: Secret };

export function createTeams({ url }: TeamsSettings): Receiver {
  const send = async (channel: string, ts: string, title: string, text: string): Promise<Outcome> => {
    const answer = await callReceiver(url.reveal(), { body: JSON.stringify(cardOf(title, text)) });
    if ("ok" in answer) return answer;
    const { status } = answer;
    if (status >= 200 && status < 300) return { ok: true, channel, ts };
    if (status === 429) return askedToWait(answer);
    if (status === 400 || status === 413) return failed("form", `it answers ${status}: it does not take this card`);
    if (status === 408) return inTrouble(status);
    if (status >= 400 && status < 500)
      return failed("everything", `it answers ${status}: make the workflow's address anew`);
    return inTrouble(status);
  };
  const said = (channel: string, ts: string, message: Message): Promise<Outcome> =>
    send(channel, ts, message.headline, writeMessage({ ...message, headline: "" }, PLAIN, MOST).trim());
  return {
    post: (channel, message, nonce) =>
      said(channel, createHash("sha256").update(nonce).digest("hex").slice(0, 32), message),
    // Figures that moved are not worth a card.
    update: async (channel, ts, message) =>
      message.headline.startsWith("Resolved after ") ? said(channel, ts, message) : { ok: true, channel, ts },
    // That it is over was a card already.
    reply: async (channel, ts, text, _nonce, isLoud) =>
      isLoud ? send(channel, ts, writeText(text, PLAIN, MOST), "") : { ok: true, channel, ts },
    picture: async (channel, ts) => ({ ok: true, channel, ts }),
    find: async () => undefined,
    check: async () => new URL(url.reveal()).host,
  };
}

/** Plain runs of text: a card reads Markdown in its text blocks, and names hold what they like. */
function cardOf(title: string, text: string): object {
  const run = (words: string, more: object = {}): object => ({
    type: "RichTextBlock",
    inlines: [{ type: "TextRun", text: words, ...more }],
  });
  const body = [
    run(title, { weight: "Bolder", size: "Medium" }),
    ...text
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => run(line)),
  ];
  const content = {
    type: "AdaptiveCard",
    $schema: "http://adaptivecards.io/schemas/adaptive-card.json",
    version: "1.4",
    body,
  };
  return {
    type: "message",
    attachments: [{ contentType: "application/vnd.microsoft.card.adaptive", contentUrl: null, content }],
  };
}
