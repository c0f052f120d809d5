// The alerts program: Alertmanager's webhook in, Slack out, with notices.db in between.
import { lockForWriting, openForReading, openForWriting } from "../ledger/open.ts";
import type { Sqlite } from "../ledger/open.ts";
import { listen } from "../service/listener.ts";
import { createLog } from "../service/log.ts";
import type { Log } from "../service/log.ts";
import { createAlertsApp } from "./app.ts";
import { loadAlertsConfig } from "./config.ts";
import { readFigures } from "./figures.ts";
import { buildMessage } from "./message.ts";
import { startNotifier } from "./notifier.ts";
import { createSlack } from "./slack.ts";

export async function startAlerts(): Promise<{ stop(): Promise<void>; log: Log }> {
  const config = loadAlertsConfig();
  const log = createLog("alerts", config.logLevel);
  const path = `${config.dataDir}/notices.db`;
  const lock = lockForWriting(path);
  const database = openForWriting(path, "notices", "power");
  const { slackToken, slackChannel } = config;
  const slack =
    slackToken && slackChannel !== undefined ? createSlack(slackToken, slackChannel, config.slackUrl) : undefined;

  // The other programs' books may come later than we do.
  const readers = new Map<string, Sqlite>();
  const reader = (name: string): Sqlite | undefined => {
    const known = readers.get(name) ?? openForReading(`${config.dataDir}/${name}`);
    if (known) readers.set(name, known);
    return known;
  };
  const notifier = startNotifier(
    database,
    slack,
    async (group) => {
      const figures = await readFigures(
        { usage: reader("usage.db"), billing: reader("billing.db") },
        group.commonLabels,
        config.timezone,
        Date.now(),
      );
      return buildMessage(group, figures, { grafanaUrl: config.grafanaUrl, runbookUrl: config.runbookUrl });
    },
    log,
  );
  const app = createAlertsApp(database, notifier);
  const port = await listen(app, config.host, config.alertsPort, "KEYMETER_ALERTS_PORT");
  log.info({ port, slack: slack !== undefined }, "alerts is ready");
  process.send?.({ type: "ready", port, slack: slack !== undefined });
  return {
    log,
    async stop() {
      await app.close();
      await notifier.stop();
      for (const books of readers.values()) books.close();
      database.close();
      lock.release();
    },
  };
}
