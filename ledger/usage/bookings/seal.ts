// Seal: a day that is over gets its digest.
import { applySeal, readSealedEnd } from "../seals.ts";
import { DONE } from "./ledger.ts";
import type { Books, Ledger } from "./ledger.ts";

export function bookSeal(ledger: Ledger): Books<"seal"> {
  return ({ seal, atMs }) => {
    applySeal(ledger.database, seal, atMs);
    ledger.sealedEnd = readSealedEnd(ledger.database);
    return DONE;
  };
}
