// What the dashboards are shown over in tests: a replayed organisation, its history in a real Prometheus, and all of their panels.
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
  readonly targets: readonly Target[];
};
export type Dashboard = { readonly uid: string; readonly title: string; readonly panels: readonly Panel[] };

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
  "reconciliation / Prices that differ from the bill",
  "meter-health / Burn rates over an hour",
  "reconciliation / Bill last read",
  "meter-health / Failed by the provider",
]);

export type History = {
  readonly folder: string;
  /** The key that dashboards of one key look at. */
  readonly keyId: string;
  readonly asker: Asker;
  stop(): Promise<void>;
};

export async function startHistory(keys: number): Promise<History> {
  process.stdout.write(`seed ${SEED}\n`);
  const folder = temporaryFolder();
  const { keyIds } = await writeOrganisation({
    folder,
    days: BOOK_DAYS,
    keys,
    seed: SEED,
    nowMs: NOW_MS,
    forecastDays: 8,
    teams: ["search", "support", "ads", 'R&D "lab"', ""],
  });
  const keyId = keyIds[1] ?? "";
  const prometheus = await startBackfilled(folder, HISTORY_DAYS, NOW_MS);
  return {
    folder,
    keyId,
    asker: createAsker(prometheus.url, { nowMs: NOW_MS, historyDays: HISTORY_DAYS, keyId }),
    stop: async () => prometheus.stop(),
  };
}
