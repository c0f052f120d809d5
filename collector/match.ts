// Matching: which key of the provider a metered credential is, and which metered model a billed name means. Pure. What
// more than one thing could be meant by is asked for, never guessed.
import type { ProviderKey } from "../ledger/billing/bills.ts";
import type { MeteredCredential } from "../ledger/usage/credentials.ts";
import { BUILT_IN } from "../ledger/providers.ts";
import type { Providers } from "../ledger/providers.ts";

/** What settings say: a credential's fingerprint -> the provider's key id; a billed model -> a metered one; who
 *  providers are. */
export type Stated = {
  readonly keys: { readonly [credential: string]: string };
  readonly models: { readonly [billed: string]: string };
  readonly providers: Providers;
};
/** The settings in which it stands. */
export type StatedSettings = {
  readonly billingKeys: Stated["keys"];
  readonly billingModels: Stated["models"];
  readonly providers: Providers;
};

export function statedOf({ billingKeys, billingModels, providers }: StatedSettings): Stated {
  return { keys: billingKeys, models: billingModels, providers };
}

export const NOTHING_STATED: Stated = { keys: {}, models: {}, providers: BUILT_IN };

export type KeyMatches = {
  /** The provider's key id of a credential. */
  readonly byCredential: ReadonlyMap<string, string>;
  /** What could not be told, one sentence each, with what to write where. */
  readonly asked: readonly string[];
};

/** The end of a redacted key must have as many characters to say anything. */
const LEAST_HINT = 3;

/** Matches by what the provider shows of its keys: the last characters. Deleted keys count too, for they have bills. */
export function matchKeys(
  credentials: readonly MeteredCredential[],
  providerKeys: readonly ProviderKey[],
  stated: Stated = NOTHING_STATED,
): KeyMatches {
  const byCredential = new Map<string, string>();
  const asked: string[] = [];
  const taken = new Set(Object.values(stated.keys));
  for (const { credential } of credentials) {
    const said = stated.keys[credential];
    if (said !== undefined) byCredential.set(credential, said);
  }
  const open = credentials.filter(({ credential, hint }) => hint !== "" && !byCredential.has(credential));
  const free = providerKeys.filter(({ billedKey }) => !taken.has(billedKey));
  for (const { credential, hint, name } of open) {
    const candidates = free.filter((key) => isShownAs(hint, key.hint));
    const rivals = open.filter((other) => candidates.some((key) => isShownAs(other.hint, key.hint)));
    const [only] = candidates;
    if (candidates.length === 1 && rivals.length === 1 && only) byCredential.set(credential, only.billedKey);
    else if (candidates.length > 0)
      asked.push(
        `${name} (${credential}) could be ${candidates.map((key) => `${key.billedKey} "${key.name}"`).join(" or ")}${rivals.length > 1 ? `, and so could ${rivals.length - 1} other` : ""}; say which under collector.billing_keys in keymeter.yaml: ${credential}: ${only?.billedKey ?? "key_..."}`,
      );
  }
  return { byCredential, asked };
}

/** Whether a key whose last characters we know is one that the provider shows so. */
export function isShownAs(hint: string, shown: string): boolean {
  const end = /[^.…*]*$/u.exec(shown)?.[0] ?? "";
  const length = Math.min(end.length, hint.length);
  return length >= LEAST_HINT && end.slice(-length) === hint.slice(-length);
}

export type ModelMatches = {
  /** The metered model of a billed name; a name without one stands for itself. */
  readonly of: (billed: string) => string;
  readonly asked: readonly string[];
};

/** Matches billed names with metered ones: the same name, or the same one without its snapshot's date when only one can
 *  be meant. */
export function matchModels(
  billed: Iterable<string>,
  metered: Iterable<string>,
  stated: Stated = NOTHING_STATED,
): ModelMatches {
  const names = new Set(metered);
  const families = new Map<string, string[]>();
  for (const name of names) families.set(familyOf(name), [...(families.get(familyOf(name)) ?? []), name]);
  const found = new Map<string, string>();
  const asked: string[] = [];
  for (const name of new Set(billed)) {
    const said = stated.models[name];
    const family = families.get(familyOf(name)) ?? [];
    if (said !== undefined) found.set(name, said);
    else if (names.has(name)) found.set(name, name);
    else if (family.length === 1 && family[0] !== undefined) found.set(name, family[0]);
    else if (family.length > 1)
      asked.push(
        `the bill's "${name}" could be ${family.join(" or ")}; say which under collector.billing_models in keymeter.yaml: ${name}: ${family[0] ?? ""}`,
      );
  }
  return { of: (name) => found.get(name) ?? name, asked };
}

/** A model without the date of its snapshot, its path and its case. */
function familyOf(model: string): string {
  return model
    .toLowerCase()
    .replace(/^(models|publishers\/[^/]+\/models)\//, "")
    .replace(/[-@](\d{4}-\d{2}-\d{2}|\d{8}|latest|001|002)$/, "");
}
