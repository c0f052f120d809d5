// A usage event: what one attempt used, cost and came to, as the proxy hands it to the writer. One immutable row of the
// books.
import type { CostLine } from "../cost.ts";
import type { AttemptId } from "../ids.ts";
import type { NanoUsd } from "../money.ts";
import type { PriceConfidence } from "../prices/price-book.ts";
import type { Usage, UsageReason, UsageState } from "../usage.ts";

/** How an attempt ended. complete: the provider's terminal event or whole body passed. client_left: the client went
 *  first. upstream_rejected: the provider answered an error status; it bills nothing. upstream_failed: cut, error or
 *  silence after bytes were sent. upstream_unreachable: no byte was sent. shutdown: cut by our own stop, or because the
 *  books could not be written. cut: ended by whoever runs Keymeter. capped: cut because a budget had no more. crash:
 *  this process died in between; the next start booked it. */
export type Outcome =
  | "complete"
  | "client_left"
  | "upstream_rejected"
  | "upstream_failed"
  | "upstream_unreachable"
  | "shutdown"
  | "cut"
  | "capped"
  | "crash";

export type UsageEvent = {
  readonly attemptId: AttemptId;
  readonly keyId: string;
  readonly provider: string;
  readonly endpoint: string;
  readonly requestedModel: string;
  readonly servedModel: string | undefined;
  /** Price-changing tiers as the answer names them, joined by commas. */
  readonly tier: string | undefined;
  readonly team: string;
  readonly project: string;
  readonly env: string;
  /** A person, by id; empty: nobody is named. */
  readonly user: string;
  /** Who pays. SEAT: a subscription. Else a provider credential, by its fingerprint: ours, that the key was swapped for, or
   *  a client's own beside its key. Empty: the key itself is one, or nothing is billed; until 2026-11-30 ours was not
   *  named. */
  readonly payer?: string | undefined;
  /** Of a subscription: what it would have cost at the prices of the API. Undefined there: not known. */
  readonly seatNanoUsd?: NanoUsd | undefined;
  /** Compact JSON object of tags, or undefined. */
  readonly tags: string | undefined;
  readonly usage: Usage;
  /** Reasoning tokens, for information: they lie inside `output`. */
  readonly reasoning: number | undefined;
  readonly usageState: UsageState;
  /** Why, where the state is not `reported`. */
  readonly usageReason?: UsageReason | undefined;
  /** Undefined: unpriced or unknown. Never 0 for "do not know". */
  readonly costNanoUsd: NanoUsd | undefined;
  readonly costLines: readonly CostLine[];
  /** The list that prices were looked for in: one provider's models may have several. */
  readonly priceList?: string | undefined;
  readonly priceVersion: string | undefined;
  readonly priceConfidence: PriceConfidence | "unpriced" | undefined;
  readonly outcome: Outcome;
  readonly httpStatus: number | undefined;
  readonly durationMs: number | undefined;
  readonly firstByteMs: number | undefined;
  /** The provider's id of the request (a header) and of the answer (in the body). */
  readonly providerRequestId: string | undefined;
  readonly responseId: string | undefined;
  /** The provider's usage object, as it was sent. */
  readonly rawUsage: string | undefined;
  /** The trace that the request belongs to, as its traceparent says: "TRACE-SPAN-FLAGS" in hex. */
  readonly trace?: string | undefined;
  /** What the provider itself says that this cost. Where it is believed it is the cost booked, and our lines stand
   *  beside it. */
  readonly statedCostNanoUsd?: NanoUsd | undefined;
};

/** Paid by the month, whatever is used. */
export const SEAT = "seat";

/** Endpoints whose events sum up many answers. */
export const SUMMED_ENDPOINTS = ["batches", "message_batches"];
