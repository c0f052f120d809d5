// Answers whose usage is not the provider's word: what a bill can correct. Reads only.
import { attemptAtMs, firstAttemptId } from "../ids.ts";
import type { AttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import type { UsageBooks } from "../books.ts";
import { rowsOf } from "../engine.ts";
import { DAY_MS } from "../billing/metered.ts";
import { readCredentials } from "./credentials.ts";
import { SEAT } from "./usage-event.ts";

/** Answers of a UTC day whose usage is not the provider's word, as they stand now: what a bill can correct. */
export type UnsureEvent = {
  readonly attemptId: AttemptId;
  readonly keyId: string;
  readonly credential: string;
  readonly model: string;
  readonly costNanoUsd: NanoUsd;
  /** How many adjustments it has, and what bills have added to it. */
  readonly adjustments: number;
  readonly fromBillsNanoUsd: NanoUsd;
  readonly confidence: string | null;
};

export async function readUnsureEvents(usage: UsageBooks, provider: string, day: string): Promise<UnsureEvent[]> {
  const startMs = Date.parse(`${day}T00:00:00Z`);
  const credentialOf = await readCredentials(usage);
  const rows = await rowsOf<
    [
      attemptId: bigint,
      keyId: string,
      payer: string,
      model: string,
      costNanoUsd: bigint,
      confidence: string | null,
      adjustments: bigint,
      fromBillsNanoUsd: bigint,
    ]
  >(
    usage,
    `SELECT attempt_id, key_id, payer, model, COALESCE(cost_nano_usd, 0), price_confidence,
        (SELECT COUNT(*) FROM adjustments a WHERE a.attempt_id = booked.attempt_id),
        (SELECT COALESCE(SUM(amount_nano_usd), 0) FROM adjustments a WHERE a.attempt_id = booked.attempt_id AND source = 'bill')
      FROM booked WHERE attempt_id >= ? AND attempt_id < ? AND provider = ? AND usage_state <> 'reported' AND payer <> '${SEAT}' ORDER BY attempt_id`,
    firstAttemptId(startMs),
    firstAttemptId(startMs + DAY_MS),
    provider,
  );
  return rows.map(([attemptId, keyId, payer, model, costNanoUsd, confidence, count, fromBillsNanoUsd]) => ({
    attemptId: Number(attemptId),
    keyId,
    credential: credentialOf(keyId, provider, attemptAtMs(Number(attemptId)), payer),
    model,
    costNanoUsd,
    adjustments: Number(count),
    fromBillsNanoUsd,
    confidence,
  }));
}
