// The alerts program: Alertmanager's webhook in, Slack out, with notices.db in between; and the rules evaluated here, while there is no
// Prometheus.
import { hostname } from "node:os";
import { createTask } from "node-cron";
import { drawSpend } from "../charts/spend.ts";
import { toPng } from "../charts/png.ts";
import {
  findOpenNotice,
  keepDigest,
  keepMute,
  keepReply,
  readDeliveries,
  sayAgain,
} from "../ledger/notices/notices.ts";
import type { NanoUsd } from "../ledger/money.ts";
import { openBilling, openToWrite, openUsage } from "../ledger/open.ts";
import { createCalendar } from "../ledger/windows.ts";
import { askProxy } from "../service/admin.ts";
import { toJson } from "../service/json.ts";
import { innerHostOf, noteOpenNetwork } from "../service/network.ts";
import { listen, metricsGuard } from "../service/listener.ts";
import { createLog } from "../service/log.ts";
import type { Log } from "../service/log.ts";
import { createAlertmanagerApi, readGrouping } from "./alertmanager.ts";
import { createAlertsApp } from "./app.ts";
import { listenToButtons } from "./buttons.ts";
import { checkAlertmanagers, checkSlack } from "./check.ts";
import { loadAlertsConfig } from "./config.ts";
import { keepSecret } from "../service/secret.ts";
import { buildDigest } from "./digest.ts";
import { readCourse, readFigures } from "./figures.ts";
import type { FigureBooks } from "./figures.ts";
import type { Figures } from "./figures.ts";
import { mergeWords } from "./merge.ts";
import { buildMessage, isAboutNoSpend, principalOf } from "./message.ts";
import { startNotifier } from "./notifier.ts";
import { createOwnRules } from "./own-rules.ts";
import { readRules } from "./rules.ts";
import { createSlack } from "./slack.ts";
import type { Picture } from "./slack.ts";
import { overForecast } from "./texts.ts";
import { lookAtNotices } from "./watch.ts";
import type { AlertGroup } from "./webhook.ts";

const LOOK_MS = 60_000;

