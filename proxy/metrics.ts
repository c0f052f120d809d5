// The proxy's metrics: counters and health. Hot counters are plain numbers, handed to prom-client at scrape time. Labels
// come from closed sets: providers of the settings, models of the price book (else "other"), our own outcomes and reasons.
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { UsageEvent } from "../ledger/usage/usage-event.ts";
import type { PendingWork } from "../ledger/usage/pending-work.ts";
import type { Writer } from "../ledger/usage/writer.ts";
import { attemptAtMs } from "../ledger/ids.ts";
import { toUsdNumber } from "../ledger/money.ts";
import { TOKEN_CLASSES } from "../ledger/usage.ts";

export type Metrics = {
  readonly registry: Registry;
  countEvent(event: UsageEvent): void;
  countRefused(reason: string): void;
  countUnmetered(provider: string): void;
  /** Numbers in usage objects that no reader knows. Returns those that are seen for the first time. */
  countUnknownFields(provider: string, fields: readonly string[]): string[];
  /** A client that got its end before the event was durable. */
  countLateCommit(): void;
};

const MOST_MODELS = 200;
const MOST_FIELDS = 100;

export function createMetrics(writer: Writer, openRequests: () => number, pendingWork: () => PendingWork[]): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const tallies: Tally[] = [];
  const byProvider = new Map<string, Map<string, Tally>>();
  const models = new Set<string>();
  const refused = new Map<string, number>();
  const unmetered = new Map<string, number>();
  const gaps = new Map<string, number>();
  const unknownFields = new Map<string, { provider: string; field: string; count: number }>();
  let lateCommits = 0;

  type Tally = {
    provider: string;
    model: string;
    requests: Map<string, number>;
    tokens: Map<string, number>;
    cost: bigint;
    unpriced: number;
    estimated: number;
    unknown: number;
    inferred: number;
  };

  const tallyOf = (event: UsageEvent): Tally => {
    const priced =
      event.priceConfidence === "exact" || event.priceConfidence === "inferred"
        ? (event.servedModel ?? event.requestedModel)
        : "other";
    const model = models.has(priced) || models.size < MOST_MODELS ? priced : "other";
    models.add(model);
    let ofProvider = byProvider.get(event.provider);
    if (!ofProvider) byProvider.set(event.provider, (ofProvider = new Map()));
    let tally = ofProvider.get(model);
    if (!tally) {
      tally = {
        provider: event.provider,
        model,
        requests: new Map(),
        tokens: new Map(),
        cost: 0n,
        unpriced: 0,
        estimated: 0,
        unknown: 0,
        inferred: 0,
      };
      ofProvider.set(model, tally);
      tallies.push(tally);
    }
    return tally;
  };

  const perModel = (name: string, help: string, read: (tally: Tally) => number): void => {
    const counter = new Counter({
      name,
      help,
      labelNames: ["provider", "model"],
      registers,
      collect() {
        counter.reset();
        for (const tally of tallies) counter.inc({ provider: tally.provider, model: tally.model }, read(tally));
      },
    });
  };

  const requests = new Counter({
    name: "keymeter_requests_total",
    help: "Attempts that were booked, by how they ended.",
    labelNames: ["provider", "model", "outcome"],
    registers,
    collect() {
      requests.reset();
      for (const { provider, model, requests: byOutcome } of tallies)
        for (const [outcome, count] of byOutcome) requests.inc({ provider, model, outcome }, count);
    },
  });
  const tokens = new Counter({
    name: "keymeter_tokens_total",
    help: "Tokens by disjoint class: their sum is all tokens.",
    labelNames: ["provider", "model", "class"],
    registers,
    collect() {
      tokens.reset();
      for (const { provider, model, tokens: byClass } of tallies)
        for (const [unit, count] of byClass) tokens.inc({ provider, model, class: unit }, count);
    },
  });
  perModel(
    "keymeter_cost_usd_total",
    "Metered cost. For rates; figures people quote are the collector's gauges.",
    (tally) => toUsdNumber(tally.cost),
  );
  perModel(
    "keymeter_unpriced_requests_total",
    "Attempts whose model, or a part of whose use, has no price.",
    (tally) => tally.unpriced,
  );
  perModel(
    "keymeter_inferred_price_requests_total",
    "Attempts priced by a model family, not by the model's own entry.",
    (tally) => tally.inferred,
  );
  perModel(
    "keymeter_estimated_requests_total",
    "Attempts whose usage the provider did not state.",
    (tally) => tally.estimated,
  );
  perModel(
    "keymeter_unknown_usage_requests_total",
    "Attempts whose usage is not known at all.",
    (tally) => tally.unknown,
  );

  const refusedCounter = new Counter({
    name: "keymeter_refused_total",
    help: "Requests refused before any byte went upstream.",
    labelNames: ["reason"],
    registers,
    collect() {
      refusedCounter.reset();
      for (const [reason, count] of refused) refusedCounter.inc({ reason }, count);
    },
  });
  const unmeteredCounter = new Counter({
    name: "keymeter_unmetered_requests_total",
    help: "Requests forwarded on paths that have no meter.",
    labelNames: ["provider"],
    registers,
    collect() {
      unmeteredCounter.reset();
      for (const [provider, count] of unmetered) unmeteredCounter.inc({ provider }, count);
    },
  });
  const gapCounter = new Counter({
    name: "keymeter_usage_gaps_total",
    help: "Attempts whose quantities are not the provider's word, by why.",
    labelNames: ["provider", "reason"],
    registers,
    collect() {
      gapCounter.reset();
      for (const [name, count] of gaps) {
        const [provider = "", reason = ""] = name.split("\n");
        gapCounter.inc({ provider, reason }, count);
      }
    },
  });
  const unknownCounter = new Counter({
    name: "keymeter_unknown_usage_fields_total",
    help: "Answers whose usage holds a number that Keymeter does not know: a new fee may hide there.",
    labelNames: ["provider", "field"],
    registers,
    collect() {
      unknownCounter.reset();
      for (const { provider, field, count } of unknownFields.values()) unknownCounter.inc({ provider, field }, count);
    },
  });
  const late = new Counter({
    name: "keymeter_late_commits_total",
    help: "Answers that ended before their event was durable, because the ledger did not commit in time.",
    registers,
    collect() {
      late.reset();
      late.inc(lateCommits);
    },
  });
  const gauge = (name: string, help: string, read: () => number): void => {
    const one: Gauge = new Gauge({ name, help, registers, collect: () => one.set(read()) });
  };
  gauge("keymeter_open_requests", "Exchanges with providers that are open now.", openRequests);
  gauge("keymeter_ledger_waiting_settlements", "Events that wait for the ledger's storage.", () => writer.waiting());
  gauge("keymeter_ledger_up", "1 while the ledger can commit.", () => (writer.trouble() === undefined ? 1 : 0));
  const pending = new Gauge({
    name: "keymeter_pending_work",
    help: "Batches and background responses whose result has not passed yet.",
    labelNames: ["provider", "endpoint"],
    registers,
    collect() {
      pending.reset();
      for (const { provider, endpoint } of pendingWork()) pending.inc({ provider, endpoint });
    },
  });
  const oldest = new Gauge({
    name: "keymeter_pending_work_oldest_timestamp_seconds",
    help: "When the oldest work was begun whose result has not passed yet.",
    labelNames: ["provider"],
    registers,
    collect() {
      oldest.reset();
      // Oldest first: the first of a provider counts.
      for (const { provider, attemptId } of pendingWork().toReversed())
        oldest.set({ provider }, attemptAtMs(attemptId) / 1000);
    },
  });
  const crashed = new Gauge({
    name: "keymeter_recovered_attempts",
    help: "Attempts that the last start found open and booked as crashed.",
    registers,
  });
  crashed.set(writer.recovered);
  const firstByte = new Histogram({
    name: "keymeter_first_byte_seconds",
    help: "From dispatch to the provider's first byte.",
    labelNames: ["provider"],
    buckets: [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    registers,
  });

  const add = (map: Map<string, number>, name: string, more: number): void => {
    map.set(name, (map.get(name) ?? 0) + more);
  };

  return {
    registry,
    countEvent(event) {
      const tally = tallyOf(event);
      add(tally.requests, event.outcome, 1);
      for (const unit of TOKEN_CLASSES) {
        const quantity = event.usage[unit];
        if (quantity) add(tally.tokens, unit, quantity);
      }
      tally.cost += event.costNanoUsd ?? 0n;
      if (event.priceConfidence === "unpriced") tally.unpriced += 1;
      if (event.priceConfidence === "inferred") tally.inferred += 1;
      if (event.usageState === "estimated") tally.estimated += 1;
      if (event.usageState === "unknown") tally.unknown += 1;
      if (event.usageReason) add(gaps, `${event.provider}\n${event.usageReason}`, 1);
      if (event.firstByteMs !== undefined) firstByte.observe({ provider: event.provider }, event.firstByteMs / 1000);
    },
    countRefused: (reason) => add(refused, reason, 1),
    countUnmetered: (provider) => add(unmetered, provider, 1),
    countUnknownFields(provider, fields) {
      const first: string[] = [];
      for (const given of fields) {
        const name = `${provider}\n${given}`;
        const field = unknownFields.has(name) || unknownFields.size < MOST_FIELDS ? given.slice(0, 120) : "other";
        const tally = unknownFields.get(`${provider}\n${field}`);
        if (tally) tally.count += 1;
        else {
          unknownFields.set(`${provider}\n${field}`, { provider, field, count: 1 });
          first.push(field);
        }
      }
      return first;
    },
    countLateCommit: () => void (lateCommits += 1),
  };
}
