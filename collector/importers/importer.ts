// An importer reads one provider's billing source, a UTC day at a time. To add one: a file here and a line in index.ts.
import type { BilledLine } from "../../ledger/bills.ts";

export type Importer = {
  /** The provider as it is booked. */
  readonly provider: string;
  /** The bill of one UTC day. Rejects with an ImportError when the source cannot be read; then nothing is replaced. */
  fetchDay(day: string): Promise<BilledLine[]>;
};

/** A billing source that cannot be read. The message says which, what was seen and what to do. */
export class ImportError extends Error {
  override readonly name = "ImportError";
}
