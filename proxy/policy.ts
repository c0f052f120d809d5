// What a key may do: held against each request, before any money is asked for. Patterns and blocks are compiled once a
// key.
import { BlockList, isIP } from "node:net";
import type { IncomingMessage } from "node:http";
import type { Key } from "../ledger/usage/keys.ts";
import type { KeyPolicy } from "../ledger/usage/key-policy.ts";
import { createGlob } from "../ledger/glob.ts";
import { Refused } from "./refusals.ts";

type Wanted = {
  readonly provider: string;
  readonly endpoint: string;
  readonly model: string;
  /** Other models that the request names, and that may answer or do a part of the work. */
  readonly others?: readonly string[];
};

type Compiled = {
  readonly models: readonly ((name: string) => boolean)[] | undefined;
  readonly addresses: ((address: string) => boolean) | undefined;
};
const compiled = new WeakMap<KeyPolicy, Compiled>();

/** Throws Refused, naming what the key may not do and what it may. */
export function checkPolicy(key: Key | undefined, { provider, endpoint, model, others = [] }: Wanted): void {
  checkProvider(key, provider);
  if (!key) return;
  const { policy } = key;
  if (policy.endpoints && !policy.endpoints.includes(endpoint))
    throw notAllowed(key, `the endpoint ${endpoint}`, policy.endpoints);
  const { models } = compile(policy);
  // A batch's file and a stored prompt name no model: what cannot be seen is not allowed.
  for (const named of [model, ...others])
    if (models && !models.some((matches) => matches(named)))
      throw notAllowed(
        key,
        named === "" ? "a model that the request does not name" : `the model ${named.slice(0, 100)}`,
        policy.models ?? [],
      );
}

/** Whether a key is held to some models only. */
export function isHeldToModels(key: Key | undefined): boolean {
  return key?.policy.models !== undefined || key?.policy.unpriced === "refuse";
}

/** Whether a key may ask for a model. `isPriced`: whether the model has a price. */
export function mayUseModel({ policy }: Key, model: string, isPriced: (model: string) => boolean): boolean {
  const { models } = compile(policy);
  return (!models || models.some((matches) => matches(model))) && (policy.unpriced !== "refuse" || isPriced(model));
}

/** The part of it that holds for free paths and results too. */
export function checkProvider(key: Key | undefined, provider: string): void {
  const providers = key?.policy.providers;
  if (key && providers && !providers.includes(provider)) throw notAllowed(key, `the provider ${provider}`, providers);
}

export function notAllowed({ name, id }: Key, what: string, allowed: readonly string[]): Refused {
  const may = allowed.slice(0, 10).join(", ") || "none";
  return new Refused(
    "not_allowed",
    `key ${name} (${id}) may not use ${what}; it may use ${may}. Whoever runs Keymeter can change that`,
  );
}

/** Throws Refused when the key is not meant for this address. */
export function checkAddress(key: Key | undefined, address: string): void {
  if (!key?.policy.addresses || compile(key.policy).addresses?.(address)) return;
  throw new Refused(
    "not_allowed",
    `key ${key.name} (${key.id}) may not be used from ${address || "an unknown address"}. Whoever runs Keymeter can change that`,
  );
}

/** The client's address: the peer's, or, behind proxies that are trusted, the last one in X-Forwarded-For that is none
 *  of them. */
export function clientAddress(request: IncomingMessage, isTrusted: (address: string) => boolean): string {
  let address = plain(request.socket.remoteAddress ?? "");
  if (!isTrusted(address)) return address;
  const forwarded = String(request.headers["x-forwarded-for"] ?? "").split(",");
  for (const hop of forwarded.toReversed()) {
    const named = plain(hop.trim());
    if (isIP(named) === 0) break;
    address = named;
    if (!isTrusted(address)) break;
  }
  return address;
}

/** Whether an address lies in one of the blocks. */
export function createBlocks(blocks: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const block of blocks) {
    const [address = "", prefix] = block.split("/");
    const family = isIP(address) === 6 ? "ipv6" : "ipv4";
    list.addSubnet(address, prefix === undefined ? (family === "ipv6" ? 128 : 32) : Number(prefix), family);
  }
  return (given) => {
    const address = plain(given);
    const version = isIP(address);
    return version !== 0 && list.check(address, version === 6 ? "ipv6" : "ipv4");
  };
}

function compile(policy: KeyPolicy): Compiled {
  let found = compiled.get(policy);
  if (!found) {
    found = {
      models: policy.models?.map(createGlob),
      addresses: policy.addresses && createBlocks(policy.addresses),
    };
    compiled.set(policy, found);
  }
  return found;
}

/** An IPv4 address that came over an IPv6 socket is that address. */
function plain(address: string): string {
  return address.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, "");
}
