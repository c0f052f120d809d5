// Rules over samples, step by step: which alerts are pending, which fire, which are over. What Prometheus does between
// a scrape and Alertmanager, for the rules that can be evaluated here.
import { evaluate, labelKey } from "./expression.ts";
import type { Labels, Sample } from "./expression.ts";
import type { Rule } from "./rules.ts";

/** An alert that fires, or has just stopped. */
export type FiringAlert = {
  readonly alert: string;
  /** Of the series, of the rule, and its name. */
  readonly labels: Labels;
  readonly annotations: Labels;
  readonly startsAtMs: number;
  /** Undefined: it fires. */
  readonly endsAtMs: number | undefined;
};

export type Evaluator = {
  /** Takes up what fired before this process began: it need not wait again. */
  restore(alerts: readonly { readonly labels: Labels; readonly startsAtMs: number }[]): void;
  /** What fires by these samples, and what has stopped since the last step. */
  step(samples: readonly Sample[], nowMs: number): FiringAlert[];
};

type Active = { readonly labels: Labels; readonly sinceMs: number; firesSinceMs: number | undefined };

/** `onTrouble`: a rule that these samples cannot answer. What fires by it goes on until they can. */
export function createEvaluator(
  rules: readonly Rule[],
  onTrouble: (rule: string, error: unknown) => void = () => undefined,
): Evaluator {
  const active = new Map<Rule, Map<string, Active>>(rules.map((rule) => [rule, new Map()]));
  return {
    restore(alerts) {
      for (const { labels, startsAtMs } of alerts) {
        const rule = rules.find(({ alert }) => alert === labels["alertname"]);
        if (!rule) continue;
        const series = Object.fromEntries(
          Object.entries(labels).filter(([name]) => name !== "alertname" && !(name in rule.labels)),
        );
        active.get(rule)?.set(labelKey(series), { labels: series, sinceMs: startsAtMs, firesSinceMs: startsAtMs });
      }
    },
    step(samples, nowMs) {
      const found: FiringAlert[] = [];
      for (const rule of rules) {
        if (!rule.expression) continue;
        const known = active.get(rule) ?? new Map<string, Active>();
        const alertOf = (one: Active, endsAtMs: number | undefined): FiringAlert => ({
          alert: rule.alert,
          labels: { ...one.labels, ...rule.labels, alertname: rule.alert },
          annotations: rule.annotations,
          startsAtMs: one.firesSinceMs ?? nowMs,
          endsAtMs,
        });
        let answered: Sample[];
        try {
          answered = evaluate(rule.expression, samples);
        } catch (error) {
          onTrouble(rule.alert, error);
          for (const one of known.values()) if (one.firesSinceMs !== undefined) found.push(alertOf(one, undefined));
          continue;
        }
        const holds = new Set<string>();
        for (const { labels: given } of answered) {
          const labels = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ""));
          const key = labelKey(labels);
          holds.add(key);
          const one = known.get(key) ?? { labels, sinceMs: nowMs, firesSinceMs: undefined };
          known.set(key, one);
          if (one.firesSinceMs === undefined && nowMs - one.sinceMs >= rule.forMs) one.firesSinceMs = nowMs;
          if (one.firesSinceMs !== undefined) found.push(alertOf(one, undefined));
        }
        for (const [key, one] of known) {
          if (holds.has(key)) continue;
          known.delete(key);
          if (one.firesSinceMs !== undefined) found.push(alertOf(one, nowMs));
        }
      }
      return found;
    },
  };
}
