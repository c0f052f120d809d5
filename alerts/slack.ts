// Slack: post a message, or update the one that stands. The outcome says whether trying again is of use; it is not guessed
// by the caller.
import { WebClient } from "@slack/web-api";
import type { Secret } from "../service/secret.ts";
import type { Message } from "./message.ts";

export type SlackOutcome =
  | { readonly ok: true; readonly channel: string; readonly ts: string }
  | {
      readonly ok: false;
      readonly retry: boolean;
      readonly retryAfterMs: number;
      readonly error: string;
      readonly gone: boolean;
    };

export type Slack = {
  post(message: Message): Promise<SlackOutcome>;
  /** `gone` in the outcome: the message was deleted; post a new one. */
  update(channel: string, ts: string, message: Message): Promise<SlackOutcome>;
};

const TIMEOUT_MS = 10_000;
const AGAIN_MS = 5_000;
/** Errors that stay until somebody mends token, scope or channel; tried again rarely. */
const BROKEN_MS = 60_000;
const HINTS: { readonly [error: string]: string } = {
  invalid_auth: "the token is wrong: set SLACK_BOT_TOKEN to the bot token (xoxb-...) of your app",
  token_revoked: "the token was revoked: install the app again and set SLACK_BOT_TOKEN",
  account_inactive: "the app was removed: install it again and set SLACK_BOT_TOKEN",
  missing_scope: "the app lacks the scope chat:write: add it and install the app again",
  not_in_channel: "the bot is not in the channel: type /invite @your-bot there",
  channel_not_found: "there is no such channel, or it is private and the bot is not in it: check SLACK_CHANNEL",
  is_archived: "the channel is archived: set SLACK_CHANNEL to another",
};

export function createSlack(token: Secret, channel: string, slackUrl: string): Slack {
  // The outbox tries again, durably; the SDK's own retries would only hide it.
  const client = new WebClient(token.reveal(), {
    slackApiUrl: slackUrl,
    rejectRateLimitedCalls: true,
    retryConfig: { retries: 0 },
    timeout: TIMEOUT_MS,
  });

  const call = async (work: () => Promise<{ channel?: string; ts?: string }>): Promise<SlackOutcome> => {
    try {
      const answer = await work();
      if (answer.ts === undefined)
        return {
          ok: false,
          retry: true,
          retryAfterMs: AGAIN_MS,
          error: "Slack answered without a message id",
          gone: false,
        };
      return { ok: true, channel: answer.channel ?? channel, ts: answer.ts };
    } catch (error) {
      return failure(error);
    }
  };

  return {
    post: (message) =>
      call(() => client.chat.postMessage({ channel, text: message.text, blocks: message.blocks, unfurl_links: false })),
    update: (where, ts, message) =>
      call(() => client.chat.update({ channel: where, ts, text: message.text, blocks: message.blocks })),
  };
}

function failure(error: unknown): SlackOutcome {
  const { retryAfter, data, message } = error as { retryAfter?: number; data?: { error?: string }; message?: string };
  if (typeof retryAfter === "number")
    return { ok: false, retry: true, retryAfterMs: retryAfter * 1000, error: "Slack asks to wait (429)", gone: false };
  const code = data?.error;
  if (code === undefined)
    return { ok: false, retry: true, retryAfterMs: AGAIN_MS, error: message ?? String(error), gone: false };
  return {
    ok: false,
    retry: true,
    retryAfterMs: BROKEN_MS,
    error: `${code}: ${HINTS[code] ?? "see Slack's error list for chat.postMessage"}`,
    gone: code === "message_not_found" || code === "cant_update_message",
  };
}
