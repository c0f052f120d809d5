// Alertmanager, as far as this program needs it: its grouping and inhibition, read from its own file, for the time
// without it; and its API: what is active, and silences.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { z } from "zod";
import type { FiringAlert } from "./evaluator.ts";
import type { Labels } from "./expression.ts";
import { groupOf } from "./merge.ts";
import type { AlertGroup } from "./webhook.ts";

type Matcher = { readonly label: string; readonly fits: (value: string) => boolean };
type Inhibition = {
  readonly source: readonly Matcher[];
  readonly target: readonly Matcher[];
  readonly equal: readonly string[];
};
export type Grouping = { readonly groupBy: readonly string[]; readonly inhibitions: readonly Inhibition[] };

const file = z.object({
  route: z.object({ group_by: z.array(z.string()) }),
  inhibit_rules: z
    .array(
      z.object({
        source_matchers: z.array(z.string()),
        target_matchers: z.array(z.string()),
        equal: z.array(z.string()).default([]),
      }),
    )
    .default([]),
});

const TIMEOUT_MS = 5_000;

/** Reads how alerts are grouped and inhibited. Throws an Error for what Alertmanager would understand and this does
 *  not. */
export function readGrouping(path = fileURLToPath(new URL("alertmanager.yaml", import.meta.url))): Grouping {
  const { route, inhibit_rules: rules } = file.parse(parse(readFileSync(path, "utf8")));
  return {
    groupBy: route.group_by,
    inhibitions: rules.map(({ source_matchers: source, target_matchers: target, equal }) => ({
      source: source.map(matcherOf),
      target: target.map(matcherOf),
      equal,
    })),
  };
}

/** Alerts as Alertmanager would deliver them: without those that another one inhibits, a group for each value of the
 *  labels. */
export function groupAlerts(alerts: readonly FiringAlert[], { groupBy, inhibitions }: Grouping): AlertGroup[] {
  const firing = alerts.filter(({ endsAtMs }) => endsAtMs === undefined);
  const isInhibited = (alert: FiringAlert): boolean =>
    inhibitions.some(
      ({ source, target, equal }) =>
        fits(target, alert.labels) &&
        !fits(source, alert.labels) &&
        firing.some(
          (other) =>
            fits(source, other.labels) &&
            equal.every((name) => (other.labels[name] ?? "") === (alert.labels[name] ?? "")),
        ),
    );
  const groups = Map.groupBy(
    alerts.filter((alert) => !isInhibited(alert)),
    ({ labels }) => keyOf(labels, groupBy),
  );
  return [...groups].map(([groupKey, own]) =>
    groupOf(
      groupKey,
      own.map(({ labels, annotations, startsAtMs, endsAtMs }) => ({
        status: endsAtMs === undefined ? "firing" : "resolved",
        labels: { ...labels },
        annotations: { ...annotations },
        startsAt: new Date(startsAtMs).toISOString(),
        endsAt: new Date(endsAtMs ?? 0).toISOString(),
      })),
      own[0]?.annotations,
    ),
  );
}

/** As Alertmanager writes it for the top route, so that either may speak first of a group. */
function keyOf(labels: Labels, groupBy: readonly string[]): string {
  const parts = groupBy
    .toSorted()
    .flatMap((name) => (labels[name] === undefined ? [] : [`${name}=${JSON.stringify(labels[name])}`]));
  return `{}:{${parts.join(", ")}}`;
}

export type AlertmanagerApi = {
  /** Whether anything of a group is active in any of them; undefined when none answers. */
  isActive(group: AlertGroup): Promise<boolean | undefined>;
  /** Silences a group in each; returns the silences' ids, none where there is no Alertmanager. */
  silence(group: AlertGroup, untilMs: number, by: string, nowMs: number): Promise<string[]>;
};

export function createAlertmanagerApi(urls: readonly string[], groupBy: readonly string[]): AlertmanagerApi {
  const labelsOf = ({ commonLabels }: AlertGroup): [string, string][] =>
    Object.entries(commonLabels).filter(([name]) => groupBy.includes(name));
  return {
    async isActive(group) {
      let answered = false;
      for (const url of urls) {
        const query = new URLSearchParams();
        for (const [name, value] of labelsOf(group)) query.append("filter", `${name}=${JSON.stringify(value)}`);
        try {
          const answer = await fetch(new URL(`api/v2/alerts?${query.toString()}`, withSlash(url)), {
            signal: AbortSignal.timeout(TIMEOUT_MS),
          });
          if (!answer.ok) continue;
          answered = true;
          const active = (await answer.json()) as { labels: Labels }[];
          // A label that the group has not must not be there either: a filter cannot say that.
          if (
            active.some(({ labels }) =>
              groupBy.every((name) => (labels[name] ?? "") === (group.commonLabels[name] ?? "")),
            )
          )
            return true;
        } catch {
          // The next one may answer.
        }
      }
      return answered ? false : undefined;
    },
    async silence(group, untilMs, by, nowMs) {
      const own = new Map(labelsOf(group));
      const matchers = groupBy.map((name) => ({ name, value: own.get(name) ?? "", isRegex: false, isEqual: true }));
      const ids: string[] = [];
      for (const url of urls) {
        const body = {
          matchers,
          startsAt: new Date(nowMs).toISOString(),
          endsAt: new Date(untilMs).toISOString(),
          createdBy: by,
          comment: `acknowledged in Slack by ${by}`,
        };
        try {
          const answer = await fetch(new URL("api/v2/silences", withSlash(url)), {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: JSON.stringify(body),
            signal: AbortSignal.timeout(TIMEOUT_MS),
          });
          if (answer.ok) ids.push(((await answer.json()) as { silenceID: string }).silenceID);
        } catch {
          // One that does not answer is not silenced; the mute here holds all the same.
        }
      }
      return ids;
    },
  };
}

function withSlash(url: string): string {
  return url.endsWith("/") ? url : `${url}/`;
}

function fits(matchers: readonly Matcher[], labels: Labels): boolean {
  return matchers.every(({ label, fits: isFit }) => isFit(labels[label] ?? ""));
}

/** `name = "value"` and its three sisters. */
function matcherOf(text: string): Matcher {
  const [, label = "", op, quoted = ""] = /^\s*(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*$/.exec(text) ?? [];
  if (op === undefined) throw new Error(`alertmanager.yaml: the matcher ${text} cannot be read; write name = "value"`);
  const value = JSON.parse(`"${quoted}"`) as string;
  const pattern = op === "=~" || op === "!~" ? new RegExp(`^(?:${value})$`) : undefined;
  const isFit = (given: string): boolean => (pattern ? pattern.test(given) : given === value);
  return { label, fits: op.startsWith("!") ? (given) => !isFit(given) : isFit };
}
