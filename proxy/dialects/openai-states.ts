// The states of work that goes on at the provider: background responses, batches.
import type { Usage } from "../../ledger/usage.ts";
import { textAt } from "./json.ts";
import type { JsonObject } from "./json.ts";

/** Whether the work goes on: it does unless it says that it is done. A state that nobody knows, with its usage, is its
 *  last word. */
export function goesOnIn(answer: JsonObject, usage: Usage | undefined): boolean {
  const status = textAt(answer, "status")?.toLowerCase();
  if (status === undefined || DONE.has(status)) return false;
  return usage === undefined || GOES_ON.has(status);
}

const DONE = new Set(["completed", "incomplete", "failed", "cancelled", "expired"]);
const GOES_ON = new Set(["queued", "in_progress", "validating", "finalizing", "cancelling"]);
