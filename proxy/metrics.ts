// The proxy's metrics: counters and health. Hot counters are plain numbers, handed to prom-client at scrape time.
// Labels come from closed sets: providers of the settings, models of the price book (else "other"), our own outcomes
// and reasons.
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
const SECOND_MS = 1000;

export function createMetrics(writer: Writer, openRequests: () => number, pendingWork: () => PendingWork[]): Metrics {
  const registry = new Registry();
  const counts = createCounts();
  const firstByte = new Histogram({
    name: "keymeter_first_byte_seconds",
    help: "From dispatch to the provider's first byte.",
    labelNames: ["provider"],
    buckets: [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    registers: [registry],
  });
  showCounts(registry, counts);
  showHealth(registry, writer, openRequests);
  showWork(registry, pendingWork);
  return {
    registry,
    countEvent(event) {
      counts.countEvent(event);
      if (event.firstByteMs !== undefined)
        firstByte.observe({ provider: event.provider }, event.firstByteMs / SECOND_MS);
    },
    countRefused: (reason) => add(counts.refused, reason, 1),
    countUnmetered: (provider) => add(counts.unmetered, provider, 1),
    countUnknownFields: counts.countUnknownFields,
    countLateCommit: () => void (counts.lateCommits += 1),
  };
}

/** What one model of one provider was asked for. */
type Tally = {
  readonly provider: string;
  readonly model: string;
  readonly requests: Map<string, number>;
  readonly tokens: Map<string, number>;
  cost: bigint;
  unpriced: number;
  estimated: number;
  unknown: number;
  inferred: number;
};

type Counts = Pick<Metrics, "countEvent" | "countUnknownFields"> & {
  readonly tallies: Tally[];
  readonly refused: Map<string, number>;
  readonly unmetered: Map<string, number>;
  readonly gaps: Map<string, { readonly provider: string; readonly reason: string; count: number }>;
  readonly unknownFields: Map<string, { readonly provider: string; readonly field: string; count: number }>;
  lateCommits: number;
};

/** The numbers themselves. */
function createCounts(): Counts {
  const byProvider = new Map<string, Map<string, Tally>>();
  const models = new Set<string>();
  const tallies: Tally[] = [];
  const gaps: Counts["gaps"] = new Map();
  const unknownFields: Counts["unknownFields"] = new Map();

  const tallyOf = ({ provider, priceConfidence, servedModel, requestedModel }: UsageEvent): Tally => {
    const isPriced = priceConfidence === "exact" || priceConfidence === "inferred";
    const priced = isPriced ? (servedModel ?? requestedModel) : "other";
    const model = models.has(priced) || models.size < MOST_MODELS ? priced : "other";
    models.add(model);
    let ofProvider = byProvider.get(provider);
    if (!ofProvider) byProvider.set(provider, (ofProvider = new Map()));
    let tally = ofProvider.get(model);
    if (!tally) {
      const none = { cost: 0n, unpriced: 0, estimated: 0, unknown: 0, inferred: 0 };
      tally = { provider, model, requests: new Map(), tokens: new Map(), ...none };
      ofProvider.set(model, tally);
      tallies.push(tally);
    }
    return tally;
  };

  return {
    tallies,
    refused: new Map(),
    unmetered: new Map(),
    gaps,
    unknownFields,
    lateCommits: 0,
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
      if (!event.usageReason) return;
      const name = `${event.provider}\n${event.usageReason}`;
      const gap = gaps.get(name);
      if (gap) gap.count += 1;
      else gaps.set(name, { provider: event.provider, reason: event.usageReason, count: 1 });
    },
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
  };
}

function add(map: Map<string, number>, name: string, more: number): void {
  map.set(name, (map.get(name) ?? 0) + more);
}

type Rows = Iterable<readonly [labels: { readonly [label: string]: string }, value: number]>;

/** A counter whose rows are read when somebody asks. */
function counter(
  registry: Registry,
  name: string,
  help: string,
  labelNames: readonly string[],
  rows: () => Rows,
): void {
  const one: Counter = new Counter({
    name,
    help,
    labelNames,
    registers: [registry],
    collect() {
      one.reset();
      for (const [labels, value] of rows()) one.inc(labels, value);
    },
  });
}

/** The same of a gauge. */
function gauge(registry: Registry, name: string, help: string, labelNames: readonly string[], rows: () => Rows): void {
  const one: Gauge = new Gauge({
    name,
    help,
    labelNames,
    registers: [registry],
    collect() {
      one.reset();
      for (const [labels, value] of rows()) one.set(labels, value);
    },
  });
}

