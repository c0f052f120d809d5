// Looks at the messages that stand open: Alertmanager does not notify again when only a value grows, and may lose the
// word that something is over (a silence, an inhibition, a restart). Once a minute.
import { dropWord, findMute, readDeliveries, readOpenNotices, sayAgain } from "../ledger/notices/notices.ts";
import type { Notice } from "../ledger/notices/notices.ts";
import type { NanoUsd } from "../ledger/money.ts";
import type { NoticesBooks } from "../ledger/books.ts";
import { mergeWords } from "./merge.ts";
import { OWN_SOURCE } from "./source.ts";
import type { AlertGroup } from "./webhook.ts";

export type WatchParts = {
  readonly notices: NoticesBooks;
  readonly figureOf: (group: AlertGroup) => Promise<NanoUsd | undefined>;
  readonly isActive: (group: AlertGroup) => Promise<boolean | undefined>;
  readonly now: () => number;
};

/** Said again when its figure has moved by this share. */
const MOVED = 10n;
/** Looks without anything active before a message is closed: Alertmanager may just have started anew. */
const MOST_ABSENT = 5;

/** One look. `absent` counts, from look to look, how often nothing of a group was active. Returns whether something is
 *  to be said. */
export async function lookAtNotices(
  { notices, figureOf, isActive, now }: WatchParts,
  absent: Map<string, number>,
): Promise<boolean> {
  let isNew = false;
  const open = await readOpenNotices(notices);
  for (const key of absent.keys()) if (!open.some(({ groupKey }) => groupKey === key)) absent.delete(key);
  for (const notice of open) {
    const words = await readDeliveries(notices, notice.groupKey);
    const merged = mergeWords(words);
    if (!merged) continue;
    const others = words.filter(({ source }) => source !== OWN_SOURCE);
    const gone = others.length > 0 && others.length === words.length && (await isActive(merged.group)) === false;
    absent.set(notice.groupKey, gone ? (absent.get(notice.groupKey) ?? 0) + 1 : 0);
    if ((absent.get(notice.groupKey) ?? 0) >= MOST_ABSENT) {
      for (const { source } of others) await dropWord(notices, notice.groupKey, source, now());
      absent.delete(notice.groupKey);
      isNew = true;
      continue;
    }
    if (await findMute(notices, notice.groupKey, now())) continue;
    if (merged.group.status === "firing" && hasMoved(notice, await figureOf(merged.group))) {
      await sayAgain(notices, notice.groupKey, now());
      isNew = true;
    }
  }
  return isNew;
}

function hasMoved({ figureNanoUsd: said }: Notice, figure: NanoUsd | undefined): boolean {
  if (said === null || figure === undefined) return false;
  const moved = figure > said ? figure - said : said - figure;
  return moved > 0n && moved * MOVED >= (said < 0n ? -said : said);
}
