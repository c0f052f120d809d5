// How long the answers are that passed lately, with all that went before them: the input of the next request that goes
// on from one. Of what is not known the whole context of the model counts.
import { contextTokens } from "../ledger/usage.ts";
import type { Usage } from "../ledger/usage.ts";
import type { Call } from "./dialects/call.ts";
import { createNewest } from "./newest.ts";

export type Lengths = {
  remember(provider: string, endpoint: string, responseId: string, usage: Usage): void;
  /** The call with the length of what it goes on from, where that is known. */
  measured(provider: string, call: Call): Call;
};

const MOST_REMEMBERED = 100_000;
/** Where an answer can be gone on from by its name. */
const NAMED: ReadonlySet<string> = new Set(["responses", "responses_compact", "interactions"]);

export function createLengths(): Lengths {
  const tokens = createNewest<number>(MOST_REMEMBERED);
  const nameOf = (provider: string, responseId: string): string => `${provider}\n${responseId}`;
  return {
    remember(provider, endpoint, responseId, usage) {
      if (!NAMED.has(endpoint)) return;
      tokens.set(nameOf(provider, responseId), contextTokens(usage) + (usage.output ?? 0));
    },
    measured(provider, call) {
      const known = call.continues === undefined ? undefined : tokens.get(nameOf(provider, call.continues));
      if (known === undefined || call.openInput?.kind !== "answer") return call;
      return { ...call, continuedTokens: known, openInput: undefined };
    },
  };
}
