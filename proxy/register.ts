// The register of keys as the request path sees it: digest -> key, in memory, read from the books at start and after
// each change. A digest, never a secret, is what is looked up.
import {
  createDigest,
  fingerprintId,
  isWellFormedVirtualKey,
  looksLikeVirtualKey,
  UNPROVEN_KEY_ID,
} from "../ledger/usage/keys.ts";
import { placeOfCredential } from "../ledger/usage/credentials.ts";
import { readKeys } from "../ledger/usage/read-keys.ts";
import type { Key, KeySecret } from "../ledger/usage/keys.ts";
import type { Change } from "../ledger/usage/changes.ts";
import { whyNotChange } from "../ledger/usage/may-change.ts";
import { tokenBooks } from "../service/admin-routes.ts";
import type { TokenBooks } from "../service/admin-routes.ts";
import type { Holder } from "../ledger/usage/tokens.ts";
import { answerIn } from "../ledger/asking.ts";
import { ANYBODY, askOwners } from "../ledger/usage/budget-spend.ts";
import { askBudgets, askFreezes } from "../ledger/usage/changes.ts";
import { readLimits } from "../ledger/usage/limits.ts";
import type { Limits } from "../ledger/usage/limits.ts";
import type { UsageBooks } from "../ledger/books.ts";
import type { Noticed, ProvenKey } from "../ledger/usage/wire.ts";
import { Secret } from "../service/secret.ts";
import { SecretUnavailable } from "../service/secrets/index.ts";
import type { Asker, Principal } from "./principal.ts";
import { credentialsOf } from "./credential-source.ts";
import type { CredentialSource, Provider } from "./providers/provider.ts";
import { Refused } from "./refusals.ts";

export type Register = {
  /** Reads the books again. */
  reload(): Promise<void>;
  /** Reads them again for a key that is unknown here, but not much more often than now and then. Whether it did. */
  lookAgain(nowMs: number): Promise<boolean>;
  /** Whose secret it is at that provider. Throws Refused for an unknown, expired, paused or revoked key. */
  identify(secret: string, provider: string, address: string, nowMs: number): Principal;
  /** Whether the key was this person's, or its requests could name anybody, once: what they name now would count against
   *  him, and counts for nobody unless they still may. */
  wasOf(keyId: string, user: string): boolean;
  /** Whether a budget, a freeze or a limit names the key. */
  isRuled(keyId: string): boolean;
  /** The credentials that virtual keys are swapped for, as the fingerprints that bills are matched with. What changes
   *  every hour has none. */
  credentialsOf(providers: readonly Provider[], nowMs: number): NonNullable<Noticed["credentials"]>;
  /** The fingerprint of a credential as it is now; undefined for what changes every hour. */
  credentialId(source: CredentialSource, text: string, provider: string): string | undefined;
  /** Whether somebody who knows this secret holds the key: a sign-in only if its provider accepted this very one. */
  isProven(principal: Principal): boolean;
  /** A provider accepted a sign-in. */
  acceptSignIn(asker: Asker): void;
  /** Whether the provider's last answer to this sign-in said that a subscription pays. */
  isSeat(signIn: string): boolean;
  /** It said so, or said nothing of it. */
  noteSeat(signIn: string, isSeat: boolean): void;
  /** A fingerprint that was accepted: from now on it is known. */
  remember(asker: Asker, provider: string, nowMs: number): void;
  /** Why somebody may not make a change, by the books as they are now. */
  whyNot(holder: Holder, change: Change): Promise<string | undefined>;
  /** Who holds a named token, by the books as they are now. */
  readonly tokens: TokenBooks;
  list(): Key[];
  /** Of a key, by its id. */
  nameOf(keyId: string): string | undefined;
};

/** OAuth and JWT tokens change every hour: they are one key per provider and client address. */
const SHORT_LIVED = /^(eyJ[\w-]+\.[\w-]+\.|ya29\.|sk-ant-oat)/;