function showCounts(registry: Registry, counts: Counts): void {
  const { tallies, refused, unmetered, gaps, unknownFields } = counts;
  counter(
    registry,
    "keymeter_requests_total",
    "Attempts that were booked, by how they ended.",
    ["provider", "model", "outcome"],
    () =>
      tallies.flatMap(({ provider, model, requests }) =>
        [...requests].map(([outcome, count]) => [{ provider, model, outcome }, count] as const),
      ),
  );
  counter(
    registry,
    "keymeter_tokens_total",
    "Tokens by disjoint class: their sum is all tokens.",
    ["provider", "model", "class"],
    () =>
      tallies.flatMap(({ provider, model, tokens }) =>
        [...tokens].map(([unit, count]) => [{ provider, model, class: unit }, count] as const),
      ),
  );
  for (const [name, help, read] of PER_MODEL)
    counter(registry, name, help, ["provider", "model"], () =>
      tallies.map((tally) => [{ provider: tally.provider, model: tally.model }, read(tally)]),
    );
  counter(registry, "keymeter_refused_total", "Requests refused before any byte went upstream.", ["reason"], () =>
    [...refused].map(([reason, count]) => [{ reason }, count]),
  );
  counter(
    registry,
    "keymeter_unmetered_requests_total",
    "Requests forwarded on paths that have no meter.",
    ["provider"],
    () => [...unmetered].map(([provider, count]) => [{ provider }, count]),
  );
  counter(
    registry,
    "keymeter_usage_gaps_total",
    "Attempts whose quantities are not the provider's word, by why.",
    ["provider", "reason"],
    () => [...gaps.values()].map(({ provider, reason, count }) => [{ provider, reason }, count]),
  );
  counter(
    registry,
    "keymeter_unknown_usage_fields_total",
    "Answers whose usage holds a number that Keymeter does not know: a new fee may hide there.",
    ["provider", "field"],
    () => [...unknownFields.values()].map(({ provider, field, count }) => [{ provider, field }, count]),
  );
  counter(
    registry,
    "keymeter_late_commits_total",
    "Answers that ended before their event was durable, because the ledger did not commit in time.",
    [],
    () => [[{}, counts.lateCommits]],
  );
}

const PER_MODEL: readonly (readonly [name: string, help: string, read: (tally: Tally) => number])[] = [
  [
    "keymeter_cost_usd_total",
    "Metered cost. For rates; figures people quote are the collector's gauges.",
    ({ cost }) => toUsdNumber(cost),
  ],
  [
    "keymeter_unpriced_requests_total",
    "Attempts whose model, or a part of whose use, has no price.",
    ({ unpriced }) => unpriced,
  ],
  [
    "keymeter_inferred_price_requests_total",
    "Attempts priced by a model family, not by the model's own entry.",
    ({ inferred }) => inferred,
  ],
  [
    "keymeter_estimated_requests_total",
    "Attempts whose usage the provider did not state.",
    ({ estimated }) => estimated,
  ],
  ["keymeter_unknown_usage_requests_total", "Attempts whose usage is not known at all.", ({ unknown }) => unknown],
];

function showHealth(registry: Registry, writer: Writer, openRequests: () => number): void {
  const one = (name: string, help: string, read: () => number): void =>
    gauge(registry, name, help, [], () => [[{}, read()]]);
  one("keymeter_open_requests", "Exchanges with providers that are open now.", openRequests);
  one("keymeter_ledger_waiting_settlements", "Events that wait for the ledger's storage.", () => writer.waiting());
  one("keymeter_ledger_up", "1 while the ledger can commit.", () => (writer.trouble() === undefined ? 1 : 0));
  one(
    "keymeter_recovered_attempts",
    "Attempts that the last start found open and booked as crashed.",
    () => writer.recovered,
  );
}

function showWork(registry: Registry, pendingWork: () => PendingWork[]): void {
  gauge(
    registry,
    "keymeter_pending_work",
    "Batches and background responses whose result has not passed yet.",
    ["provider", "endpoint"],
    () =>
      [...Map.groupBy(pendingWork(), ({ provider, endpoint }) => `${provider}\n${endpoint}`).values()].flatMap((same) =>
        same.slice(0, 1).map(({ provider, endpoint }) => [{ provider, endpoint }, same.length] as const),
      ),
  );
  gauge(
    registry,
    "keymeter_pending_work_oldest_timestamp_seconds",
    "When the oldest work was begun whose result has not passed yet.",
    ["provider"],
    () =>
      // Oldest first: the last one that is set is the first of a provider.
      pendingWork()
        .toReversed()
        .map(({ provider, attemptId }) => [{ provider }, attemptAtMs(attemptId) / SECOND_MS]),
  );
}
