// What the command has the collector do: in the collector that runs, or here, with its lock, when none does.
import { ChangeRefused } from "../ledger/usage/change-refused.ts";
import { LedgerInUse } from "../ledger/books.ts";
import { openPriceBook } from "../ledger/prices/price-list.ts";
import type { Adjustment } from "../ledger/usage/adjustments.ts";
import { askProgram, makeChange } from "../service/admin.ts";
import { toJson } from "../service/json.ts";
import { createLog } from "../service/log.ts";
import { openBooks } from "./books.ts";
import { loadCollectorConfig } from "./config.ts";
import { openSecrets } from "../service/secrets/index.ts";
import type { CollectorConfig } from "./config.ts";
import type { CollectorBooks } from "./compare.ts";
import { refreshForecasts } from "./freeze.ts";
import { writeLeakNote } from "./leak/note.ts";
import type { LeakNote } from "./leak/note.ts";
import { actOnLeak } from "./leak/playbook.ts";
import type { LeakContext, LeakStep } from "./leak/playbook.ts";
import { createImporters } from "./importers/index.ts";
import { ImportError } from "./importers/importer.ts";
import { reconcileBills, watchUsage } from "./jobs.ts";
import { statedOf } from "./match.ts";
import { fetchPriceList } from "./price-list.ts";
import { perform } from "./tasks.ts";

import type { Task } from "./tasks.ts";

export { LEAK_STEPS } from "./leak/playbook.ts";
export type { LeakStep } from "./leak/playbook.ts";
export { findRotation, handInKey, planRotation, reportRotations, requireOwnKeyRotation } from "./rotation/ask.ts";

const NO_READER =
  "no billing reader is configured: set OPENAI_ADMIN_KEY, ANTHROPIC_ADMIN_KEY or KEYMETER_GOOGLE_BILLING_CREDENTIALS and KEYMETER_GOOGLE_BILLING_TABLE, or import a file with `keymeter import`";

export const COLLECTOR_JOBS = ["forecast", "reconcile", "watch", "prices"] as const;
export type CollectorJob = (typeof COLLECTOR_JOBS)[number];

/** Runs one job and ends: for `keymeter collector --once JOB`. Returns what failed, as sentences. */
export async function runCollectorJob(
  job: CollectorJob,
  onProgress: (text: string) => void = () => undefined,
): Promise<string[]> {
  const config = loadCollectorConfig();
  const log = createLog("collector", config.logLevel);
  (await openSecrets(config, log)).stop();
  if (job === "prices") {
    const failure = await fetchPriceList(config, config.priceListUrl);
    return failure === undefined ? [] : [failure];
  }
  const importers = await createImporters(config, log);
  if (job !== "forecast" && importers.length === 0) return [NO_READER];
  const { books, close } = await openBooks(config, log, 0);
  try {
    if (job === "forecast") {
      await refreshForecasts(books, config.timezone, Date.now());
      return [];
    }
    const prices = openPriceBook(config.dataDir, [], [], (message) => log.error(message));
    if (job === "reconcile")
      return await reconcileBills(books, importers, config, prices, adjustAnyhow(config), log, onProgress);
    return await watchUsage(books, importers, statedOf(config), prices, Date.now(), log);
  } finally {
    await close();
  }
}

/** Does what somebody asks for: in the collector that runs, or here, with its lock, when none does. Returns what was
 *  done. */
export async function askCollector(task: Task): Promise<string[]> {
  const config = loadCollectorConfig();
  // What is done about a leak asks stores and providers.
  if (task.type === "leak") (await openSecrets(config, { warn: () => undefined, info: () => undefined })).stop();
  try {
    const { books, close } = await openBooks(config, createLog("collector", "error"), 0);
    try {
      const prices = openPriceBook(config.dataDir, [], [], () => undefined);
      return await perform(
        { ...leakContext(config, books), prices, adjust: adjustAnyhow(config), now: Date.now },
        task,
      );
    } finally {
      await close();
    }
  } catch (error) {
    if (error instanceof ImportError) throw new ChangeRefused(error.message);
    if (!(error instanceof LedgerInUse)) throw error;
  }
  const [path, body] =
    task.type === "import"
      ? ([
          `/admin/import?name=${encodeURIComponent(task.name)}&replace=${task.isForced ? "1" : "0"}`,
          task.bytes,
        ] as const)
      : (["/admin/tasks", toJson(task)] as const);
  const answer = await askProgram(config, "collector", "POST", path, body, config.adminToken.reveal());
  return (answer as { said: string[] }).said;
}

/** What would be done about a leaked key, and what is known of it. Changes nothing. Rejects with ChangeRefused where nothing
 *  is. */
export async function describeLeak(
  books: CollectorBooks,
  provider: string,
  billedKey: string,
  without: readonly LeakStep[],
): Promise<LeakNote & { readonly plan: readonly string[] }> {
  const config = loadCollectorConfig();
  (await openSecrets(config, { warn: () => undefined, info: () => undefined })).stop();
  const context = leakContext(config, books);
  const note = await writeLeakNote(context, provider, billedKey, Date.now());
  const task = { type: "leak", provider, billedKey, by: "", without } as const;
  return { ...note, plan: await actOnLeak(context, task, Date.now(), true) };
}

function leakContext(config: CollectorConfig, books: CollectorBooks): LeakContext {
  const change: LeakContext["change"] = (made, by) => makeChange(config, made, by);
  return { books, rotations: config.rotations, stated: statedOf(config), change };
}

/** For a command: corrections go to the proxy that runs, or into the books when none does. */
function adjustAnyhow(config: CollectorConfig): (list: Adjustment[]) => Promise<void> {
  return (adjustments) => makeChange(config, { type: "adjust", adjustments }, "collector");
}