const HOLDS_VIRTUAL_KEY = /km_[a-z0-9]+_[A-Za-z0-9]+_[A-Za-z0-9]{20,}/;
/** A named token, or a pass, wherever it stands. */
const HOLDS_TOKEN = /kmt_[0-9A-Za-z]{10}_[0-9A-Za-z]{40,}|kmp_[\w-]{20,}|^["'`]*kmt_/;
const MOST_DIGESTS = 10_000;
/** Unknown keys make no more work than this. */
const LOOK_AGAIN_MS = 100;

/** `setLimits` takes the limits that the books have. */
export function createRegister(
  books: UsageBooks,
  pepper: string,
  adminToken: Secret,
  setLimits: (limits: readonly Limits[]) => Promise<void>,
): Register {
  const digestFor = createDigests(pepper);
  const fingerprintOf = (provider: string, secret: string): string => fingerprintId(digestFor(`${provider} ${secret}`));
  let keys = new Map<string, Key>();
  let secrets = new Map<string, KeySecret>();
  let owners = new Set<string>();
  let ruled = new Set<string>();
  const adminDigest = digestFor(adminToken.reveal());
  const adminLength = adminToken.reveal().length;
  /** Sign-ins that providers accepted since the start. */
  const signIns = new Set<string>();
  /** Those of them that a subscription pays for. */
  const seats = new Set<string>();

  let lookedAtMs = 0;
  let last: Promise<void> = Promise.resolve();
  // One after the other: an older read never takes the place of a newer one.
  const reload = (): Promise<void> => {
    const done = last.then(read);
    last = done.catch(() => undefined);
    return done;
  };
  const read = async (): Promise<void> => {
    const [found, limits] = [await readKeys(books), await readLimits(books)];
    keys = new Map(found.keys.map((key) => [key.id, key]));
    secrets = new Map(found.secrets.map((secret) => [secret.digest, secret]));
    await setLimits(limits);
    owners = await readOwners(books);
    ruled = await readRuled(books, limits);
  };

  return {
    isProven: ({ kind, signIn }) => kind === "virtual" || signIn === undefined || signIns.has(signIn),
    acceptSignIn({ signIn }) {
      if (signIn === undefined) return;
      if (signIns.size >= MOST_DIGESTS) signIns.clear();
      signIns.add(signIn);
    },
    isSeat: (signIn) => seats.has(signIn),
    noteSeat(signIn, isSeat) {
      if (!isSeat) return void seats.delete(signIn);
      if (seats.size >= MOST_DIGESTS) seats.clear();
      seats.add(signIn);
    },

    reload,

    async lookAgain(nowMs) {
      if (nowMs - lookedAtMs < LOOK_AGAIN_MS) return false;
      lookedAtMs = nowMs;
      await reload();
      return true;
    },

    identify(secret, provider, address, nowMs) {
      const isVirtual = looksLikeVirtualKey(secret);
      // Quotes come from .env files, prefixes from SDKs' settings; what holds a secret of ours goes to no provider.
      if (!isVirtual && HOLDS_VIRTUAL_KEY.test(secret))
        throw new Refused(
          "unknown_key",
          "the API key holds a Keymeter key with something around it; send the km_... key alone, without quotes or prefix",
        );
      // Quotes come from .env files, a prefix from an SDK that wants one.
      const bare = secret.replace(/^["'`]+|["'`]+$/g, "").replace(/^sk-(?=.)/, "");
      const isAdmin = (text: string): boolean => text.length === adminLength && digestFor(text) === adminDigest;
      if (isAdmin(secret) || isAdmin(bare))
        throw new Refused(
          "unknown_key",
          "this is Keymeter's admin token, which is no API key; send a Keymeter key or your provider key",
        );
      if (HOLDS_TOKEN.test(secret))
        throw new Refused(
          "unknown_key",
          "this is a token of Keymeter's (kmt_...), which is no API key; send a Keymeter key (km_...) or your provider key",
        );
      // What was looked up before had the right form, or is nobody's.
      if (isVirtual && !digestFor.knows(secret) && !isWellFormedVirtualKey(secret)) throw unknownKey();
      const identity = SHORT_LIVED.test(secret) ? `oauth ${address}` : secret;
      const digest = digestFor(isVirtual ? secret : `${provider} ${identity}`);
      const signIn = identity === secret ? undefined : digestFor(`${provider} ${secret}`);
      const known = secrets.get(digest);
      const key = known && keys.get(known.keyId);
      if (isVirtual && (!known || !key || (known.validUntilMs !== undefined && known.validUntilMs <= nowMs)))
        throw unknownKey();
      if (key) {
        checkState(key, nowMs);
        return principalOf(key, signIn);
      }
      const proven = { digest, name: fingerprintName(secret, provider), hint: hintOf(secret) };
      return { ...NOBODY, keyId: fingerprintId(digest), proven, signIn };
    },

    whyNot: (holder, change) => whyNotChange(books, holder, change),
    tokens: tokenBooks(books),
    wasOf: (keyId, user) => owners.has(ownerName(keyId, user)) || owners.has(ownerName(keyId, ANYBODY)),
    isRuled: (keyId) => ruled.has(keyId),

    credentialsOf: (providers, nowMs) => heldBy(providers, fingerprintOf, nowMs),

    credentialId(source, text, provider) {
      const what = source instanceof Secret ? text : source.identityOf?.(text)?.text;
      return what === undefined ? undefined : fingerprintOf(provider, what);
    },

    remember({ proven, keyId }, provider, nowMs) {
      if (!proven || keys.has(keyId)) return;
      keys.set(keyId, fingerprintKey(keyId, proven, provider, nowMs));
      secrets.set(proven.digest, { digest: proven.digest, keyId, validUntilMs: undefined });
    },

    nameOf: (keyId) => keys.get(keyId)?.name,
    list: () => [...keys.values()].filter((key) => key.id !== UNPROVEN_KEY_ID),
  };
}

/** What virtual keys are swapped for at each place. */
function heldBy(
  providers: readonly Provider[],
  fingerprintOf: (provider: string, secret: string) => string,
  nowMs: number,
): NonNullable<Noticed["credentials"]> {
  return providers.flatMap((provider) =>
    credentialsOf(provider).flatMap(({ name, source }) => {
      const held = source instanceof Secret ? keyIn(source) : source.identityOf?.();
      if (!held) return [];
      const { text, hint } = held;
      const credential = fingerprintOf(provider.name, text);
      return [{ provider: placeOfCredential(provider.name, name), credential, hint, atMs: nowMs }];
    }),
  );
}

/** Digests, remembered. */
type Digests = { (text: string): string; readonly knows: (text: string) => boolean };

function createDigests(pepper: string): Digests {
  const digestOf = createDigest(pepper);
  // The whole secret is the name in this cache; a part of it would let another key pass for this one.
  const digests = new Map<string, string>();
  const digestFor = (text: string): string => {
    let digest = digests.get(text);
    if (digest === undefined) {
      if (digests.size >= MOST_DIGESTS) digests.clear();
      digests.set(text, (digest = digestOf(text)));
    }
    return digest;
  };
  return Object.assign(digestFor, { knows: (text: string) => digests.has(text) });
}

/** Undefined: a store has it, and it was not read yet. */
function keyIn(secret: Secret): { readonly text: string; readonly hint: string } | undefined {
  try {
    const text = secret.reveal();
    return { text, hint: text.slice(-4) };
  } catch (error) {
    if (error instanceof SecretUnavailable) return undefined;
    throw error;
  }
}

/** A provider key that was accepted, before the books are read again. */
function fingerprintKey(keyId: string, { name, hint }: ProvenKey, provider: string, nowMs: number): Key {
  return {
    id: keyId,
    kind: "fingerprint",
    provider,
    name,
    team: "",
    project: "",
    env: "",
    user: "",
    state: "active",
    hint,
    createdAtMs: nowMs,
    expiresAtMs: undefined,
    purpose: "",
    policy: {},
  };
}

async function readOwners(books: UsageBooks): Promise<Set<string>> {
  const rows = await answerIn(books, askOwners());
  return new Set(rows.flatMap(([keyId, part, value]) => (part === "user" ? [ownerName(keyId, value)] : [])));
}

/** Keys that a budget, a freeze or a limit names. */
async function readRuled(books: UsageBooks, limits: readonly Limits[]): Promise<Set<string>> {
  const rules = [...(await answerIn(books, askBudgets())), ...(await answerIn(books, askFreezes()))];
  return new Set([
    ...rules.flatMap(({ scope }) => scope.keyId ?? []),
    ...limits.flatMap(({ scope }) => (scope.startsWith(KEY_SCOPE) ? [scope.slice(KEY_SCOPE.length)] : [])),
  ]);
}

const KEY_SCOPE = "key:";

function ownerName(keyId: string, user: string): string {
  return `${keyId}\n${user}`;
}

const NOBODY = { kind: "fingerprint", key: undefined, team: "", project: "", env: "", user: "" } as const;

function principalOf(key: Key, signIn: string | undefined): Principal {
  const { kind, id, team, project, env, user } = key;
  return { kind, keyId: id, key, team, project, env, user, proven: undefined, signIn };
}

function checkState(key: Key, nowMs: number): void {
  if (key.state === "revoked") throw unknownKey();
  if (key.state === "paused")
    throw new Refused("key_paused", `key ${key.name} (${key.id}) is paused; whoever runs Keymeter can resume it`);
  if (key.expiresAtMs !== undefined && key.expiresAtMs <= nowMs)
    throw new Refused(
      "key_expired",
      `key ${key.name} (${key.id}) expired on ${new Date(key.expiresAtMs).toISOString()}`,
    );
}

/** One answer for every way of not knowing a key. */
function unknownKey(): Refused {
  return new Refused(
    "unknown_key",
    "this key is unknown, or it was revoked; check that it was copied whole, or ask for a new one",
  );
}

/** "openai key …a1b2": enough to recognise, too little to use. */
function fingerprintName(secret: string, provider: string): string {
  if (secret === "") return `${provider} without a key`;
  if (SHORT_LIVED.test(secret)) return `${provider} sign-in`;
  const hint = hintOf(secret);
  return hint === "" ? `${provider} key of ${secret.length} characters` : `${provider} key …${hint}`;
}

/** The last four characters, where they are not half of it. */
function hintOf(secret: string): string {
  return secret.length < SHORTEST_HINTED ? "" : secret.slice(-4);
}

const SHORTEST_HINTED = 12;
