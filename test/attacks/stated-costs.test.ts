// Costs that providers state, held against our own prices: the sums, the gauge that an alert goes by, and what the
// command says of it.
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { createCollectorMetrics } from "../../collector/gauges/index.ts";
import { run as prices } from "../../command/prices.ts";
import type { CostLine } from "../../ledger/cost.ts";
import type { UsageBooks } from "../../ledger/books.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { differenceOf, readStated } from "../../ledger/usage/stated.ts";
import { openWriter } from "../../ledger/usage/writer.ts";
import { METRICS_SETTINGS } from "../collector/metrics-settings.ts";
import { temporaryFolder } from "../start-proxy.ts";
import { event } from "../usage-event.ts";

const HOUR_MS = 3_600_000;
afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

type Answer = {
  readonly provider?: string;
  readonly model?: string;
  /** Undefined: nothing is stated. */
  readonly stated?: bigint;
  /** Undefined: ours has no price. */
  readonly ours?: bigint;
  readonly isBelieved?: boolean;
  readonly agoMs?: number;
};

/** Books with these answers, as settling writes them: where a stated cost is believed a line stands for the
 *  difference. */
async function booksWith(answers: readonly Answer[]): Promise<{ readonly folder: string; readonly usage: UsageBooks }> {
  const folder = temporaryFolder();
  const nowMs = Date.now();
  let atMs = nowMs;
  const path = join(folder, "usage.db");
  const writer = await openWriter({ path, durability: "process", zone: "UTC", capMode: "enforce", now: () => atMs });
  for (const one of answers.toSorted((a, b) => (b.agoMs ?? 0) - (a.agoMs ?? 0))) {
    const { provider = "openrouter", model = "m-1", stated, ours, isBelieved = true, agoMs = 0 } = one;
    atMs = nowMs - agoMs;
    const line = (unit: CostLine["unit"], costNanoUsd: bigint): CostLine => ({
      unit,
      quantity: 1,
      price: 1n,
      costNanoUsd,
    });
    const own = ours === undefined ? [] : [line("input", ours / 2n), line("output", ours - ours / 2n)];
    const isUsed = stated !== undefined && isBelieved;
    await writer.settle(
      event(writer.nextAttemptId(), isUsed ? stated : ours, {
        provider,
        requestedModel: model,
        servedModel: model,
        costLines: isUsed ? [...own, line("stated", stated - (ours ?? 0n))] : own,
        statedCostNanoUsd: stated,
        priceConfidence: "exact",
      }),
    );
  }
  await writer.close();
  const usage = await openUsage(folder);
  if (!usage) throw new Error("no books");
  return { folder, usage };
}

const ANSWERS: readonly Answer[] = [
  { stated: 1_200n, ours: 1_000n },
  { stated: 1_200n, ours: 1_000n },
  { model: "m-2", stated: 5_000n, ours: 5_000n },
  { model: "m-3", stated: 10n, ours: 1_000n, isBelieved: false },
  { provider: "perplexity", stated: 900n, ours: 1_000n },
  // Neither of these can be compared.
  { model: "m-4", stated: 700n },
  { model: "m-5", ours: 700n },
  // Long ago.
  { stated: 9_000n, ours: 1_000n, agoMs: 30 * HOUR_MS },
];

