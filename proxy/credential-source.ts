// What virtual keys are swapped for, wherever it comes from: a setting, a store of secrets, or a sign-in that lasts an hour.
import { setTimeout as wait } from "node:timers/promises";
import { HeldSecret, SecretUnavailable } from "../service/secrets/index.ts";
import type { CredentialSource, Provider } from "./providers/provider.ts";
import { Refused } from "./refusals.ts";

const MOST_REVEAL_MS = 10_000;

/** The credential as it is now. Throws Refused where it was not read yet, or does not come soon: the client may try
 *  again. */
export function reveal(source: CredentialSource, provider: string): string | Promise<string> {
  try {
    const made = source.reveal();
    return typeof made === "string" ? made : arrived(made, provider);
  } catch (error) {
    if (error instanceof SecretUnavailable) throw outOfReach(provider);
    throw error;
  }
}

/** The provider refused a credential of ours: its store may have another one by now. What was refused is not sent again. */
export function noteStatus({ credential }: Pick<Provider, "credential">, status: number | undefined): void {
  if (status === 401 && credential instanceof HeldSecret) void credential.refreshSoon();
}

async function arrived(made: Promise<string>, provider: string): Promise<string> {
  const late = new AbortController();
  try {
    const text = await Promise.race([made, wait(MOST_REVEAL_MS, undefined, { signal: late.signal, ref: false })]);
    if (text !== undefined && text !== "") return text;
  } catch {
    // What its source says may hold the credential itself.
  } finally {
    late.abort();
    made.catch(() => undefined);
  }
  throw outOfReach(provider);
}

function outOfReach(provider: string): Refused {
  return new Refused(
    "busy",
    `the credential for ${provider} cannot be had at the moment; whoever runs Keymeter looks at its source`,
  );
}
