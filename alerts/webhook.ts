// What Alertmanager delivers (webhook version 4), parsed at the border.
import { DAY_MS } from "../ledger/windows.ts";
import { z } from "zod";

/** Names that every object has are no names of alerts or labels. */
const label = z.string().refine((name) => !(name in {}), "a name that means something else");
const labels = z.record(label, z.string());
const YEAR_MS = 366 * DAY_MS;
/** An instant that a message can tell. An alert that has not ended has a zero here. */
const instant = z.string().refine((text) => {
  const ms = Date.parse(text);
  return Number.isFinite(ms) && ms < Date.now() + YEAR_MS;
}, "an instant such as 2026-11-29T10:00:00Z, not far ahead");

const delivery = z.object({
  groupKey: z.string().min(1),
  status: z.enum(["firing", "resolved"]),
  /** The Alertmanager that speaks. */
  externalURL: z.string().optional(),
  /** Set here: it came without the token. */
  isUnsigned: z.boolean().optional(),
  /** Set here: it came with the token. */
  isSigned: z.boolean().optional(),
  commonLabels: labels.default({}),
  commonAnnotations: labels.default({}),
  alerts: z
    .array(
      z.object({
        status: z.enum(["firing", "resolved"]),
        labels: labels.refine(({ alertname }) => alertname === undefined || !(alertname in {}), "no name of an alert"),
        annotations: labels.default({}),
        startsAt: instant,
        endsAt: instant,
      }),
    )
    .min(1),
});

export type AlertGroup = z.infer<typeof delivery>;

/** Parses a delivery; undefined when it is none of ours to understand. */
export function parseDelivery(body: unknown): AlertGroup | undefined {
  const parsed = delivery.safeParse(body);
  return parsed.success ? parsed.data : undefined;
}

/** Whether it says nothing but that the chain from Prometheus to here works. */
export function isWatchdog({ alerts }: AlertGroup): boolean {
  return alerts.every((alert) => alert.labels["alertname"] === "KeymeterWatchdog");
}
