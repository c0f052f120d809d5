// Gauges of providers: who refuses our own credentials, and who fails. The lines stand in the rules: they are no money.
import { readAnswers } from "../../ledger/usage/answers.ts";
import type { CollectorBooks } from "../compare.ts";
import type { MakeGauge, Refresh } from "./gauge.ts";

const ANSWERED_MS = 10 * 60_000;
/** Fewer answers than this in ten minutes say nothing about a provider. */
const LEAST_ANSWERS = 20;

export function providerGauges(make: MakeGauge, { usage }: CollectorBooks): Refresh {
  const rejected = make(
    "keymeter_provider_rejected_requests",
    "Attempts of the last ten minutes that a provider answered with 401 or 403, under a credential of ours.",
    ["provider"],
  );
  const failed = make(
    "keymeter_provider_failed_ratio",
    "Share of the last ten minutes' attempts that a provider failed, where there were enough to tell.",
    ["provider"],
  );
  return async ({ nowMs }) => {
    rejected.reset();
    failed.reset();
    for (const one of await readAnswers(usage, nowMs - ANSWERED_MS)) {
      rejected.set({ provider: one.provider }, one.rejected);
      if (one.requests >= LEAST_ANSWERS) failed.set({ provider: one.provider }, one.failed / one.requests);
    }
  };
}
