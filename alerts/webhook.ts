// What Alertmanager delivers (webhook version 4), parsed at the border.
import { z } from "zod";

const labels = z.record(z.string(), z.string());

const delivery = z.object({
  groupKey: z.string().min(1),
  status: z.enum(["firing", "resolved"]),
  /** The Alertmanager that speaks. */
  externalURL: z.string().optional(),
  commonLabels: labels.default({}),
  commonAnnotations: labels.default({}),
  alerts: z
    .array(
      z.object({
        status: z.enum(["firing", "resolved"]),
        labels,
        annotations: labels.default({}),
        startsAt: z.string(),
        endsAt: z.string(),
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
