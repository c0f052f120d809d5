// The notifier: takes what waits out of the outbox and says it where alerts are said (receivers/). One message a group, updated in place, with
// what follows in its thread. A row leaves the outbox in the transaction that notes what was said; before its first
// byte goes out it is marked, and what was marked and has no answer (a timeout, a crash) is looked for there before
// it is sent again.
import {
  dropOutgoing,
  findLastNotice,
  findMute,
  findOpenNotice,
  noteFailure,
  noteFound,
  noteSaid,
  noteSending,
  readDeliveries,
  readOutbox,
} from "../ledger/notices/notices.ts";
import type { Mute, Notice, Outgoing } from "../ledger/notices/notices.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { NoticesBooks } from "../ledger/books.ts";
import type { Log } from "../service/log.ts";
import { mergeWords } from "./merge.ts";
import { escape } from "./message.ts";
import type { Message } from "./message.ts";
import { receiverOf } from "./receivers/index.ts";
import type { Outcome, Picture, Receiver } from "./receivers/receiver.ts";
import { parseDelivery } from "./webhook.ts";
import type { AlertGroup } from "./webhook.ts";

export type Notifier = {
  /** Something new is in the outbox. */
  wake(): void;
  /** Messages sent, failures, and why the last one failed. */
  status(): { readonly sent: number; readonly failed: number; readonly lastError: string | undefined };
  stop(): Promise<void>;
};

/** A message, and what is remembered of it to tell what has changed since. */
type Composed = {
  readonly message: Message;
  readonly severity: string;
  /** The money that it is about; undefined where it is about none. */
  readonly figureNanoUsd: NanoUsd | undefined;
};

export type NotifierParts = {
  readonly notices: NoticesBooks;
  readonly receiver: Omit<Receiver, "check"> | undefined;
  /** Where a group is said. */
  readonly channelOf: (group: AlertGroup) => string;
  readonly defaultChannel: string;
  /** Where the week is told; absent: there too. */
  readonly digestChannel?: string;
  readonly compose: (group: AlertGroup, notice: Notice | undefined, mute: Mute | undefined) => Promise<Composed>;
  /** The picture of a group, or of the week; undefined where there is nothing to draw. */
  readonly draw: (group: AlertGroup | undefined) => Promise<Picture | undefined>;
  readonly digest: () => Promise<Message>;
  /** Asks the Alertmanagers whether anything of a group is active, where sources disagree; undefined when none
   *  answers. */
  readonly isActive: (group: AlertGroup) => Promise<boolean | undefined>;
  readonly log: Log;
  readonly now?: () => number;
  /** Between two calls to a channel. */
  readonly paceMs?: number;
};

/** Slack takes about a message a second in a channel. */
const PACE_MS = 1_100;
const MOST_WAIT_MS = 60_000;
const TROUBLE_MS = 5_000;
/** So soon after a message was closed, news of what began before that is late news. */
const REOPEN_MS = 15 * 60_000;
const RANK: { readonly [severity: string]: number } = { none: 0, info: 1, warning: 2, critical: 3 };

