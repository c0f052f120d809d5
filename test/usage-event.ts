// Usage events for tests of the books.
import type { UsageEvent } from "../ledger/usage/usage-event.ts";

export const SUBJECT = {
  keyId: "key_1",
  team: "search",
  project: "",
  env: "",
  user: "",
  provider: "openai",
  model: "m",
};

/** A complete request of SUBJECT. */
export function event(attemptId: number, costNanoUsd: bigint | undefined, more: Partial<UsageEvent> = {}): UsageEvent {
  return {
    attemptId,
    keyId: SUBJECT.keyId,
    provider: SUBJECT.provider,
    endpoint: "chat_completions",
    requestedModel: "m",
    servedModel: undefined,
    tier: undefined,
    team: SUBJECT.team,
    project: "",
    env: "",
    user: "",
    tags: undefined,
    usage: { input: 1 },
    reasoning: undefined,
    usageState: "reported",
    costNanoUsd,
    costLines: [],
    priceVersion: undefined,
    priceConfidence: undefined,
    outcome: "complete",
    httpStatus: 200,
    durationMs: 1,
    firstByteMs: 1,
    providerRequestId: undefined,
    responseId: undefined,
    rawUsage: undefined,
    ...more,
  };
}
