// A quarter with a known truth: what clients sent through the proxy in the rhythm of a real trace, what providers
// charged for it and for what went round it, and why the two differ. The truth says of every difference which cause it
// has.
import { readFileSync } from "node:fs";
import type { VarianceCause } from "../../ledger/billing/closed-days.ts";
import { cost } from "../../ledger/cost.ts";
import type { UsageEvent } from "../../ledger/usage/usage-event.ts";
import { createPriceBook } from "../../ledger/prices/price-book.ts";
import type { Unit, Usage } from "../../ledger/usage.ts";
import { addDays } from "../../ledger/windows.ts";
import type { Charge, Truth } from "../fake/billing/truth.ts";
import { random } from "../seed.ts";
import { event } from "../usage-event.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const MINUTE_MS = 60_000;

type Client = {
  readonly team: "search" | "support" | "ads";
  readonly provider: string;
  readonly list: string;
  readonly models: readonly string[];
  readonly keyId: string;
  readonly billedKey: string | undefined;
  readonly project: string;
  readonly write: Unit | undefined;
};

const CLIENTS: readonly Client[] = [
  {
    team: "search",
    provider: "openai",
    list: "openai",
    models: ["gpt-5.2", "gpt-4o-mini"],
    keyId: "key_search",
    billedKey: "key_oa_1",
    project: "proj_1",
    write: undefined,
  },
  {
    team: "support",
    provider: "anthropic",
    list: "anthropic",
    models: ["claude-haiku-4-5", "claude-sonnet-4-5"],
    keyId: "key_support",
    billedKey: "apikey_an_1",
    project: "wrkspc_1",
    write: "cache_write_5m",
  },
  {
    team: "ads",
    provider: "gcp.gemini",
    list: "google",
    models: ["gemini-2.5-flash"],
    keyId: "key_ads",
    billedKey: "gg-1",
    project: "acme-ads",
    write: undefined,
  },
];

/** When what happens, in days from the start. */
export const HAPPENS = {
  /** Late: a tenth of the day's charges stands on the bill two days later. */
  late: 3,
  /** A part of what was read from the cache is billed as plain input. */
  tokenClass: 5,
  /** Google's output costs a fifth more from here on. */
  price: 9,
  /** Our key is used elsewhere, for six hours from 3 in the morning. */
  leak: 7,
  /** A key that was never metered. */
  oldKey: 11,
  /** Anthropic takes a tenth off from here on. */
  discount: 13,
  /** Containers, which nobody metered. */
  fee: 6,
};
export const LEAK_HOURS = 6;

/** A piece of the truth: why the bill of a day differs from the meter. */
export type Cause = {
  readonly provider: string;
  readonly day: string;
  readonly cause: VarianceCause;
  readonly amountNanoUsd: bigint;
};
export type Quarter = {
  readonly startMs: number;
  readonly days: number;
  /** In the order of their attempts; without ids. */
  readonly events: readonly { readonly atMs: number; readonly event: UsageEvent }[];
  readonly causes: readonly Cause[];
};

const prices = createPriceBook();

