// Who sends what where: the first steps of every request and of every WebSocket, before anything is read or held.
import type { IncomingMessage } from "node:http";
import type { ProxyContext } from "./context.ts";
import { checkHeaders, readCredential, readTarget, resolveTarget } from "./gate.ts";
import type { Credential, Target } from "./gate.ts";
import { checkAddress, clientAddress } from "./policy.ts";
import { Refused } from "./refusals.ts";
import type { Principal } from "./register.ts";

export type Arrival = {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly credential: Credential;
  /** Undefined: the path leads to no provider. */
  readonly target: Target | undefined;
};

/** Reads a canonical target and one credential. Throws Refused for what is odd, and while this program stops. */
export function readArrival(context: ProxyContext, request: IncomingMessage): Arrival {
  if (context.isDraining()) throw new Refused("draining", "this Keymeter is shutting down; send the request again");
  const { path, query } = readTarget(request.url ?? "");
  checkHeaders(request);
  const credential = readCredential(request, query);
  return { path, query, credential, target: resolveTarget(context.providers, request, path, query) };
}

/** Whose credential it is, at this instant. Throws Refused for a key that is unknown, expired, paused or revoked, or not meant for
 *  the client's address. */
export function identify(
  context: ProxyContext,
  request: IncomingMessage,
  credential: Credential,
  provider: string,
): Principal {
  const address = clientAddress(request, (peer) => context.isTrusted(peer));
  const nowMs = Date.now();
  const principal = context.register.identify(credential.text, provider, address, nowMs);
  checkAddress(principal.key, address);
  if (principal.key) context.sightings.see(principal.keyId, address, nowMs);
  return principal;
}

/** What goes to the provider: a virtual key is swapped for the provider's credential; a client's own key is the credential. */
export async function credentialFor(
  context: ProxyContext,
  target: Target,
  principal: Principal,
  credential: Credential,
): Promise<Credential> {
  if (principal.kind === "virtual") {
    const ours = target.provider.credential;
    if (!ours)
      throw new Refused(
        "no_provider_credential",
        `no credential for ${target.provider.name} is set; whoever runs Keymeter sets it in the proxy's environment`,
      );
    return { text: await ours.reveal(), carrier: credential.carrier };
  }
  if (!context.config.passThrough)
    throw new Refused("pass_through_off", "provider keys are not accepted here; ask for a Keymeter key (km_...)");
  return credential;
}
