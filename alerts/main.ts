// The alerts program: Alertmanager's webhook in, Slack out, with notices.db in between; and the rules evaluated here,
// while there is no Prometheus.
import { createTask } from "node-cron";
import type { ScheduledTask } from "node-cron";
import {
  findOpenNotice,
  keepDigest,
  keepMute,
  keepReply,
  readDeliveries,
  readOpenNotices,
  sayAgain,
} from "../ledger/notices/notices.ts";
import type { NoticesBooks } from "../ledger/books.ts";
import { openToWrite } from "../ledger/open.ts";
import { createCalendar } from "../ledger/windows.ts";
import { placeOf } from "../service/config.ts";
import { askProgram, askProxy } from "../service/admin.ts";
import { toJson } from "../service/json.ts";
import { innerHostOf, noteOpenNetwork } from "../service/network.ts";
import { listen, metricsGuard } from "../service/listener.ts";
import { createLog } from "../service/log.ts";
import type { Log } from "../service/log.ts";
import { HeldSecret, openSecrets, SecretUnavailable } from "../service/secrets/index.ts";
import { keepSecret } from "../service/secret.ts";
import { createAlertmanagerApi, readGrouping } from "./alertmanager.ts";
import type { AlertmanagerApi } from "./alertmanager.ts";
import { createAlertsApp } from "./app.ts";
import { openOtherBooks } from "./books.ts";
import type { OtherBooks } from "./books.ts";
import { listenToButtons } from "./buttons.ts";
import { checkAlertmanagers, checkReceivers, checkRoutes, checkSlack } from "./check.ts";
import { createComposer } from "./composer.ts";
import type { Composer } from "./composer.ts";
import { loadAlertsConfig } from "./config.ts";
import type { AlertsConfig } from "./config.ts";
import { mergeWords } from "./merge.ts";
import { startNotifier } from "./notifier.ts";
import type { Notifier } from "./notifier.ts";
import { createOwnRules } from "./own-rules.ts";
import type { OwnRules } from "./own-rules.ts";
import { readRules } from "./rules.ts";
import { channelAt, createReceivers } from "./receivers/index.ts";
import { routeOf } from "./receivers/settings.ts";
import { listenToTelegram } from "./receivers/telegram.ts";
import type { TelegramSettings } from "./receivers/telegram.ts";
import type { createSlack, Slack } from "./receivers/slack.ts";
import { lookAtNotices } from "./watch.ts";
import type { AlertGroup } from "./webhook.ts";

const LOOK_MS = 60_000;

/** What the program is made of, for the parts below. */
type Parts = {
  readonly config: AlertsConfig;
  readonly log: Log;
  readonly notices: NoticesBooks;
  readonly books: OtherBooks;
  readonly alertmanager: AlertmanagerApi;
  readonly composer: Composer;
  readonly notifier: Notifier;
};

