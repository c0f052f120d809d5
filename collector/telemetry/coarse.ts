// The few series that PutMetricData sends, for CloudWatch counts money by the series: what was booked between two commits.
// Pure.
import type { Commit } from "../../ledger/usage/commits.ts";
import { toUsdNumber } from "../../ledger/money.ts";
import { isSeat, readEvent } from "./reading.ts";

export type CoarseMetric = {
  readonly name: string;
  readonly dimensions: { readonly [name: string]: string };
  readonly unit: "None" | "Count";
  readonly value: number;
};

/** A dimension that is empty is none at CloudWatch. */
const NOBODY = "-";

export function coarseOf(commits: readonly Commit[]): CoarseMetric[] {
  const money = new Map<string, bigint>();
  const counts = new Map<string, number>();
  const id = (name: string, dimensions: CoarseMetric["dimensions"]): string => JSON.stringify([name, dimensions]);
  const spend = (name: string, dimensions: CoarseMetric["dimensions"], amount: bigint): void =>
    void money.set(id(name, dimensions), (money.get(id(name, dimensions)) ?? 0n) + amount);
  const count = (name: string, dimensions: CoarseMetric["dimensions"], amount: number): void =>
    void (amount > 0 && counts.set(id(name, dimensions), (counts.get(id(name, dimensions)) ?? 0) + amount));
  for (const { event, adjustedNanoUsd } of commits) {
    const Provider = event.provider;
    const cost = adjustedNanoUsd ?? (isSeat(event) ? 0n : (event.costNanoUsd ?? 0n));
    if (cost !== 0n) {
      spend("CostUSD", { Team: event.team || NOBODY }, cost);
      spend("CostUSD", { Provider, Model: event.servedModel || event.requestedModel || NOBODY }, cost);
    }
    if (adjustedNanoUsd !== null) continue;
    const { input, output } = readEvent(event);
    count("Tokens", { Provider, Direction: "input" }, input);
    count("Tokens", { Provider, Direction: "output" }, output);
    count("Requests", { Provider }, 1);
    if (event.outcome !== "complete") count("Errors", { Provider }, 1);
  }
  const read = (text: string): Pick<CoarseMetric, "name" | "dimensions"> => {
    const [name, dimensions] = JSON.parse(text) as [string, CoarseMetric["dimensions"]];
    return { name, dimensions };
  };
  return [
    ...[...money].map(([text, sum]) => ({ ...read(text), unit: "None" as const, value: toUsdNumber(sum) })),
    ...[...counts].map(([text, value]) => ({ ...read(text), unit: "Count" as const, value })),
  ];
}
