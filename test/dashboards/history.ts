// What the dashboards are shown over in tests: a replayed organisation, its history in a real Prometheus, and all of
// their panels.
import { join } from "node:path";
import Database from "better-sqlite3";
import { DASHBOARDS } from "../../dashboards/all.ts";
import { writeOrganisation } from "../organisation.ts";
import { IS_CI, SEED } from "../seed.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { createAsker } from "./ask.ts";
import type { Asker, Target } from "./ask.ts";
import { startBackfilled } from "./backfilled.ts";

export const NOW_MS = Date.parse("2026-11-24T10:20:00Z");
export const HISTORY_DAYS = IS_CI ? 62 : 16;
const BOOK_DAYS = IS_CI ? 63 : 17;

export type Panel = {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description: string;
  readonly interval?: string;
  readonly timeFrom?: string;
  readonly fieldConfig: { readonly defaults: { readonly noValue?: string } };
  readonly targets: readonly Target[];
};
export type Dashboard = {
  readonly uid: string;
  readonly title: string;
  readonly time: { readonly from: string };
  readonly panels: readonly Panel[];
};

/** As they stand in `json/`. */
export const dashboards: readonly Dashboard[] = Object.values(DASHBOARDS).map(
  (built) => JSON.parse(JSON.stringify(built)) as Dashboard,
);

/** "finance / Spend today". */
export function nameOf({ uid }: Dashboard, { title }: Panel): string {
  return `${uid.slice("keymeter-".length)} / ${title}`;
}

/** Nothing may be wrong with these, so nothing may stand there. */
export const MAY_BE_EMPTY: ReadonlySet<string> = new Set([
  "reconciliation / Which prices differ from the bill?",
  "meter-health / Which providers fail?",
]);

export type History = {
  readonly folder: string;
  /** The key that dashboards of one key look at. */
  readonly keyId: string;
  readonly asker: Asker;
  stop(): Promise<void>;
};

/** `isPicture`: an organisation that is pleasant to look at, with a longer past; else one with names that break what is
 *  not careful. */
export async function startHistory(keys: number, isPicture = false): Promise<History> {
  process.stdout.write(`seed ${SEED}\n`);
  const folder = temporaryFolder();
  const historyDays = isPicture ? 62 : HISTORY_DAYS;
  const { keyIds } = await writeOrganisation({
    folder,
    days: isPicture ? historyDays + 1 : BOOK_DAYS,
    keys,
    seed: SEED,
    nowMs: NOW_MS,
    forecastDays: isPicture ? 40 : 8,
    teams: isPicture
      ? ["search", "support", "billing", "mobile", "research", "platform", ""]
      : ["search", "support", "ads", 'R&D "lab"', ""],
  });
  const keyId = keyIds[isPicture ? 3 : 1] ?? "";
  if (isPicture) giveNames(folder, keyIds);
  const prometheus = await startBackfilled(folder, historyDays, NOW_MS, { days: isPicture ? 7 : 1, keyId });
  return {
    folder,
    keyId,
    asker: createAsker(prometheus.url, { nowMs: NOW_MS, historyDays, keyId }),
    stop: async () => prometheus.stop(),
  };
}

const WORK = "search-ranker ticket-summaries invoice-reader app-assistant paper-digest code-review nightly-evals".split(
  " ",
);
const OWNERS = "ines noah mei tomas aisha lena ravi".split(" ");

function giveNames(folder: string, keyIds: readonly string[]): void {
  const books = new Database(join(folder, "usage.db"));
  const rename = books.prepare("UPDATE keys SET name = ?, person = ?, project = ? WHERE id = ?");
  for (const [i, id] of keyIds.entries()) {
    const work = WORK[i % WORK.length] ?? "";
    const copy = Math.floor(i / WORK.length);
    rename.run(
      copy === 0 ? work : `${work}-${copy + 1}`,
      `user_${OWNERS[(i * 3) % OWNERS.length]}`,
      `project-${i % 4}`,
      id,
    );
  }
  books.close();
}