export function startNotifier(parts: NotifierParts): Notifier {
  const { notices, receiver, log, now = Date.now, paceMs = PACE_MS } = parts;
  let timer: NodeJS.Timeout | undefined;
  let working: Promise<void> = Promise.resolve();
  let stopped = false;
  let sent = 0;
  let failed = 0;
  let lastError: string | undefined;
  let quietUntilMs = 0;
  const spoke = new Map<string, number>();

  const schedule = (delayMs: number): void => {
    clearTimeout(timer);
    if (!stopped) timer = setTimeout(() => void (working = working.then(work).catch(again)), delayMs);
  };

  /** The outbox itself cannot be read or written: a full disk, say. */
  const again = (error: unknown): void => {
    log.error({ err: error }, "the outbox cannot be worked on; it is tried again");
    schedule(TROUBLE_MS);
  };

  /** Waits its turn in a channel. */
  const pace = async (channel: string): Promise<void> => {
    const waitMs = (spoke.get(channel) ?? 0) + paceMs - Date.now();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    spoke.set(channel, Date.now());
  };

  const work = async (): Promise<void> => {
    if (!receiver) return;
    for (const row of await readOutbox(notices)) {
      if (stopped) return;
      if (Math.max(row.nextAtMs, quietUntilMs) > now()) continue;
      let outcome: Outcome | undefined;
      try {
        outcome = await sayRow({ ...parts, receiver, now }, row, pace);
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error);
        outcome = { ok: false, retryAfterMs: 5_000, error: text, isKnown: false, about: "call" };
      }
      if (outcome === undefined) continue;
      if (outcome.ok) {
        sent += 1;
        lastError = undefined;
        continue;
      }
      failed += 1;
      lastError = outcome.error;
      log.warn(
        { group: row.groupKey, kind: row.kind, error: outcome.error, attempts: row.attempts + 1 },
        "a message was not taken; it stays in the outbox",
      );
      const waitMs =
        outcome.about === "call"
          ? Math.min(outcome.retryAfterMs * 2 ** row.attempts, MOST_WAIT_MS)
          : outcome.retryAfterMs;
      if (outcome.about === "everything") quietUntilMs = now() + waitMs;
      // What an earlier try left unknown is no better known by this one.
      const isKnown = outcome.isKnown && row.sendingSinceMs === null;
      await noteFailure(notices, row, outcome.error, now() + waitMs, isKnown);
    }
    // What was said may have queued what follows it in its thread.
    const due = (await readOutbox(notices)).map(({ nextAtMs }) => Math.max(nextAtMs, quietUntilMs));
    if (due.length > 0) schedule(Math.max(0, Math.min(...due) - now()));
  };

  schedule(0);
  return {
    wake: () => schedule(0),
    status: () => ({ sent, failed, lastError }),
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await working;
    },
  };
}

type Context = NotifierParts & { readonly receiver: Omit<Receiver, "check">; readonly now: () => number };
type Pace = (channel: string) => Promise<void>;

/** Says one row. Undefined: there was nothing to say. */
async function sayRow(context: Context, row: Outgoing, pace: Pace): Promise<Outcome | undefined> {
  switch (row.kind) {
    case "group":
      return sayGroup(context, row, pace);
    case "reply":
    case "picture":
      return sayInThread(context, row, pace);
    case "digest":
      return sayDigest(context, row, pace);
  }
}

async function sayGroup(context: Context, row: Outgoing, pace: Pace): Promise<Outcome | undefined> {
  const { notices, receiver, now } = context;
  const composedAtMs = now();
  const open = (await findOpenNotice(notices, row.groupKey)) ?? (await adopt(context, row));
  const group = await currentGroup(context, row.groupKey, open);
  // Over before it was ever said: nobody needs to hear of it. Where nobody can look whether it was, it may have been.
  const mayStand = row.sendingSinceMs !== null && group && receiverOf(context.channelOf(group)) !== undefined;
  if (!group || (group.status === "resolved" && !open && !mayStand)) {
    await dropOutgoing(notices, row, composedAtMs);
    return undefined;
  }
  const notice = open ?? (await findReopened(notices, group, now()));
  const mute = await findMute(notices, row.groupKey, now());
  const { message, severity, figureNanoUsd } = await context.compose(group, notice, mute);
  const said = {
    state: group.status,
    text: message.text,
    severity,
    figureNanoUsd,
    body: JSON.stringify(message.blocks),
  };
  const note = async (
    { channel, ts }: { readonly channel: string; readonly ts: string },
    follow: Parameters<typeof noteSaid>[4],
  ): Promise<void> => noteSaid(notices, row, notice, { ...said, channel, ts }, follow, composedAtMs, now());

  if (notice && notice.state === said.state && notice.body === said.body) {
    await dropOutgoing(notices, row);
    return undefined;
  }
  if (notice) {
    await pace(notice.channel);
    let outcome = await receiver.update(notice.channel, notice.ts, message, row.nonce);
    if (!outcome.ok && outcome.about === "form")
      outcome = await receiver.update(notice.channel, notice.ts, plain(message), row.nonce);
    if (outcome.ok) await note(notice, followUps(notice, said.state, severity, message, mute !== undefined));
    if (outcome.ok || (outcome.about !== "gone" && outcome.about !== "channel")) return outcome;
    // Somebody deleted it, or its channel. That it is over, or somebody's already, needs no new one.
    if (said.state === "resolved" || mute) {
      await note(notice, []);
      return undefined;
    }
  }
  const outcome = await postOnce(context, row, context.channelOf(group), message, pace);
  const picture = { kind: "picture", payload: JSON.stringify(group) } as const;
  if (outcome.ok) await note(outcome, said.state === "resolved" ? [] : [picture]);
  return outcome;
}

