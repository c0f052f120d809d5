// Who sends what where: the first steps of every request and of every WebSocket, before anything is read or held.
import type { IncomingMessage } from "node:http";
import type { ProxyContext } from "./context.ts";
import { checkHeaders } from "./gate.ts";
import { checkCredential, findCredentials } from "./credential.ts";
import { credentialOf, reveal } from "./credential-source.ts";
import { checkMethod, readTarget, resolveTarget } from "./target.ts";
import type { Credential } from "./credential.ts";
import { checkScope, scopeOf } from "./scope.ts";
import type { Target } from "./target.ts";
import { checkAddress, checkProvider, clientAddress } from "./policy.ts";
import { nowhere, Refused } from "./refusals.ts";
import { ASK_PATH } from "./me.ts";
import type { Key } from "../ledger/usage/keys.ts";
import type { Principal } from "./principal.ts";
import type { CredentialSource, Provider } from "./providers/provider.ts";

/** What has to be known to tell whose a credential is, and where a request goes. */
type Identifying = Pick<ProxyContext, "register" | "sightings" | "isTrusted">;
type Arriving = Identifying & Pick<ProxyContext, "config" | "providers" | "isDraining">;

/** A request for a provider: who asks, and for which place. */
export type Arrived = {
  readonly query: URLSearchParams;
  readonly credential: Credential;
  /** The client's own for the provider, beside its Keymeter key. */
  readonly own: Credential | undefined;
  readonly target: Target;
  readonly principal: Principal;
};

/** Without a target it is a path of our own, for a key's holder. */
export type Arrival = Arrived | { readonly target: undefined; readonly path: string; readonly key: Key };

const OWN_PATHS: readonly string[] = ["/keymeter/me", ASK_PATH];

/** The first steps of a request, before its body is taken in: a stranger uploads nothing. */
export function arrive(context: Arriving, request: IncomingMessage): Arrival {
  const { path, query, credential, own, target } = readArrival(context, request);
  if (!target) {
    if (!OWN_PATHS.includes(path)) throw nowhere(path);
    const key = holderOf(context, request, credential);
    if (hasBody(request) && path !== ASK_PATH) throw nowhere(path);
    return { target, path, key };
  }
  const principal = identify(context, request, credential, target.provider.name);
  if (principal.kind !== "virtual" && !context.config.passThrough)
    throw new Refused("pass_through_off", "provider keys are not accepted here; ask for a Keymeter key (km_...)");
  checkProvider(principal.key, target.provider.name);
  checkMethod(query);
  return {
    query,
    credential,
    own,
    target,
    principal: paidBy(context, request, principal, target, { credential, own }),
  };
}

/** Answers by what another proxy may have written a moment ago: for an unknown key the books are asked once more. */
export async function askingAgain<T>(context: Pick<ProxyContext, "register" | "writer">, answer: () => T): Promise<T> {
  try {
    return answer();
  } catch (error) {
    const isUnknown = error instanceof Refused && error.reason === "unknown_key";
    if (!isUnknown || !context.writer.isOneOfMany || !(await context.register.lookAgain(Date.now()))) throw error;
    return answer();
  }
}

/** Checks that what the path names is the key's, and says which credential goes to the provider. */
export async function enter(
  context: Arriving & Pick<ProxyContext, "things">,
  { target, principal, credential, own: theirs }: Arrived,
): Promise<Sent> {
  const own = await credentialFor(context, target, principal, credential, theirs);
  const scope = scopeOf(target);
  if (scope !== undefined) await checkScope(context, target, scope, principal);
  return own;
}

/** Reads a canonical target and one credential. Throws Refused for what is odd, and while this program stops. The
 *  target is undefined where the path leads to no provider. */
export function readArrival(
  context: Pick<ProxyContext, "isDraining" | "providers">,
  request: IncomingMessage,
): Pick<Arrived, "query" | "credential" | "own"> & { readonly path: string; readonly target: Target | undefined } {
  if (context.isDraining()) throw new Refused("draining", "this Keymeter is shutting down; send the request again");
  const { path, query } = readTarget(request.url ?? "");
  checkHeaders(request);
  const found = findCredentials(request, query);
  const target = resolveTarget(context.providers, request, path, query);
  const credential = checkCredential(found.holder, target?.provider);
  return { path, query, credential, own: found.own && checkCredential(found.own, target?.provider), target };
}

/** The client's address. */
export function addressOf(context: Pick<ProxyContext, "isTrusted">, request: IncomingMessage): string {
  return clientAddress(request, (peer) => context.isTrusted(peer));
}

/** Whose credential it is, at this instant. Throws Refused for a key that is unknown, expired, paused or revoked, or
 *  not meant for the client's address. */
export function identify(
  context: Identifying,
  request: IncomingMessage,
  credential: Credential,
  provider: string,
): Principal {
  const address = addressOf(context, request);
  const nowMs = Date.now();
  const principal = context.register.identify(credential.text, provider, address, nowMs);
  checkAddress(principal.key, address);
  if (principal.key) context.sightings.see(principal.keyId, address, nowMs);
  return principal;
}