describe("costs that are stated", () => {
  it("are summed by provider and model beside ours, without what has no price of ours, and without our line for the difference", async () => {
    const { usage } = await booksWith(ANSWERS);
    const sums = await readStated(usage, Date.now() - 24 * HOUR_MS);
    const byName = new Map(sums.map((one) => [`${one.provider} ${one.model}`, one]));
    expect([...byName.keys()].toSorted()).toEqual([
      "openrouter m-1",
      "openrouter m-2",
      "openrouter m-3",
      "perplexity m-1",
    ]);
    const base = { requests: 1, unbelieved: 0 };
    expect(byName.get("openrouter m-1")).toMatchObject({
      requests: 2,
      unbelieved: 0,
      statedNanoUsd: 2_400n,
      oursNanoUsd: 2_000n,
    });
    expect(byName.get("openrouter m-2")).toMatchObject({ ...base, statedNanoUsd: 5_000n, oursNanoUsd: 5_000n });
    expect(byName.get("openrouter m-3")).toMatchObject({
      requests: 1,
      unbelieved: 1,
      statedNanoUsd: 10n,
      oursNanoUsd: 1_000n,
    });
    expect(byName.get("perplexity m-1")).toMatchObject({ ...base, statedNanoUsd: 900n, oursNanoUsd: 1_000n });
    const longer = await readStated(usage, Date.now() - 48 * HOUR_MS);
    expect(longer.find(({ model, provider }) => model === "m-1" && provider === "openrouter")).toMatchObject({
      requests: 3,
      statedNanoUsd: 11_400n,
    });
    await usage.close();
  });

  it.each([
    [1_200n, 1_000n, 0.2],
    [800n, 1_000n, 0.2],
    [1_000n, 1_000n, 0],
    [0n, 1_000n, 1],
    [3_000n, 1_000n, 2],
    [5n, 0n, undefined],
    [0n, 0n, undefined],
  ])("%i nano-USD against ours of %i: %f of it", (statedNanoUsd, oursNanoUsd, wanted) => {
    const sums = { provider: "p", model: "m", requests: 1, unbelieved: 0, statedNanoUsd, oursNanoUsd };
    expect(differenceOf(sums)).toBe(wanted);
  });

  it("are a gauge of the last day, by provider and model, which is read anew after five minutes and then forgets", async () => {
    const { folder, usage } = await booksWith(ANSWERS);
    const billing = await openToWrite(folder, "billing", "process");
    const metrics = createCollectorMetrics({ usage, billing }, METRICS_SETTINGS);
    const seriesAt = async (nowMs: number): Promise<string[]> => {
      await metrics.refresh(nowMs);
      const text = await metrics.registry.metrics();
      return text
        .split("\n")
        .filter((line) => line.startsWith("keymeter_stated_cost_difference_ratio{"))
        .toSorted();
    };
    const nowMs = Date.now();
    const wanted = [
      'keymeter_stated_cost_difference_ratio{provider="openrouter",model="m-1"} 0.2',
      'keymeter_stated_cost_difference_ratio{provider="openrouter",model="m-2"} 0',
      'keymeter_stated_cost_difference_ratio{provider="openrouter",model="m-3"} 0.99',
      'keymeter_stated_cost_difference_ratio{provider="perplexity",model="m-1"} 0.1',
    ];
    expect(await seriesAt(nowMs)).toEqual(wanted);
    expect(await seriesAt(nowMs + 15_000)).toEqual(wanted);
    expect(await seriesAt(nowMs + 25 * HOUR_MS)).toEqual([]);
    await usage.close();
    await billing.close();
  });

  it("are said by `keymeter prices check` where they part from ours by more than a hundredth, or are not believed", async () => {
    const { folder, usage } = await booksWith([
      ...ANSWERS,
      { model: "m-6", stated: 100_500n, ours: 100_000n },
      { model: "m-7", stated: 100_000n, ours: 100_000n },
      { model: "m-7", stated: 1n, ours: 10n, isBelieved: false },
    ]);
    await usage.close();
    let text = "";
    vi.spyOn(process.stdout, "write").mockImplementation((chunk) => {
      text += String(chunk);
      return true;
    });
    vi.stubEnv("KEYMETER_DATA_DIR", folder);
    await prices(["check", "--since", "1d"]);
    vi.restoreAllMocks();
    const lines = text.split("\n").filter((line) => line.includes("the provider states"));
    expect(lines.length).toBe(4);
    const lineOf = (name: string): string | undefined => lines.find((line) => line.startsWith(`${name}:`));
    expect(lineOf("openrouter m-1")).toMatch(/for \d answers, .* % apart\); what it states is booked\.$/);
    expect(lineOf("openrouter m-3")).toMatch(
      /\(99 % apart\); 1 stated costs are too small to be believed, and ours is booked\.$/,
    );
    expect(lineOf("perplexity m-1")).toContain("(10 % apart)");
    expect(lineOf("openrouter m-7")).toContain("for 2 answers");
  });
});
