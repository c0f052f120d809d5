// Seal: a day that is over gets its digest.
import { applySeal, readSealedEnd } from "../seals.ts";
import { DONE } from "./ledger.ts";
import type { Booker, Ledger } from "./ledger.ts";

export function bookSeal(ledger: Ledger): Booker<"seal"> {
  return ({ seal, atMs }) => {
    applySeal(ledger.database, seal, atMs);
    ledger.sealedEnd = readSealedEnd(ledger.database);
    return DONE;
  };
}