/** What goes to the provider. */
export type Sent = Credential & {
  /** Undefined: it is the client's own. */
  readonly ours:
    | {
        /** Undefined where no credential is needed. */
        readonly source: CredentialSource | undefined;
        /** Its fingerprint; undefined: it has none, for it is another one every hour. */
        readonly id: string | undefined;
      }
    | undefined;
};

/** Who asks, with what pays for it. */
export function payingWith(principal: Principal, { ours }: Sent): Principal {
  return ours?.id === undefined ? principal : { ...principal, swappedFor: ours.id };
}

/** With who pays: a subscription, where the settings say so or the provider has answered a sign-in as one; or a credential
 *  of the client's own beside its key. That one is nobody's to use whom the register knows as paused, revoked or bound to
 *  another address, nor where it is a key with an owner or a policy here: its caps would not hold. Throws Refused. */
export function paidBy(
  context: Identifying,
  request: IncomingMessage,
  principal: Principal,
  { provider }: Target,
  { credential, own }: Pick<Arrived, "credential" | "own">,
): Principal {
  // Held as money until the provider said what it is: what is billed by use begins alike.
  const seatOf = ({ text }: Credential, { signIn }: Principal): Pick<Principal, "isSeat" | "seatSignIn"> => {
    if (provider.isSeat === true) return { isSeat: true };
    if (signIn === undefined || provider.dialect.seat?.mayPay(text) !== true) return {};
    return { isSeat: context.register.isSeat(signIn), seatSignIn: signIn };
  };
  if (!own) return { ...principal, ...seatOf(credential, principal) };
  const address = addressOf(context, request);
  const payer = context.register.identify(own.text, provider.name, address, Date.now());
  if (payer.kind === "virtual")
    throw new Refused("bad_headers", "two different Keymeter keys stand in one request; send one");
  checkAddress(payer.key, address);
  const { team, project, env, user, policy } = payer.key ?? NOBODYS;
  if ([team, project, env, user].some((part) => part !== "") || Object.keys(policy).length > 0)
    throw new Refused(
      "not_allowed",
      `this provider key is a key of its own here (${payer.keyId}), with an owner or a policy; send it alone, without a Keymeter key`,
    );
  if (context.register.isRuled(payer.keyId))
    throw new Refused(
      "not_allowed",
      `this provider key has a budget, a freeze or a limit of its own here (${payer.keyId}), which holds for it alone; send it without a Keymeter key`,
    );
  // Where no key is needed none pays, whatever is said.
  return { ...principal, ...(provider.needsKey ? { payer } : {}), ...seatOf(own, payer) };
}

const NOBODYS = { team: "", project: "", env: "", user: "", policy: {} };

/** What goes to the provider: a virtual key is swapped for the provider's credential; a client's own key is the
 *  credential. */
export async function credentialFor(
  context: Pick<ProxyContext, "config" | "register">,
  target: Target,
  principal: Principal,
  credential: Credential,
  own: Credential | undefined,
): Promise<Sent> {
  if (own) return { ...own, ours: undefined };
  if (principal.kind === "virtual") {
    const { provider } = target;
    const { carrier } = credential;
    const source = credentialOf(provider, principal);
    if (!source && !provider.needsKey) return { text: "", carrier, ours: { source, id: undefined } };
    if (!source) throw new Refused("no_provider_credential", noCredential(provider, principal));
    const text = await reveal(source, provider.name);
    return { text, carrier, ours: { source, id: context.register.credentialId(source, text, provider.name) } };
  }
  if (!context.config.passThrough)
    throw new Refused("pass_through_off", "provider keys are not accepted here; ask for a Keymeter key (km_...)");
  return { ...credential, ours: undefined };
}

function noCredential({ name, scoped }: Provider, { team, project, env }: Principal): string {
  if (scoped.length === 0)
    return `no credential for ${name} is set; whoever runs Keymeter sets it in the proxy's environment`;
  const owner = Object.entries({ team, project, env })
    .map(([part, of]) => `${part} ${of === "" ? "(none)" : `"${of}"`}`)
    .join(", ");
  return `no credential for ${name} is for keys of ${owner}; whoever runs Keymeter names one under credentials of that provider`;
}

/** Whose a credential is, at whichever provider. The same rules as for every request hold: whose key it is, and from where it
 *  may be used. Throws Refused. */
function holderOf(context: Arriving, request: IncomingMessage, credential: Credential): Key {
  const candidates = context.providers.all.map((provider) => identify(context, request, credential, provider.name));
  const known = candidates.filter(({ key }) => key !== undefined);
  const principal = known.find((one) => context.register.isProven(one)) ?? known[0];
  if (!principal?.key) throw new Refused("unknown_key", "this key has not been used through this Keymeter yet");
  // A sign-in is known by its address; who holds one was accepted by its provider, and anybody can invent one.
  if (!context.register.isProven(principal))
    throw new Refused(
      "unknown_key",
      "no provider has accepted this sign-in through this Keymeter since it started; send a request with it first",
    );
  return principal.key;
}

/** Whether a request comes with a body. */
export function hasBody({ headers }: IncomingMessage): boolean {
  const length = headers["content-length"];
  return headers["transfer-encoding"] !== undefined || (length !== undefined && length !== "0");
}
