// Whose an open reservation is.
import type { AttemptId } from "../../ids.ts";
import type { Ledger } from "./ledger.ts";

export type Holder = { readonly keyId: string; readonly provider: string; readonly model: string };

export function createHolderReader({ database }: Ledger): (attemptId: AttemptId) => Holder | undefined {
  const find = database.prepare(
    "SELECT key_id AS keyId, provider, requested_model AS model FROM reservations WHERE attempt_id = ?",
  );
  return (attemptId) => find.get(attemptId) as Holder | undefined;
}
