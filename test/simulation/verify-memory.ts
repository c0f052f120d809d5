// Memory against the books, slice by slice, as the writer asks for it; without a thread.
import type { Answer, Operation } from "../../ledger/usage/wire.ts";

export function verifyMemory(ask: (operation: Extract<Operation, { type: "verify" }>) => Answer | undefined): {
  readonly differences: readonly string[];
  readonly reservedNanoUsd: bigint;
} {
  const differences: string[] = [];
  for (let after = ""; ;) {
    const answer = ask({ type: "verify", after });
    if (answer?.type !== "verified") throw new Error(`answered ${answer?.type ?? "nothing"}`);
    differences.push(...answer.differences);
    if (answer.next === undefined) return { differences, reservedNanoUsd: answer.reservedNanoUsd };
    after = answer.next;
  }
}
