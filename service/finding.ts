// What a look at one part of Keymeter found: by the command, and by the programs that hold what it cannot see.

/** `off`: not set up, which is no fault. */
type State = "ok" | "warn" | "fail" | "off";
export type Finding = { readonly what: string; readonly state: State; readonly said: string; readonly mend?: string };
export type FindingState = State;

/** Why a call came to nothing, in its own words. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? error.cause.message : error.message;
}