export async function startAlerts(): Promise<{ stop(): Promise<void>; log: Log }> {
  const config = loadAlertsConfig();
  const log = createLog("alerts", config.logLevel);
  const open = noteOpenNetwork(config);
  if (open !== undefined) log.warn(open);
  const guard = metricsGuard(config, (message) => log.warn(message));
  const notices = await openToWrite(config.dataDir, "notices");
  const { slackToken, slackChannel, slackAppToken } = config;
  const slack = slackToken && slackChannel !== undefined ? createSlack(slackToken, config.slackUrl) : undefined;

  // The other programs' books may come later than we do.
  const usage = createLate(() => openUsage(config.dataDir));
  const billing = createLate(() => openBilling(config.dataDir));
  const books = async (): Promise<FigureBooks> => ({ usage: await usage.get(), billing: await billing.get() });
  const grouping = readGrouping();
  const alertmanager = createAlertmanagerApi(config.alertmanagerUrls, grouping.groupBy);
  const links = {
    pagesUrl: openable(config.pagesUrl),
    grafanaUrl: openable(config.grafanaUrl),
    runbookUrl: openable(config.runbookUrl),
  };
  const hasButtons = slack !== undefined && slackAppToken !== undefined;
  const buttons = hasButtons ? { mayChange: config.slackUsers.length > 0 } : undefined;
  const figuresOf = async (group: AlertGroup): Promise<Figures> =>
    readFigures(await books(), principalOf(group), config.timezone, Date.now());

  const draw = async (group: AlertGroup | undefined): Promise<Picture | undefined> => {
    const labels = group ? principalOf(group) : { scope: "org", id: "all", window: "month" };
    // A picture of what everybody spends says nothing about a leak or a bill.
    if (isAboutNoSpend(labels["alertname"] ?? "")) return undefined;
    const course = await readCourse(await books(), labels, Date.now());
    if (!course) return undefined;
    const title = `${course.subject}: spend ${course.window === "month" ? "this month" : "today"} against forecast`;
    const alt = `Spent $${course.spent.reduce((sum, one) => sum + one, 0).toFixed(2)}, forecast at the start $${course.expected.reduce((sum, one) => sum + one, 0).toFixed(2)}`;
    return { png: await toPng(await drawSpend({ ...course, title, timezone: config.timezone })), title, alt };
  };
  const notifier = startNotifier({
    notices,
    slack,
    channelOf: ({ commonLabels }) => config.slackChannels[commonLabels["team"] ?? ""] ?? slackChannel ?? "",
    defaultChannel: slackChannel ?? "",
    compose: async (group, notice, mute) => {
      const figures = await figuresOf(group);
      const message = buildMessage(group, figures, {
        links,
        buttons,
        acknowledged: mute && { by: mute.mutedBy, untilMs: mute.untilMs },
        command: config.command,
        host: hostname(),
        before: notice && { postedAtMs: notice.postedAtMs, text: notice.text },
      });
      return { message, severity: principalOf(group)["severity"] ?? "", figureNanoUsd: figureOf(figures) };
    },
    draw,
    digest: async () => buildDigest(await books(), config.timezone, links, Date.now()),
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
    async (isSaid) => [...(isSaid ? [] : await checkAlertmanagers(config)), ...(await checkSlack(config, isSaid))],
    guard,
  );
  const port = await listen(app, innerHostOf(config), config.alertsPort, "KEYMETER_ALERTS_PORT");

  const acknowledge = async (groupKey: string, by: string): Promise<void> => {
    const group = mergeWords(await readDeliveries(notices, groupKey))?.group;
    const open = await findOpenNotice(notices, groupKey);
    if (!group || !open) return;
    const nowMs = Date.now();
    const untilMs = createCalendar(config.timezone).window("day", nowMs).endMs;
    const silences = await alertmanager.silence(group, untilMs, by, nowMs);
    await keepMute(notices, { groupKey, untilMs, mutedBy: by, mutedAtMs: nowMs, silence: silences.join(",") || null });
    await sayAgain(notices, groupKey, nowMs);
    notifier.wake();
  };
  const change: Parameters<typeof listenToButtons>[2]["change"] = async (made, actor) => {
    await askProxy(config, "POST", "/admin/changes", toJson(made), config.adminToken.reveal(), actor);
  };
  const listening =
    slackAppToken && hasButtons
      ? listenToButtons(slackAppToken, config.slackUrl, {
          mayChange: config.slackUsers,
          timezone: config.timezone,
          usage: usage.get,
          change,
          acknowledge,
          command: config.command,
          refresh: async (groupKey) => {
            await sayAgain(notices, groupKey, Date.now());
            notifier.wake();
          },
          reply: async (groupKey, text) => {
            await keepReply(notices, groupKey, JSON.stringify({ text, isLoud: false }), Date.now());
            notifier.wake();
          },
          log,
        })
      : undefined;

  const absent = new Map<string, number>();
  const every = (ms: number, what: string, work: () => Promise<void>): NodeJS.Timeout => {
    let running = false;
    return setInterval(() => {
      if (running) return;
      running = true;
      void work()
        .catch((error: unknown) => log.warn({ err: error }, `${what} failed; it is tried again`))
        .finally(() => (running = false));
    }, ms);
  };
  const timers = [
    every(config.scrapeSeconds * 1000, "evaluating the rules", async () => void (await ownRules.step())),
    every(LOOK_MS, "looking at open messages", async () => {
      const parts = {
        notices,
        figureOf: async (group: AlertGroup) => figureOf(await figuresOf(group)),
        now: Date.now,
      };
      if (await lookAtNotices({ ...parts, isActive: (group) => alertmanager.isActive(group) }, absent)) notifier.wake();
    }),
  ];
  const digest = createTask(
    config.digestCron,
    async () => {
      const day = createCalendar(config.timezone).window("week", Date.now()).firstDay;
      if (await keepDigest(notices, `digest:${day}`, Date.now())) notifier.wake();
    },
    { timezone: config.timezone },
  );
  await digest.start();

  // Alertmanager reads it from the file.
  keepSecret(config.dataDir, "webhook-token", config.webhookToken);
  if (config.webhookToken.isNew)
    log.warn(
      { file: `${config.dataDir}/webhook-token` },
      "deliveries need a token from now on: put it into Alertmanager's webhook (http_config.authorization.credentials_file, see alerts/alertmanager.yaml); until then they are said, marked, and end nothing",
    );
  log.info({ port, slack: slack !== undefined }, "alerts is ready");
  process.send?.({ type: "ready", port, slack: slack !== undefined });
  return {
    log,
    async stop() {
      for (const timer of timers) clearInterval(timer);
      await digest.destroy();
      await listening?.stop();
      await app.close();
      await notifier.stop();
      await usage.close();
      await billing.close();
      await notices.close();
    },
  };
}

/** Books that may not be there yet: looked for again each time, until they are. */
function createLate<T extends { close(): Promise<void> }>(
  open: () => Promise<T | undefined>,
): { readonly get: () => Promise<T | undefined>; close(): Promise<void> } {
  let found: T | undefined;
  let opening: Promise<T | undefined> | undefined;
  const look = async (): Promise<T | undefined> => {
    try {
      return (found = await open());
    } finally {
      opening = undefined;
    }
  };
  return {
    get: async () => found ?? (opening ??= look()),
    async close() {
      await found?.close();
    },
  };
}

/** A URL that readers elsewhere can open; undefined for one of this machine alone. */
function openable(url: string | undefined): string | undefined {
  if (url === undefined) return undefined;
  const { hostname: host } = new URL(url);
  return host === "localhost" || host === "[::1]" || host.startsWith("127.") ? undefined : url.replace(/\/+$/, "");
}

/** The money that a message is about: what is over, or what is spent of a budget. */
function figureOf(figures: Figures): NanoUsd | undefined {
  return figures.budget?.spentNanoUsd ?? overForecast(figures)?.amount;
}
