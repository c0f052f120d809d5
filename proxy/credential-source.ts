// What virtual keys are swapped for: which of a provider's credentials, and wherever it comes from: a setting, a store of
// secrets, or a sign-in that lasts an hour.
import { setTimeout as wait } from "node:timers/promises";
import { SecretUnavailable } from "../service/secrets/index.ts";
import type { Principal } from "./principal.ts";
import type { CredentialSource, Provider, ScopedCredential, ScopePart } from "./providers/provider.ts";
import { Refused } from "./refusals.ts";

const MOST_REVEAL_MS = 10_000;

const PARTS: readonly ScopePart[] = ["team", "project", "env"];

/** The credential that is for these keys: the one whose scope names the most of them, of equals the first; where none does,
 *  the provider's own. Undefined: there is none for them. What a request says of itself counts for nothing here. */
export function credentialOf(
  { credential, scoped }: Pick<Provider, "credential" | "scoped">,
  owner: Pick<Principal, ScopePart>,
): CredentialSource | undefined {
  let best: { readonly named: number; readonly source: CredentialSource } | undefined;
  for (const { scope, source } of scoped) {
    const named = PARTS.filter((part) => scope[part] !== undefined);
    if (!named.every((part) => scope[part]?.includes(owner[part]))) continue;
    if (best === undefined || named.length > best.named) best = { named: named.length, source };
  }
  return best?.source ?? credential;
}

/** All credentials of a provider; the name of its own is empty. */
export function credentialsOf({
  credential,
  scoped = [],
}: {
  readonly credential: CredentialSource | undefined;
  readonly scoped?: readonly ScopedCredential[] | undefined;
}): { readonly name: string; readonly source: CredentialSource }[] {
  return [...(credential ? [{ name: "", source: credential }] : []), ...scoped];
}

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
export function noteStatus(source: CredentialSource, status: number | undefined): void {
  if (status === 401) void source.refreshSoon?.();
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
