import type { Recording } from "../recordings.ts";

/** What a recorded exchange cost, apart from the product. `nanoUsd` null: it cannot be told, or nothing is billed. */
export function costOf(recording: Recording): {
  readonly nanoUsd: string | null;
  readonly why?: string;
  readonly source: "stated" | "prices";
  readonly sure: boolean;
  readonly lines?: readonly string[];
};
