// Seal: a day that is over gets its digest.
import { answerFrom } from "../../asking.ts";
import { applySeal, askSealedEnd } from "../seals.ts";
import { DONE } from "./ledger.ts";
import type { Booker, SqliteLedger } from "./ledger.ts";

export function bookSeal(ledger: SqliteLedger): Booker<"seal"> {
  return ({ seal, atMs }) => {
    answerFrom(ledger.database, applySeal(seal, atMs));
    ledger.sealedEnd = answerFrom(ledger.database, askSealedEnd());
    return DONE;
  };
}
