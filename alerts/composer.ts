// What is said of a group of alerts, with the figures of this moment: its message, its picture, and the money that it
// is about; and what is said of a week.
import { hostname } from "node:os";
import { drawSpend } from "../charts/spend.ts";
import { toPng } from "../charts/png.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { OtherBooks } from "./books.ts";
import type { AlertsConfig } from "./config.ts";
import { buildDigest } from "./digest.ts";
import { readCourse, readFigures } from "./figures.ts";
import type { Figures } from "./figures.ts";
import { buildMessage, principalOf } from "./message.ts";
import type { Links, Standing } from "./message.ts";
import type { NotifierParts } from "./notifier.ts";
import { isAboutNoSpend, overForecast } from "./texts.ts";
import type { AlertGroup } from "./webhook.ts";

export type Composer = Pick<NotifierParts, "compose" | "draw" | "digest"> & {
  /** The money that a group is about now. */
  readonly figureOf: (group: AlertGroup) => Promise<NanoUsd | undefined>;
};

type ComposerSettings = Pick<AlertsConfig, "timezone" | "command" | "runbookUrl" | "pagesUrl" | "grafanaUrl">;

export function createComposer(books: OtherBooks, settings: ComposerSettings, buttons: Standing["buttons"]): Composer {
  const { timezone, command } = settings;
  const links: Links = {
    pagesUrl: openable(settings.pagesUrl),
    grafanaUrl: openable(settings.grafanaUrl),
    runbookUrl: openable(settings.runbookUrl),
  };
  const figuresOf = async (group: AlertGroup): Promise<Figures> =>
    readFigures(await books.now(), principalOf(group), timezone, Date.now());
  return {
    async compose(group, notice, mute) {
      const figures = await figuresOf(group);
      const message = buildMessage(group, figures, {
        links,
        buttons,
        acknowledged: mute && { by: mute.mutedBy, untilMs: mute.untilMs },
        command,
        host: hostname(),
        before: notice && { postedAtMs: notice.postedAtMs, text: notice.text },
      });
      return { message, severity: principalOf(group)["severity"] ?? "", figureNanoUsd: moneyOf(figures) };
    },
    async draw(group) {
      const labels = group ? principalOf(group) : { scope: "org", id: "all", window: "month" };
      // A picture of what everybody spends says nothing about a leak or a bill.
      if (isAboutNoSpend(labels["alertname"] ?? "")) return undefined;
      const course = await readCourse(await books.now(), labels, Date.now());
      if (!course) return undefined;
      const title = `${course.subject}: spend ${course.window === "month" ? "this month" : "today"} against forecast`;
      const alt = `Spent $${course.spent.reduce((sum, one) => sum + one, 0).toFixed(2)}, forecast at the start $${course.expected.reduce((sum, one) => sum + one, 0).toFixed(2)}`;
      return { png: await toPng(await drawSpend({ ...course, title, timezone })), title, alt };
    },
    digest: async () => buildDigest(await books.now(), timezone, links, Date.now()),
    figureOf: async (group) => moneyOf(await figuresOf(group)),
  };
}

/** A URL that readers elsewhere can open; undefined for one of this machine alone. */
function openable(url: string | undefined): string | undefined {
  if (url === undefined) return undefined;
  const { hostname: host } = new URL(url);
  return host === "localhost" || host === "[::1]" || host.startsWith("127.") ? undefined : url.replace(/\/+$/, "");
}

/** What is over, or what is spent of a budget. */
function moneyOf(figures: Figures): NanoUsd | undefined {
  return figures.budget?.spentNanoUsd ?? overForecast(figures)?.amount;
}