/** The message of a row whose answer got lost, if Slack has it: from now on it is known. */
async function adopt(context: Context, row: Outgoing): Promise<Notice | undefined> {
  const { notices, receiver, defaultChannel, now } = context;
  if (row.sendingSinceMs === null) return undefined;
  const merged = mergeWords(await readDeliveries(notices, row.groupKey));
  const channels = new Set([...(merged ? [context.channelOf(merged.group)] : []), defaultChannel]);
  for (const channel of channels) {
    const ts = await receiver.find(channel, row.nonce, row.sendingSinceMs);
    if (ts !== undefined) return noteFound(notices, row, { channel, ts }, JSON.stringify(merged?.group ?? {}), now());
  }
  return undefined;
}

/** The group as all sources have it now; as over, where its message stands and nobody speaks of it any more. */
async function currentGroup(
  { notices, isActive }: Context,
  groupKey: string,
  open: Notice | undefined,
): Promise<AlertGroup | undefined> {
  const merged = mergeWords(await readDeliveries(notices, groupKey));
  if (!merged) return open && { groupKey, status: "resolved", commonLabels: {}, commonAnnotations: {}, alerts: [] };
  // The later word holds, unless an Alertmanager that is asked knows better.
  if (merged.isDisputed && (await isActive(merged.group)) !== true) return { ...merged.group, status: "resolved" };
  return merged.group;
}

/** The message of a group that was closed moments ago and of which late news comes: it is opened again. */
async function findReopened(notices: NoticesBooks, group: AlertGroup, nowMs: number): Promise<Notice | undefined> {
  const last = await findLastNotice(notices, group.groupKey);
  if (!last || nowMs - last.updatedAtMs > REOPEN_MS) return undefined;
  const firing = group.alerts.filter(({ status }) => status === "firing");
  return firing.every(({ startsAt }) => Date.parse(startsAt) < last.updatedAtMs) ? last : undefined;
}

/** What a change is worth in the thread: that it is worse, or not over after all, aloud; and that it is over. */
function followUps(
  notice: Notice,
  state: Notice["state"],
  severity: string,
  message: Message,
  isMuted: boolean,
): { readonly kind: "reply" | "picture"; readonly payload: string }[] {
  const reply = (text: string, isLoud: boolean): { kind: "reply"; payload: string } => ({
    kind: "reply",
    payload: JSON.stringify({ text, isLoud }),
  });
  const headline = escape(message.headline);
  if (state === "resolved")
    return [reply(message.reminder === undefined ? headline : `${headline}\n${message.reminder}`, false)];
  if (isMuted) return [];
  if (notice.state === "resolved") return [reply(`Not over: ${headline}`, true)];
  return (RANK[severity] ?? 0) > (RANK[notice.severity] ?? 0) ? [reply(`Now ${severity}: ${headline}`, true)] : [];
}

