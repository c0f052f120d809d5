// What a Keymeter key reaches at a provider, where all of them are one account: what it made itself, by a path or by a
// name in a body.
import type { ProxyContext } from "./context.ts";
import type { Asker, Principal } from "./principal.ts";
import { Refused } from "./refusals.ts";
import type { Things } from "./things.ts";
import type { RouteMatch } from "./dialects/routes.ts";
import type { Target } from "./target.ts";

/** A path to what was made before, by its id or all of it. */
type Scope = { readonly match: RouteMatch; readonly reaches: "work" | "account" };

/** Undefined for a path that reaches nothing made before. */
export function scopeOf({ match }: Target): Scope | undefined {
  const reaches = match?.route.kind === "result" ? "work" : match?.route.scope;
  return match && reaches && { match, reaches };
}

/** Under which name a thing is known here: by a credential of the client's own it was made in another account, where anybody
 *  may choose the names that the company's things have. */
export function thingOf({ payer }: Asker, name: string): string {
  return payer === undefined ? name : `${payer.keyId} ${name}`;
}

/** The key that made a thing, in the account that the request goes to. Ids of work are the provider's own choice, and known
 *  as they are. */
export async function makerOf(
  things: Things,
  asker: Asker,
  provider: string,
  name: string,
): Promise<string | undefined> {
  const own = asker.payer && (await things.ownerOf(provider, thingOf(asker, name)));
  return own ?? (await things.ownerOf(provider, name));
}

/** A Keymeter key reaches what it began itself; at the provider all of them are one account. */
export async function checkScope(
  { things }: Pick<ProxyContext, "things">,
  { provider, dialect }: Target,
  { match, reaches }: Scope,
  principal: Principal,
): Promise<void> {
  const workId = reaches === "work" ? dialect.workId(match) : "";
  if (workId.includes("%"))
    throw new Refused("bad_target", "an id is written without escapes on a path that brings results");
  if (principal.kind !== "virtual") return;
  if (reaches === "account")
    throw new Refused(
      "not_metered",
      "this path shows or changes what other keys of the same provider account made, so it is not open to Keymeter keys",
    );
  if ((await makerOf(things, principal, provider.name, workId)) !== principal.keyId)
    throw new Refused(
      "not_metered",
      "nothing of that id was made with this key, or is known here to have been; a Keymeter key reaches its own files, batches, answers and conversations only",
    );
}

/** Refuses a body that refers to what another Keymeter key made. What was made elsewhere in the account is for all of
 *  them. */
export async function checkReferences(
  { things }: Pick<ProxyContext, "things">,
  provider: string,
  principal: Principal,
  references: readonly string[],
): Promise<void> {
  if (principal.kind !== "virtual" || references.length === 0) return;
  const owners = await things.ownersOf(
    provider,
    references.map((name) => thingOf(principal, name)),
  );
  if (owners.some((owner) => owner !== principal.keyId))
    throw new Refused(
      "not_metered",
      "the body refers to a file, cache, answer or conversation that another Keymeter key made",
    );
}
