// What people press in Slack, over Socket Mode: no public address is needed. Acknowledge is everybody's; pausing a key
// and raising a budget are for the people whom the settings name, and go into the audit with their name.
import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { findBudget } from "../ledger/budgets.ts";
import type { Budget } from "../ledger/budgets.ts";
import { approvalOf } from "../ledger/usage/approval.ts";
import { readAskedRaises } from "../ledger/usage/asked-raises.ts";
import { readBudgets } from "../ledger/usage/changes.ts";
import { ChangeRefused } from "../ledger/usage/change-refused.ts";
import type { Change } from "../ledger/usage/changes.ts";
import { formatUsd } from "../ledger/money.ts";
import { createCalendar, DAY_MS } from "../ledger/windows.ts";
import type { UsageBooks } from "../ledger/books.ts";
import { escape } from "./message.ts";
import type { Log } from "../service/log.ts";
import type { Secret } from "../service/secret.ts";

/** A press, as Slack tells it. */
type Press = {
  readonly action: string;
  readonly value: string;
  readonly userId: string;
  readonly userName: string;
};

export type ButtonParts = {
  /** Who may change something: ids of people in Slack. */
  readonly mayChange: readonly string[];
  readonly timezone: string;
  readonly usage: () => Promise<UsageBooks | undefined>;
  readonly change: (change: Change, actor: string) => Promise<void>;
  /** Does what a program can about a leaked key, and says what it did. */
  readonly leak: (provider: string, billedKey: string, actor: string) => Promise<readonly string[]>;
  readonly acknowledge: (groupKey: string, by: string) => Promise<void>;
  /** Says something in the thread of a group's message. */
  readonly reply: (groupKey: string, text: string) => Promise<void>;
  /** Says a group's message anew, with what is paused or raised now. */
  readonly refresh: (groupKey: string) => Promise<void>;
  /** How the command is typed where Keymeter runs. */
  readonly command: string;
  readonly log: Log;
  readonly now?: () => number;
};

/** A share of the amount. */
const RAISE = 5n;

