// A record of the audit as a log record: who changed what.
import type { Resource } from "@opentelemetry/resources";
import type { ReadableLogRecord } from "@opentelemetry/sdk-logs";
import type { readAuditAfter } from "../../ledger/usage/commits.ts";
import { SCOPE, timeOf } from "./metrics.ts";
import type { Otel } from "./packages.ts";

type AuditRow = Awaited<ReturnType<typeof readAuditAfter>>[number];

export function logOf(otel: Otel, resource: Resource, row: AuditRow): ReadableLogRecord {
  const { seq, atMs, actor, action, subject, detail, hash } = row;
  return {
    hrTime: timeOf(atMs),
    hrTimeObserved: timeOf(atMs),
    severityNumber: otel.SeverityNumber.INFO,
    severityText: "INFO",
    eventName: "keymeter.audit",
    body: `${actor}: ${action} ${subject}`,
    attributes: {
      "keymeter.audit.seq": seq,
      "keymeter.audit.actor": actor,
      "keymeter.audit.action": action,
      "keymeter.audit.subject": subject,
      "keymeter.audit.detail": detail,
      "keymeter.audit.hash": hash,
    },
    resource,
    instrumentationScope: SCOPE,
    droppedAttributesCount: 0,
  };
}
