// What the demo's provider writes down of each request, and what it bills for it: its own figures, which the ledger is
// held against.

/** USD per million tokens of input, cached input, written cache, output; as these providers publish them. */
export type Price = readonly [input: number, cached: number, written: number, output: number];

/** The price of a model at an instant. */
export type PriceOf = (model: string, at: string) => Price | undefined;

/** What one answered request used, and what this provider will bill for it. */
export type JournalEntry = {
  readonly at: string;
  readonly id: string;
  readonly path: string;
  readonly model: string;
  readonly credential: string;
  readonly input: number;
  readonly cached: number;
  readonly written: number;
  readonly output: number;
  readonly costNanoUsd: bigint;
  /** The provider's key that it is billed to: the one behind Keymeter, or one that goes round it. */
  readonly billedTo: BilledKey;
};
export type BilledKey = "key_demo" | "key_notebook";

/** tokens x USD per million in nano-USD, rounded half up; prices have at most three decimals. */
export function nano(quantity: number, usdPerMillion: number): bigint {
  return (BigInt(quantity) * BigInt(Math.round(usdPerMillion * 1_000_000)) * 2n + 1_000n) / 2_000n;
}