async function sayInThread(context: Context, row: Outgoing, pace: Pace): Promise<Outcome | undefined> {
  const { notices, receiver, draw, now, log } = context;
  const notice = await findLastNotice(notices, row.groupKey);
  if (!notice) {
    await dropOutgoing(notices, row);
    return undefined;
  }
  const { channel, ts } = notice;
  if (row.sendingSinceMs !== null && (await receiver.find(channel, row.nonce, row.sendingSinceMs, ts)) !== undefined) {
    await dropOutgoing(notices, row);
    return { ok: true, channel, ts };
  }
  let send: () => Promise<Outcome>;
  if (row.kind === "reply") {
    const { text, isLoud } = JSON.parse(row.payload) as { text: string; isLoud: boolean };
    send = () => receiver.reply(channel, ts, text, row.nonce, isLoud);
  } else {
    // Of the group as the message says it now, which may have grown since it was posted.
    const posted = row.payload === "{}" ? undefined : parseDelivery(JSON.parse(row.payload));
    const group = posted && (await currentGroup(context, row.groupKey, undefined));
    const picture = await draw(group?.status === "firing" ? group : posted).catch((error: unknown) => {
      log.error({ err: error }, "a picture could not be drawn; the message stands without it");
      return undefined;
    });
    if (!picture) {
      await dropOutgoing(notices, row);
      return undefined;
    }
    send = () => receiver.picture(channel, ts, picture, row.nonce);
  }
  await pace(channel);
  if (row.sendingSinceMs === null) await noteSending(notices, row.id, now());
  const outcome = await send();
  // What belongs to a message is not worth holding anything up for: a missing scope is said by `keymeter doctor slack`.
  if (outcome.ok || (outcome.isKnown && outcome.about !== "everything" && outcome.about !== "wait")) {
    if (!outcome.ok) log.warn({ kind: row.kind, error: outcome.error }, "what belongs to a message was not taken");
    await dropOutgoing(notices, row);
    return outcome.ok ? outcome : undefined;
  }
  return outcome;
}

async function sayDigest(context: Context, row: Outgoing, pace: Pace): Promise<Outcome | undefined> {
  const { notices, defaultChannel, digestChannel = defaultChannel, digest, now } = context;
  const composedAtMs = now();
  const message = await digest();
  const outcome = await postOnce(context, row, digestChannel, message, pace);
  if (!outcome.ok) return outcome;
  const said = { channel: outcome.channel, ts: outcome.ts, text: message.text, body: JSON.stringify(message.blocks) };
  await noteSaid(
    notices,
    row,
    undefined,
    { ...said, state: "resolved", severity: "none", figureNanoUsd: undefined },
    [{ kind: "picture", payload: "{}" }],
    composedAtMs,
    now(),
  );
  return outcome;
}

/** Without its blocks, where Slack does not like them: the text says everything that matters. */
function plain({ headline, text }: Message): Message {
  return { headline, text, blocks: [] };
}

/** Posts a message; a digest that may have been posted before is looked for first, as a group's is before (`adopt`). */
async function postOnce(
  { notices, receiver, now, defaultChannel, log }: Context,
  row: Outgoing,
  channel: string,
  message: Message,
  pace: Pace,
): Promise<Outcome> {
  for (const where of new Set([channel, defaultChannel])) {
    if (row.kind === "digest" && row.sendingSinceMs !== null) {
      const ts = await receiver.find(where, row.nonce, row.sendingSinceMs);
      if (ts !== undefined) return { ok: true, channel: where, ts };
    }
    await pace(where);
    if (row.sendingSinceMs === null) await noteSending(notices, row.id, now());
    const isAgain = row.sendingSinceMs !== null;
    let outcome = await receiver.post(where, message, row.nonce, isAgain);
    if (!outcome.ok && outcome.about === "form")
      outcome = await receiver.post(where, plain(message), row.nonce, isAgain);
    if (outcome.ok || outcome.about !== "channel" || where === defaultChannel) return outcome;
    log.warn({ channel: where, error: outcome.error }, "a team's channel does not take messages; the usual one does");
  }
  throw new Error("a message without a channel", { cause: row.groupKey });
}
