// Slack: a message in a channel, what follows in its thread.
import { clientOf } from "../../service/secrets/client.ts";
import { WebClient } from "@slack/web-api";
import type { Secret } from "../../service/secret.ts";
import type { Outcome, Receiver } from "./receiver.ts";

export type Slack = Omit<Receiver, "check"> & {
  /** Checks the token; returns what it is and may do. Rejects with an Error that says how to mend it. */
  check(): Promise<{ readonly team: string; readonly bot: string; readonly scopes: readonly string[] }>;
};

const TIMEOUT_MS = 10_000;
const AGAIN_MS = 2_000;
/** Errors that stay until somebody mends token, scope or channel; tried again rarely. */
const BROKEN_MS = 60_000;
const EVENT = "keymeter_notice";
/** Messages that are looked through for one that may have been sent. */
const MOST_FOUND = 200;
/** Slack's clock and ours. */
const SKEW_MS = 60_000;

const HINTS: { readonly [error: string]: string } = {
  invalid_auth: "the token is wrong: set SLACK_BOT_TOKEN to the bot token (xoxb-...) of your app",
  not_authed: "there is no token: set SLACK_BOT_TOKEN to the bot token (xoxb-...) of your app",
  token_revoked: "the token was revoked: install the app again and set SLACK_BOT_TOKEN",
  token_expired: "the token has expired: switch token rotation off for the app, or set SLACK_BOT_TOKEN anew",
  account_inactive: "the app was removed: install it again and set SLACK_BOT_TOKEN",
  missing_scope:
    "the app lacks a scope (chat:write for messages, files:write for pictures): add it and install the app again",
  not_in_channel: "the bot is not in the channel: type /invite @your-bot there",
  channel_not_found: "there is no such channel, or it is private and the bot is not in it: check SLACK_CHANNEL",
  is_archived: "the channel is archived: set SLACK_CHANNEL to another",
  restricted_action: "a workspace rule forbids the bot to write there: ask whoever runs the workspace",
};
const EVERYTHING = new Set(["invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive"]);
const CHANNEL = new Set(["not_in_channel", "channel_not_found", "is_archived", "is_inactive", "restricted_action"]);
const FORM = new Set(["invalid_blocks", "invalid_blocks_format", "msg_too_long", "msg_blocks_too_long"]);
const GONE = new Set(["message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found"]);

export function createSlack(token: Secret, slackUrl: string): Slack {
  // The outbox tries again, durably; the SDK's own retries would only hide it.
  const client = clientOf(
    token,
    (text) =>
      new WebClient(text, {
        slackApiUrl: slackUrl,
        rejectRateLimitedCalls: true,
        retryConfig: { retries: 0 },
        timeout: TIMEOUT_MS,
      }),
  );
  const metadata = (nonce: string): { event_type: string; event_payload: { nonce: string } } => ({
    event_type: EVENT,
    event_payload: { nonce },
  });

  const call = async (
    channel: string,
    work: () => Promise<{ channel?: string | undefined; ts?: string | undefined }>,
  ): Promise<Outcome> => {
    try {
      const answer = await work();
      if (answer.ts !== undefined) return { ok: true, channel: answer.channel ?? channel, ts: answer.ts };
      return { ok: false, retryAfterMs: AGAIN_MS, error: "Slack named no message", isKnown: false, about: "call" };
    } catch (error) {
      return failure(error);
    }
  };

  return {
    post: (channel, { text, blocks }, nonce) =>
      call(channel, () =>
        client().chat.postMessage({ channel, text, blocks, unfurl_links: false, metadata: metadata(nonce) }),
      ),
    update: (channel, ts, { text, blocks }) => call(channel, () => client().chat.update({ channel, ts, text, blocks })),
    reply: (channel, ts, text, nonce, isLoud) =>
      call(channel, () => {
        const reply = { channel, text, thread_ts: ts, unfurl_links: false, metadata: metadata(nonce) };
        return client().chat.postMessage(isLoud ? { ...reply, reply_broadcast: true } : reply);
      }),
    picture: (channel, ts, { png, title, alt }, nonce) =>
      call(channel, async () => {
        await client().filesUploadV2({
          channel_id: channel,
          thread_ts: ts,
          file: Buffer.from(png),
          filename: `${nonce}.png`,
          title,
          alt_text: alt,
        });
        return { ts };
      }),
    async find(channel, nonce, sinceMs, threadTs) {
      const range = {
        channel,
        oldest: String((sinceMs - SKEW_MS) / 1000),
        limit: MOST_FOUND,
        include_all_metadata: true,
      };
      try {
        const { messages = [] } =
          threadTs === undefined
            ? await client().conversations.history(range)
            : await client().conversations.replies({ ...range, ts: threadTs });
        return messages.find((message) => {
          const { metadata: data, files } = message as {
            metadata?: { event_payload?: { nonce?: string } };
            files?: { name?: string }[];
          };
          return data?.event_payload?.nonce === nonce || files?.some(({ name }) => name === `${nonce}.png`);
        })?.ts;
      } catch (error) {
        // A token that may not read the channel, or a channel that is known by its name only: then one message may be
        // there twice.
        const outcome = failure(error);
        if (outcome.isKnown && outcome.about !== "everything") return undefined;
        throw error;
      }
    },
    async check() {
      try {
        const answer = await client().auth.test();
        return {
          team: answer.team ?? "",
          bot: answer.user ?? "",
          scopes: answer.response_metadata?.scopes ?? [],
        };
      } catch (error) {
        const outcome = failure(error);
        throw new Error(outcome.ok ? "" : outcome.error, { cause: error });
      }
    },
  };
}

function failure(error: unknown): Exclude<Outcome, { ok: true }> {
  const { retryAfter, data, message } = error as { retryAfter?: number; data?: { error?: string }; message?: string };
  if (typeof retryAfter === "number")
    return {
      ok: false,
      retryAfterMs: retryAfter * 1000,
      error: "Slack asks to wait (429)",
      isKnown: true,
      about: "everything",
    };
  const code = data?.error;
  if (code === undefined)
    return { ok: false, retryAfterMs: AGAIN_MS, error: message ?? String(error), isKnown: false, about: "call" };
  if (code === "ratelimited" || code === "rate_limited")
    return { ok: false, retryAfterMs: AGAIN_MS, error: "Slack asks to wait", isKnown: true, about: "everything" };
  const about = EVERYTHING.has(code)
    ? "everything"
    : CHANNEL.has(code)
      ? "channel"
      : FORM.has(code)
        ? "form"
        : GONE.has(code)
          ? "gone"
          : "call";
  return {
    ok: false,
    retryAfterMs: BROKEN_MS,
    error: `${code}: ${HINTS[code] ?? "see Slack's error list for the call"}`,
    isKnown: true,
    about,
  };
}
