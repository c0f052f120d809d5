// The money alerts without Prometheus: the same rules, over the gauges of proxy and collector, grouped and inhibited by
// Alertmanager's own file, and delivered as one more source. It speaks while the chain from Prometheus is silent, told
// by the watchdog that no longer comes.
import { dropSource, keepDelivery, readWords } from "../ledger/notices/notices.ts";
import type { NoticesBooks } from "../ledger/books.ts";
import type { Log } from "../service/log.ts";
import type { Secret } from "../service/secret.ts";
import { groupAlerts } from "./alertmanager.ts";
import type { Grouping } from "./alertmanager.ts";
import { createEvaluator } from "./evaluator.ts";
import { metricsIn } from "./expression.ts";
import type { Sample } from "./expression.ts";
import type { Rule } from "./rules.ts";
import { readSamples } from "./samples.ts";
import { OWN_SOURCE } from "./source.ts";
import { parseDelivery } from "./webhook.ts";

export type OwnRules = {
  /** The watchdog came: Prometheus and Alertmanager do their work. */
  heardWatchdog(): void;
  /** Evaluates once; returns the keys of what was delivered. */
  step(): Promise<string[]>;
  isSpeaking(): boolean;
};

export type OwnRulesParts = {
  readonly notices: NoticesBooks;
  readonly rules: readonly Rule[];
  readonly grouping: Grouping;
  /** The metrics pages of proxy and collector. */
  readonly targets: readonly string[];
  /** What they ask for, where they are on other machines. */
  readonly metricsToken?: Secret;
  /** "never": there is a Prometheus somewhere; "always": there is none. "auto": as the watchdog says. */
  readonly mode: "auto" | "always" | "never";
  readonly wake: () => void;
  readonly log: Log;
  readonly now?: () => number;
};

/** Without a watchdog for so long the chain is taken for broken; with one for so long, for whole again. */
const SILENT_MS = 3 * 60_000;
/** What fires is delivered again so often: an hour is what a lost delivery costs at most. */
const AGAIN_MS = 60 * 60_000;

export function createOwnRules(parts: OwnRulesParts): OwnRules {
  const { notices, rules, grouping, targets, metricsToken, mode, wake, log, now = Date.now } = parts;
  const evaluator = createEvaluator(rules, (rule, error) =>
    log.warn({ rule, err: error }, "a rule cannot be evaluated by these samples; what fires by it goes on"),
  );
  const wanted = new Set(rules.flatMap(({ expression }) => (expression ? metricsIn(expression) : [])));
  const startedMs = now();
  let heardMs: number | undefined;
  let aliveSinceMs: number | undefined;
  let wasSpeaking = false;
  let isRestored = false;
  const delivered = new Map<string, { readonly payload: string; readonly atMs: number }>();

  const isSpeaking = (): boolean => {
    if (mode !== "auto") return mode === "always";
    const isAlive = now() - (heardMs ?? startedMs) < SILENT_MS;
    if (heardMs === undefined) return !isAlive;
    return !isAlive || (wasSpeaking && now() - (aliveSinceMs ?? now()) < SILENT_MS);
  };

  const read = async (): Promise<Sample[]> => {
    const pages = await Promise.all(targets.map((target) => readSamples(target, wanted, metricsToken)));
    return pages.flat();
  };

  /** What was said before this process began. */
  const restore = async (): Promise<void> => {
    isRestored = true;
    for (const { groupKey, payload, receivedAtMs } of await readWords(notices, OWN_SOURCE)) {
      const group = parseDelivery(JSON.parse(payload));
      if (group?.status !== "firing") continue;
      delivered.set(groupKey, { payload, atMs: receivedAtMs });
      const firing = group.alerts.filter(({ status }) => status === "firing");
      evaluator.restore(firing.map(({ labels, startsAt }) => ({ labels, startsAtMs: Date.parse(startsAt) })));
    }
  };

  return {
    heardWatchdog() {
      if (heardMs === undefined || now() - heardMs > SILENT_MS) aliveSinceMs = now();
      heardMs = now();
    },
    isSpeaking,
    async step() {
      const speaks = isSpeaking();
      if (!isRestored) await restore();
      if (!speaks && (wasSpeaking || (delivered.size > 0 && heardMs !== undefined))) {
        log.info("Prometheus and Alertmanager are heard again; the rules are theirs");
        await dropSource(notices, OWN_SOURCE, now());
        delivered.clear();
        wake();
      }
      if (speaks && !wasSpeaking)
        log.warn(
          { needPrometheus: rules.filter(({ expression }) => !expression).map(({ alert }) => alert) },
          "no word from Prometheus and Alertmanager: alerts are evaluated here, but for those that need Prometheus",
        );
      wasSpeaking = speaks;
      // Evaluated all the time, so that what lasts has lasted when it comes to speaking.
      const alerts = evaluator.step(await read(), now());
      if (!speaks) return [];
      const keys: string[] = [];
      for (const group of groupAlerts(alerts, grouping)) {
        const payload = JSON.stringify(group);
        const known = delivered.get(group.groupKey);
        if (group.status === "firing" && known?.payload === payload && now() - known.atMs < AGAIN_MS) continue;
        await keepDelivery(notices, group.groupKey, OWN_SOURCE, payload, now());
        if (group.status === "firing") delivered.set(group.groupKey, { payload, atMs: now() });
        else delivered.delete(group.groupKey);
        keys.push(group.groupKey);
      }
      // A group whose alerts are all inhibited or gone is over too.
      const current = new Set(groupAlerts(alerts, grouping).map(({ groupKey }) => groupKey));
      for (const [groupKey, { payload }] of delivered) {
        if (current.has(groupKey)) continue;
        const over = JSON.parse(payload) as { status: string; alerts: { status: string; endsAt: string }[] };
        over.status = "resolved";
        for (const alert of over.alerts)
          Object.assign(alert, { status: "resolved", endsAt: new Date(now()).toISOString() });
        await keepDelivery(notices, groupKey, OWN_SOURCE, JSON.stringify(over), now());
        delivered.delete(groupKey);
        keys.push(groupKey);
      }
      if (keys.length > 0) wake();
      return keys;
    },
  };
}