/** Fills `truth` with what providers charge, and says what was metered and why they differ. */
export function makeQuarter(truth: Truth, startDay: string, days: number, seed: number): Quarter {
  const next = random(seed);
  const trace = readNumbers("../../command/demo/trace.csv");
  const sizes = readNumbers("../fixtures/request-sizes.csv");
  const startMs = Date.parse(`${startDay}T00:00:00Z`);
  const events: { atMs: number; event: UsageEvent }[] = [];
  const causes: Cause[] = [];
  const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
  const differ = (provider: string, day: string, cause: VarianceCause, amountNanoUsd: bigint): void => {
    if (amountNanoUsd !== 0n) causes.push({ provider, day, cause, amountNanoUsd });
  };
  const charge = (one: Charge): void => void truth.charges.push(one);

  const serve = (client: Client, atMs: number, index: number): void => {
    const { provider, list, models, billedKey, project } = client;
    const day = Math.floor((atMs - startMs) / DAY_MS);
    const model = models[index % models.length] ?? "";
    const [input = 100, output = 10] = sizes[Math.floor(next() * sizes.length)] ?? [];
    const isBatch = provider === "openai" && next() < 0.1;
    const tier = isBatch ? "batch" : "";
    const cached = next() < 0.4 ? Math.floor(input / 2) : 0;
    const usage: Usage = {
      input: input - cached,
      ...(cached > 0 ? { cache_read: cached } : {}),
      ...(client.write && next() < 0.3 ? { [client.write]: Math.floor(input / 3) } : {}),
      output,
    };
    const price = prices.find(list, model, atMs, isBatch ? ["batch"] : []);
    if (!price) throw new Error(`no price of ${model}`);
    const metered = cost(usage, price);
    // Some clients leave before the end: what went by is an estimate of what was made. Some answers die with the proxy.
    const fate = next();
    const left = fate < 0.03;
    const crashed = fate >= 0.03 && fate < 0.035;
    const seen: Usage = left ? { ...usage, output: Math.max(1, Math.floor(output * (0.6 + next() * 0.3))) } : usage;
    const estimate = left ? cost(seen, price) : metered;
    // What was held for an answer that nobody saw is what it could have cost.
    const held = ((metered.costNanoUsd ?? 0n) * BigInt(110 + Math.floor(next() * 60))) / 100n;
    events.push({
      atMs,
      event: event(0, crashed ? held : estimate.costNanoUsd, {
        keyId: client.keyId,
        provider,
        requestedModel: model,
        servedModel: model,
        team: client.team,
        tier: isBatch ? "batch" : undefined,
        tags: JSON.stringify({ feature: index % 2 === 0 ? "chat" : "digest" }),
        usage: crashed ? {} : seen,
        usageState: left || crashed ? "estimated" : "reported",
        usageReason: left ? "cut" : crashed ? "crash" : undefined,
        costLines: crashed ? [] : estimate.lines,
        priceVersion: price.version,
        priceConfidence: price.confidence,
        outcome: left ? "client_left" : crashed ? "crash" : "complete",
        durationMs: 2_000,
      }),
    });

    // What the provider makes of it. It books by the end: what ran over midnight stands on the next day.
    const billedMs = atMs + 2_000;
    const [meteredDay, billedDay] = [dayOf(atMs), dayOf(billedMs)];
    const isLate = day === HAPPENS.late && next() < 0.1;
    const estimateOf = new Map(estimate.lines.map((line) => [line.unit, line.costNanoUsd]));
    for (const line of metered.lines) {
      let amount = line.costNanoUsd;
      let listed = amount;
      let unit = line.unit;
      const quantity = line.quantity;
      if (provider === "gcp.gemini" && unit === "output" && day >= HAPPENS.price) {
        listed = amount = (amount * 6n) / 5n;
        differ(provider, billedDay, "price", amount - line.costNanoUsd);
      }
      if (provider === "anthropic" && day >= HAPPENS.discount) {
        amount = (amount * 9n) / 10n;
        differ(provider, billedDay, "tier or discount", amount - listed);
      }
      if (provider === "openai" && day === HAPPENS.tokenClass && unit === "cache_read" && tier === "") {
        unit = "input";
        const plain = price.units.input?.base ?? 0n;
        amount = listed = (plain * BigInt(quantity)) / 1000n;
        differ(provider, billedDay, "token class", amount - line.costNanoUsd);
      }
      if (meteredDay !== billedDay) {
        // What lies on the wrong day is what was metered on it. Of an answer that nobody saw that is a hold, thus an
        // estimate; and what an estimate missed was never metered on any day: it is corrected where it is billed.
        const cause = crashed ? "estimate corrected" : "day boundary";
        const known = crashed ? line.costNanoUsd : (estimateOf.get(line.unit) ?? 0n);
        differ(provider, meteredDay, cause, -known);
        differ(provider, billedDay, cause, known);
        differ(provider, billedDay, "estimate corrected", line.costNanoUsd - known);
      }
      charge({
        provider,
        atMs: billedMs,
        billedKey,
        project,
        model,
        tier,
        unit: unit as Unit,
        quantity,
        amountNanoUsd: amount,
        listNanoUsd: listed,
        requests: 1,
        ...(isLate ? { billedAtMs: billedMs + 2 * DAY_MS } : { billedAtMs: billedMs + 4 * HOUR_MS }),
        reportedAtMs: billedMs + 3 * MINUTE_MS,
      });
    }
    const truly = metered.costNanoUsd ?? 0n;
    if (left && meteredDay === billedDay)
      differ(provider, meteredDay, "estimate corrected", truly - (estimate.costNanoUsd ?? 0n));
    if (crashed) differ(provider, meteredDay, "estimate corrected", truly - held);
  };

  for (let hour = 0; hour < days * 24; hour++) {
    const counts = trace[hour % trace.length] ?? [];
    CLIENTS.forEach((client, i) => {
      const usual = (counts[i + 1] ?? 0) / [18_000, 3_500, 2_500][i]!;
      const many = Math.max(0, Math.min(6, Math.round(usual * 2 + next() - 0.5)));
      const times = Array.from({ length: many }, () => Math.floor(next() * (HOUR_MS - 10_000)));
      // Every third night an answer begins right before midnight: some hundred times as often as such a rhythm would
      // have it.
      if (hour % 24 === 23 && next() < 0.33) times.push(HOUR_MS - 1_000);
      for (const [index, offset] of times.toSorted((a, b) => a - b).entries())
        serve(client, startMs + hour * HOUR_MS + offset, index);
    });
  }
  events.sort((a, b) => a.atMs - b.atMs);

  /** Use of a key that did not come through the proxy. */
  const goRound = (billedKey: string, fromMs: number, hours: number, perHour: number): void => {
    const price = prices.find("openai", "gpt-5.2", fromMs);
    if (!price) throw new Error("no price");
    for (let hour = 0; hour < hours; hour++)
      for (let i = 0; i < perHour; i++) {
        const atMs = fromMs + hour * HOUR_MS + Math.floor(next() * HOUR_MS);
        for (const line of cost({ input: 900, output: 700 }, price).lines) {
          charge({
            provider: "openai",
            atMs,
            billedKey,
            project: "proj_1",
            model: "gpt-5.2",
            tier: "",
            unit: line.unit as Unit,
            quantity: line.quantity,
            amountNanoUsd: line.costNanoUsd,
            requests: 1,
            billedAtMs: atMs + 4 * HOUR_MS,
            reportedAtMs: atMs + 3 * MINUTE_MS,
            isPastKeymeter: true,
          });
          differ("openai", dayOf(atMs), "unmetered key", line.costNanoUsd);
        }
      }
  };
  goRound("key_oa_1", startMs + HAPPENS.leak * DAY_MS + 3 * HOUR_MS, LEAK_HOURS, 40);
  goRound("key_oa_old", startMs + HAPPENS.oldKey * DAY_MS + 14 * HOUR_MS, 3, 10);

  const feeAt = startMs + HAPPENS.fee * DAY_MS + HOUR_MS;
  charge({
    provider: "openai",
    atMs: feeAt,
    billedKey: "key_oa_1",
    project: "proj_1",
    lineItem: "code interpreter sessions",
    quantity: 4,
    amountNanoUsd: 120_000_000n,
    billedAtMs: feeAt + 4 * HOUR_MS,
    reportedAtMs: feeAt,
  });
  differ("openai", dayOf(feeAt), "fee", 120_000_000n);

  // Google's credits, a part of each day's output; and tax at the end of the month.
  for (let day = 0; day < days; day += 3) {
    const atMs = startMs + day * DAY_MS + 12 * HOUR_MS;
    const has = truth.charges.some(
      (one) => one.provider === "gcp.gemini" && one.unit === "output" && dayOf(one.atMs) === dayOf(atMs),
    );
    if (!has) continue;
    charge({
      provider: "gcp.gemini",
      atMs,
      project: "acme-ads",
      model: "gemini-2.5-flash",
      tier: "",
      unit: "output",
      quantity: 0,
      amountNanoUsd: -250_000n,
      kind: "credit",
      billedAtMs: atMs + 4 * HOUR_MS,
    });
    differ("gcp.gemini", dayOf(atMs), "credit or tax", -250_000n);
  }
  const taxAt = startMs + (days - 1) * DAY_MS + 12 * HOUR_MS;
  charge({
    provider: "gcp.gemini",
    atMs: taxAt,
    project: "acme-ads",
    lineItem: "Tax",
    quantity: 0,
    amountNanoUsd: 3_210_000n,
    kind: "tax",
    billedAtMs: taxAt + 4 * HOUR_MS,
  });
  differ("gcp.gemini", dayOf(taxAt), "credit or tax", 3_210_000n);
  return { startMs, days, events, causes };
}

/** Sums of causes by provider and day. */
export function sumCauses(causes: readonly Cause[]): Map<string, bigint> {
  const sums = new Map<string, bigint>();
  for (const { provider, day, cause, amountNanoUsd } of causes) {
    const name = `${provider} ${day} ${cause}`;
    sums.set(name, (sums.get(name) ?? 0n) + amountNanoUsd);
  }
  return sums;
}

export function lastDay(quarter: Quarter): string {
  return addDays(new Date(quarter.startMs).toISOString().slice(0, 10), quarter.days);
}

function readNumbers(path: string): number[][] {
  return readFileSync(new URL(path, import.meta.url), "utf8")
    .trim()
    .split("\n")
    .filter((line) => /^\d/.test(line))
    .map((line) => line.split(",").map(Number));
}
