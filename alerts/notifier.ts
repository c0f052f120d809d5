// The notifier: takes deliveries out of the outbox and says them in Slack. One message a group, updated in place, resolved
// when the group resolves. A delivery leaves the outbox in the transaction that notes what was said.
import { dropDelivery, findOpenNotice, noteFailure, noteSaid, readDeliveries } from "../ledger/notices.ts";
import type { Delivery } from "../ledger/notices.ts";
import type { Sqlite } from "../ledger/open.ts";
import type { Log } from "../service/log.ts";
import type { Message } from "./message.ts";
import type { Slack, SlackOutcome } from "./slack.ts";
import { parseDelivery } from "./webhook.ts";
import type { AlertGroup } from "./webhook.ts";

export type Notifier = {
  /** Something new is in the outbox. */
  wake(): void;
  /** Messages sent, failures, and why the last one failed. */
  status(): { readonly sent: number; readonly failed: number; readonly lastError: string | undefined };
  stop(): Promise<void>;
};

export type Compose = (group: AlertGroup) => Promise<Message>;

export function startNotifier(
  database: Sqlite,
  slack: Slack | undefined,
  compose: Compose,
  log: Log,
  now: () => number = Date.now,
): Notifier {
  let timer: NodeJS.Timeout | undefined;
  let working: Promise<void> = Promise.resolve();
  let stopped = false;
  let sent = 0;
  let failed = 0;
  let lastError: string | undefined;

  const schedule = (delayMs: number): void => {
    clearTimeout(timer);
    if (!stopped) timer = setTimeout(() => void (working = working.then(work)), delayMs);
  };

  const work = async (): Promise<void> => {
    if (!slack) return;
    for (const delivery of await readDeliveries(database)) {
      if (stopped) return;
      const outcome = await say(database, slack, compose, delivery, now());
      if (outcome === undefined) continue;
      if (outcome.ok) {
        sent += 1;
        lastError = undefined;
        continue;
      }
      failed += 1;
      lastError = outcome.error;
      log.warn(
        { group: delivery.groupKey, error: outcome.error, attempts: delivery.attempts + 1 },
        "Slack did not take a message; it stays in the outbox",
      );
      await noteFailure(database, delivery.id, outcome.error);
      // One channel, one queue: what the first one has to wait for the next ones wait for too.
      return schedule(outcome.retryAfterMs);
    }
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

async function say(
  database: Sqlite,
  slack: Slack,
  compose: Compose,
  delivery: Delivery,
  nowMs: number,
): Promise<SlackOutcome | undefined> {
  const group = parseDelivery(JSON.parse(delivery.payload));
  const open = await findOpenNotice(database, delivery.groupKey);
  // Over before it was ever said: nobody needs to hear of it.
  if (!group || (group.status === "resolved" && !open)) {
    await dropDelivery(database, delivery.id);
    return undefined;
  }
  const message = await compose(group);
  let outcome = open ? await slack.update(open.channel, open.ts, message) : await slack.post(message);
  if (!outcome.ok && outcome.gone) outcome = await slack.post(message);
  if (outcome.ok)
    await noteSaid(
      database,
      delivery,
      { channel: outcome.channel, ts: outcome.ts, state: group.status, text: message.text },
      nowMs,
    );
  return outcome;
}