export async function startAlerts(): Promise<{ stop(): Promise<void>; log: Log }> {
  const config = loadAlertsConfig();
  const log = createLog("alerts", config.logLevel);
  const open = noteOpenNetwork(config);
  if (open !== undefined) log.warn(open);
  const secrets = await openSecrets(config, log, [
    config.ledgerUrl,
    config.adminToken,
    config.webhookToken,
    config.metricsToken,
  ]);
  const guard = metricsGuard(config, (message) => log.warn(message));
  const notices = await openToWrite(placeOf(config), "notices", undefined, (who) => {
    log.info({ leader: who }, "standing by: another alerts program leads");
  });
  const books = openOtherBooks(placeOf(config));
  const grouping = readGrouping();
  const alertmanager = createAlertmanagerApi(config.alertmanagerUrls, grouping.groupBy);
  const { slackToken, slackChannel, slackAppToken } = config;
  const slack = slackToken && slackChannel !== undefined ? await openSlack(slackToken, config.slackUrl) : undefined;
  const hasButtons = slack !== undefined && slackAppToken !== undefined;
  const composer = createComposer(books, config, hasButtons ? { mayChange: config.slackUsers.length > 0 } : undefined);
  const { receivers, routes, digestTo } = config;
  const named = new Map(receivers.map(({ name, make }) => [name, make((what) => log.warn(what))]));
  const defaultChannel = slack && slackChannel !== undefined ? slackChannel : (routeOf(routes, receivers, {}) ?? "");
  const notifier = startNotifier({
    notices,
    receiver: slack || named.size > 0 ? createReceivers(slack, named, Date.now) : undefined,
    channelOf: ({ commonLabels }) =>
      routeOf(routes, receivers, commonLabels) ?? config.slackChannels[commonLabels["team"] ?? ""] ?? defaultChannel,
    defaultChannel,
    digestChannel: receivers.find(({ name }) => name === digestTo)?.channel ?? defaultChannel,
    compose: composer.compose,
    draw: composer.draw,
    digest: composer.digest,
    isActive: (group) => alertmanager.isActive(group),
    log,
  });
  const ownRules = createOwnRules({
    notices,
    rules: readRules(),
    grouping,
    targets: config.targets,
    metricsToken: guard.token,
    mode: config.ownRules,
    wake: () => notifier.wake(),
    log,
  });
  const app = createAlertsApp(
    notices,
    notifier,
    ownRules,
    config.webhookToken,
    async (isSaid) => [
      ...(isSaid ? [] : await checkAlertmanagers(config)),
      ...(await checkSlack(config, isSaid)),
      ...(await checkReceivers(config, isSaid)),
      ...checkRoutes(config),
    ],
    guard,
    config,
  );
  for (const { said, mend } of checkRoutes(config)) log.warn(`alerts.routes: ${said}; ${mend}`);
  const port = await listen(app, innerHostOf(config), config.alertsPort, "KEYMETER_ALERTS_PORT");
  const parts: Parts = { config, log, notices, books, alertmanager, composer, notifier };
  const buttons = hasButtons ? startButtons(parts, slackAppToken) : undefined;
  const presses = hearTelegram(parts);
  const timers = startLooking(parts, ownRules);
  const digest = await scheduleDigest(parts);
  keepWebhookToken(config, log);
  log.info({ port, slack: slack !== undefined }, "alerts is ready");
  process.send?.({ type: "ready", port, slack: slack !== undefined });
  return {
    log,
    async stop() {
      secrets.stop();
      for (const timer of timers) clearInterval(timer);
      await digest.destroy();
      await buttons?.stop();
      await Promise.all(presses.map((one) => one.stop()));
      await app.close();
      await notifier.stop();
      await books.close();
      await notices.close();
    },
  };
}

/** Slack's client is loaded only where there is a Slack. */
async function openSlack(...settings: Parameters<typeof createSlack>): Promise<Slack> {
  return (await import("./receivers/slack.ts")).createSlack(...settings);
}

/** Listens by the token as it is; with another one anew. */
function startButtons(parts: Parts, appToken: NonNullable<AlertsConfig["slackAppToken"]>): { stop(): Promise<void> } {
  const { config } = parts;
  const listen = (): { stop(): Promise<void> } | undefined => {
    try {
      return listenToButtons(appToken, config.slackUrl, buttonParts(parts));
    } catch (error) {
      // It is listened when the token was read.
      if (error instanceof SecretUnavailable) return undefined;
      throw error;
    }
  };
  let listening = listen();
  if (appToken instanceof HeldSecret)
    appToken.onChange(() => {
      void listening?.stop();
      listening = listen();
    });
  return { stop: async () => listening?.stop() };
}

/** Presses of Acknowledge in Telegram, of the message that stands there: one listener a bot, for all chats of it. */
function hearTelegram(parts: Parts): { stop(): Promise<void> }[] {
  const { config, notices, log } = parts;
  const bots = config.receivers.flatMap(({ name, telegram }) => (telegram ? [{ name, telegram }] : []));
  const botOf = ({ url, token }: TelegramSettings): string =>
    `${url} ${token instanceof HeldSecret ? JSON.stringify(token.reference) : token.reveal()}`;
  const byBot = Map.groupBy(bots, ({ telegram }) => botOf(telegram));
  return [...byBot.values()].flatMap((rows) => {
    const [first] = rows;
    if (!first) return [];
    const acknowledgeAt = async (chat: string, messageId: string, by: string): Promise<string> => {
      const channels = new Set(rows.map(({ name }) => channelAt(name, chat)));
      const open = (await readOpenNotices(notices)).find(
        ({ channel, ts }) => channels.has(channel) && ts === messageId,
      );
      if (!open) return "This is over already.";
      await acknowledge(parts, open.groupKey, by);
      return "Acknowledged until the day ends.";
    };
    return [listenToTelegram(first.telegram, acknowledgeAt, (what) => log.warn(what))];
  });
}

