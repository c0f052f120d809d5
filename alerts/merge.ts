// What several sources say of one group, as one word: two Alertmanagers that do not know of each other, or one of them
// and the rules evaluated here. Pure.
import type { Delivery } from "../ledger/notices/notices.ts";
import { OWN_SOURCE } from "./source.ts";
import { labelKey } from "./expression.ts";
import type { Labels } from "./expression.ts";
import { parseDelivery } from "./webhook.ts";
import type { AlertGroup } from "./webhook.ts";

export type Merged = {
  readonly group: AlertGroup;
  /** One source says that it fires, and a later word of another that it is over. */
  readonly isDisputed: boolean;
};

/** Words by source, the latest first. Undefined where there is none that can be read. */
export function mergeWords(words: readonly Delivery[]): Merged | undefined {
  const all = words.flatMap(({ source, payload }) => {
    const group = parseDelivery(JSON.parse(payload));
    return group ? [{ source, group }] : [];
  });
  // A word without a token counts only where there is no other. Those of before there was one brought none either.
  const signed = all.filter(({ source, group }) => source === OWN_SOURCE || group.isSigned === true);
  const groups = (signed.length > 0 ? signed : all).map(({ group }) => group);
  const [latest, ...earlier] = groups;
  if (!latest) return undefined;
  const isUnsigned = signed.length === 0 && groups.some((group) => group.isUnsigned === true);
  if (earlier.length === 0) return { group: latest, isDisputed: false };
  const isDisputed = latest.status === "resolved" && earlier.some(({ status }) => status === "firing");
  return {
    group: {
      ...groupOf(
        latest.groupKey,
        groups.flatMap(({ alerts }) => alerts),
        latest.commonAnnotations,
      ),
      ...(isUnsigned ? { isUnsigned } : {}),
    },
    isDisputed,
  };
}

/** A group of alerts; it fires while one of them does. The same alert from two sources is one, and fires if one says
 *  so. */
export function groupOf(
  groupKey: string,
  all: readonly AlertGroup["alerts"][number][],
  commonAnnotations: Labels = {},
): AlertGroup {
  const alerts = new Map<string, AlertGroup["alerts"][number]>();
  for (const alert of all) {
    const known = alerts.get(labelKey(alert.labels));
    if (!known || (known.status === "resolved" && alert.status === "firing") || isEarlier(alert, known))
      alerts.set(labelKey(alert.labels), alert);
  }
  const kept = [...alerts.values()];
  const firing = kept.filter(({ status }) => status === "firing");
  const [first, ...rest] = firing.length > 0 ? firing : kept;
  const commonLabels = Object.fromEntries(
    Object.entries(first?.labels ?? {}).filter(([name, value]) => rest.every(({ labels }) => labels[name] === value)),
  );
  return { groupKey, status: firing.length > 0 ? "firing" : "resolved", commonLabels, commonAnnotations, alerts: kept };
}

function isEarlier(one: AlertGroup["alerts"][number], other: AlertGroup["alerts"][number]): boolean {
  return one.status === other.status && Date.parse(one.startsAt) < Date.parse(other.startsAt);
}
