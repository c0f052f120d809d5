// All receivers as one: a channel of the notifier is a channel of Slack, or `NAME:CHANNEL` of a receiver that settings name. What ails one
// keeps no other from speaking.
import type { Outcome, Receiver } from "./receiver.ts";

const MARK = "@";
const MOST_WAIT_MS = 60_000;
const AFTER_OTHERS_MS = 1_500;

/** How the notifier calls a channel of a receiver. */
export function channelAt(name: string, channel: string): string {
  return `${MARK}${name}:${channel}`;
}

/** Of which receiver a channel is; undefined: of Slack. */
export function receiverOf(channel: string): { readonly name: string; readonly channel: string } | undefined {
  const [, name, own] = /^@([a-z0-9-]+):(.*)$/s.exec(channel) ?? [];
  return name === undefined || own === undefined ? undefined : { name, channel: own };
}

/** `slack`: undefined where there is none. */
export function createReceivers(
  slack: Omit<Receiver, "check"> | undefined,
  named: ReadonlyMap<string, Receiver>,
  now: () => number,
): Omit<Receiver, "check"> {
  /** Receivers that asked to be left alone, or that do not answer, until when, and how often in a row. */
  const quiet = new Map<string, { readonly untilMs: number; readonly times: number }>();
  const ask = async (
    channel: string,
    work: (receiver: Omit<Receiver, "check">, own: string) => Promise<Outcome>,
  ): Promise<Outcome> => {
    const at = receiverOf(channel);
    const receiver = at ? named.get(at.name) : slack;
    if (!receiver) {
      const what = at ? `alerts.receivers has no ${at.name} any more` : "there is no Slack";
      return { ok: false, retryAfterMs: 60_000, error: what, isKnown: true, about: "channel" };
    }
    if (!at) return work(receiver, channel);
    const { untilMs = 0, times = 0 } = quiet.get(at.name) ?? {};
    const leftMs = untilMs - now();
    if (leftMs > 0)
      return { ok: false, retryAfterMs: leftMs, error: `${at.name} has to wait`, isKnown: true, about: "wait" };
    const outcome = await work(receiver, at.channel);
    if (outcome.ok) {
      quiet.delete(at.name);
      return { ...outcome, channel };
    }
    const isGone = !outcome.isKnown && outcome.about === "call";
    if (!isGone && outcome.about !== "everything") return outcome;
    const waitMs = isGone ? Math.min(outcome.retryAfterMs * 2 ** times, MOST_WAIT_MS) : outcome.retryAfterMs;
    quiet.set(at.name, { untilMs: now() + waitMs, times: times + 1 });
    // Whoever waits comes before what was just tried.
    return { ...outcome, retryAfterMs: waitMs + AFTER_OTHERS_MS, about: "wait" };
  };
  return {
    post: (channel, message, nonce, isAgain) =>
      ask(channel, (receiver, own) => receiver.post(own, message, nonce, isAgain)),
    update: (channel, ts, message, nonce) => ask(channel, (receiver, own) => receiver.update(own, ts, message, nonce)),
    reply: (channel, ts, text, nonce, isLoud) =>
      ask(channel, (receiver, own) => receiver.reply(own, ts, text, nonce, isLoud)),
    picture: (channel, ts, picture, nonce) =>
      ask(channel, (receiver, own) => receiver.picture(own, ts, picture, nonce)),
    async find(channel, nonce, sinceMs, threadTs) {
      const at = receiverOf(channel);
      return at
        ? named.get(at.name)?.find(at.channel, nonce, sinceMs, threadTs)
        : slack?.find(channel, nonce, sinceMs, threadTs);
    },
  };
}