function buttonParts(parts: Parts): Parameters<typeof listenToButtons>[2] {
  const { config, log, notices, books, notifier } = parts;
  return {
    mayChange: config.slackUsers,
    timezone: config.timezone,
    usage: books.usage,
    async change(made, actor) {
      await askProxy(config, "POST", "/admin/changes", toJson(made), config.adminToken.reveal(), actor);
    },
    async leak(provider, billedKey, by) {
      const task = toJson({ type: "leak", provider, billedKey, by, without: [] });
      const token = config.adminToken.reveal();
      const answer = await askProgram(config, "collector", "POST", "/admin/tasks", task, token, by);
      return (answer as { said: string[] }).said;
    },
    acknowledge: (groupKey, by) => acknowledge(parts, groupKey, by),
    command: config.command,
    async refresh(groupKey) {
      await sayAgain(notices, groupKey, Date.now());
      notifier.wake();
    },
    async reply(groupKey, text) {
      await keepReply(notices, groupKey, JSON.stringify({ text, isLoud: false }), Date.now());
      notifier.wake();
    },
    log,
  };
}

/** Somebody has taken a group on: it is quiet for everybody until the day ends, here and in Alertmanager. */
async function acknowledge(
  { config, notices, alertmanager, notifier }: Parts,
  groupKey: string,
  by: string,
): Promise<void> {
  const group = mergeWords(await readDeliveries(notices, groupKey))?.group;
  const open = await findOpenNotice(notices, groupKey);
  if (!group || !open) return;
  const nowMs = Date.now();
  const untilMs = createCalendar(config.timezone).window("day", nowMs).endMs;
  const silences = await alertmanager.silence(group, untilMs, by, nowMs);
  await keepMute(notices, { groupKey, untilMs, mutedBy: by, mutedAtMs: nowMs, silence: silences.join(",") || null });
  await sayAgain(notices, groupKey, nowMs);
  notifier.wake();
}

/** Evaluates the rules, and looks at the messages that stand open, each in its own time. */
function startLooking(
  { config, log, notices, alertmanager, composer, notifier }: Parts,
  ownRules: OwnRules,
): NodeJS.Timeout[] {
  const absent = new Map<string, number>();
  const look = {
    notices,
    figureOf: composer.figureOf,
    isActive: (group: AlertGroup) => alertmanager.isActive(group),
    now: Date.now,
  };
  return [
    every(config.scrapeSeconds * 1000, "evaluating the rules", log, async () => void (await ownRules.step())),
    every(LOOK_MS, "looking at open messages", log, async () => {
      if (await lookAtNotices(look, absent)) notifier.wake();
    }),
  ];
}

/** Does work again and again, once at a time. */
function every(ms: number, what: string, log: Log, work: () => Promise<void>): NodeJS.Timeout {
  let running = false;
  return setInterval(() => {
    if (running) return;
    running = true;
    void work()
      .catch((error: unknown) => log.warn({ err: error }, `${what} failed; it is tried again`))
      .finally(() => (running = false));
  }, ms);
}

async function scheduleDigest({ config, notices, notifier }: Parts): Promise<ScheduledTask> {
  const task = createTask(
    config.digestCron,
    async () => {
      const day = createCalendar(config.timezone).window("week", Date.now()).firstDay;
      if (await keepDigest(notices, `digest:${day}`, Date.now())) notifier.wake();
    },
    { timezone: config.timezone },
  );
  await task.start();
  return task;
}

/** Alertmanager reads it from the file. */
function keepWebhookToken({ dataDir, webhookToken }: AlertsConfig, log: Log): void {
  keepSecret(dataDir, "webhook-token", webhookToken);
  if (webhookToken.isNew)
    log.warn(
      { file: `${dataDir}/webhook-token` },
      "deliveries need a token from now on: put it into Alertmanager's webhook (http_config.authorization.credentials_file, see alerts/alertmanager.yaml); until then they are said, marked, and end nothing",
    );
}