/** Does what was pressed, and says in the thread what was done, or why not. */
async function press(parts: ButtonParts, { action, value, userId, userName }: Press): Promise<void> {
  const { mayChange, usage, change, acknowledge, reply, refresh, command, now = Date.now } = parts;
  /** A raise lasts until the window ends; where it has no end, for a week. */
  const endOf = ({ window }: Budget, nowMs: number): number =>
    window === "total" ? nowMs + 7 * DAY_MS : createCalendar(parts.timezone).window(window, nowMs).endMs;
  const actor = `slack:${userName === "" ? userId : userName}`;
  if (action === "keymeter_acknowledge") return acknowledge(value, userName === "" ? userId : userName);
  const [id = "", ...rest] = value.split(" ");
  const groupKey = rest.join(" ");
  if (!mayChange.includes(userId))
    return reply(
      groupKey,
      `<@${userId}> may not do that: only people named under \`alerts.slack_users\` may (this is ${userId}). Nothing was changed.`,
    );
  try {
    if (action === "keymeter_pause" || action === "keymeter_resume") {
      const isPause = action === "keymeter_pause";
      await change({ type: "setKeyState", keyId: id, state: isPause ? "paused" : "active" }, actor);
      await refresh(groupKey);
      return await reply(
        groupKey,
        isPause
          ? `<@${userId}> paused ${id}: its requests are refused. \`${command} keys resume ${id}\` lets it through again.`
          : `<@${userId}> resumed ${id}: its requests are let through again.`,
      );
    }
    if (action === "keymeter_leak") {
      const [provider = "", billedKey = ""] = id.split("/").map(decodeURIComponent);
      const said = await parts.leak(provider, billedKey, actor);
      await refresh(groupKey);
      const note = `\`${command} leak ${provider} ${billedKey} --note\` writes the note for finance.`;
      return await reply(
        groupKey,
        [`<@${userId}> took care of ${escape(billedKey)}:`, ...said.map(escape), note].join("\n"),
      );
    }
    if (action === "keymeter_approve" || action === "keymeter_refuse") {
      const books = await usage();
      const asked = books && (await readAskedRaises(books, 0)).find((one) => one.id === id);
      if (!books || !asked) throw new ChangeRefused(`nobody asked ${id}`);
      if (action === "keymeter_refuse") {
        await change({ type: "answerAsk", askId: id, answer: "refused" }, actor);
        await refresh(groupKey);
        return await reply(groupKey, `<@${userId}> refused ${id}: nothing was raised.`);
      }
      const budget = findBudget(await readBudgets(books), asked.budgetId);
      if (!budget) throw new ChangeRefused(`budget ${asked.budgetId} was removed since; refuse it`);
      const nowMs = now();
      const { amountNanoUsd } = asked;
      const untilMs = endOf(budget, nowMs);
      const approval = approvalOf(asked, { amountNanoUsd, untilMs }, nowMs);
      await change(approval.change, actor);
      await refresh(groupKey);
      return await reply(
        groupKey,
        `<@${userId}> approved ${id}: ${budget.id} has ${formatUsd(amountNanoUsd)} more until ${new Date(untilMs).toISOString().slice(0, 16)}Z (${approval.raiseId}).`,
      );
    }
    if (action === "keymeter_raise") {
      const books = await usage();
      const budget = books && findBudget(await readBudgets(books), id);
      if (!budget) throw new ChangeRefused(`there is no budget ${id} any more`);
      const nowMs = now();
      const raise = {
        id: `rai_${randomBytes(5).toString("hex")}`,
        budgetId: id,
        amountNanoUsd: budget.amountNanoUsd / RAISE,
        reason: `pressed in Slack by ${actor.slice("slack:".length)}`,
        createdAtMs: nowMs,
        untilMs: endOf(budget, nowMs),
      };
      await change({ type: "raiseBudget", raise }, actor);
      await refresh(groupKey);
      return await reply(
        groupKey,
        `<@${userId}> raised ${id} by ${formatUsd(raise.amountNanoUsd)} until ${new Date(raise.untilMs).toISOString().slice(0, 16)}Z (${raise.id}).`,
      );
    }
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return reply(groupKey, `Could not be done: ${escape(why)}`);
  }
}

/** Listens to what is pressed, as long as it runs. Slack hears at once that it arrived, whatever comes of it. */
export function listenToButtons(appToken: Secret, slackUrl: string, parts: ButtonParts): { stop(): Promise<void> } {
  const { SocketModeClient } = createRequire(import.meta.url)(
    "@slack/socket-mode",
  ) as typeof import("@slack/socket-mode");
  const client = new SocketModeClient({ appToken: appToken.reveal(), clientOptions: { slackApiUrl: slackUrl } });
  client.on("interactive", ({ ack, body }: { ack: () => Promise<void>; body: unknown }) => {
    void (async () => {
      await ack();
      for (const one of readPresses(body)) await press(parts, one);
    })().catch((error: unknown) => parts.log.error({ err: error }, "a button did nothing"));
  });
  // The client goes on trying by itself; nothing else waits for it.
  client.start().catch((error: unknown) => {
    parts.log.error({ err: error }, "Slack's Socket Mode cannot be reached: buttons do nothing; check SLACK_APP_TOKEN");
  });
  return { stop: () => client.disconnect() };
}

/** The presses in a payload of Slack's; none in what is something else. */
function readPresses(body: unknown): Press[] {
  const { type, user, actions } = (body ?? {}) as {
    type?: string;
    user?: { id?: string; name?: string; username?: string };
    actions?: { action_id?: string; value?: string }[];
  };
  if (type !== "block_actions" || user?.id === undefined) return [];
  const { id: userId, name, username } = user;
  return (actions ?? []).flatMap(({ action_id: action, value }) =>
    action?.startsWith("keymeter_") === true && value !== undefined
      ? [{ action, value, userId, userName: name ?? username ?? "" }]
      : [],
  );
}
