// What a Keymeter key reaches at a provider, where all of them are one account: what it made itself, by a path or by a
// name in a body.
import type { ProxyContext } from "./context.ts";
import type { Principal } from "./principal.ts";
import { Refused } from "./refusals.ts";
import type { Target } from "./target.ts";

/** A Keymeter key reaches what it began itself; at the provider all of them are one account. */
export async function checkScope(
  { things }: Pick<ProxyContext, "things">,
  { provider, dialect, match }: Target,
  principal: Principal,
): Promise<void> {
  if (!match) return;
  const scope = match.route.kind === "result" ? "work" : match.route.scope;
  if (scope === undefined) return;
  const workId = scope === "work" ? dialect.workId(match) : "";
  if (workId.includes("%"))
    throw new Refused("bad_target", "an id is written without escapes on a path that brings results");
  if (principal.kind !== "virtual") return;
  if (scope === "account")
    throw new Refused(
      "not_metered",
      "this path shows or changes what other keys of the same provider account made, so it is not open to Keymeter keys",
    );
  if ((await things.ownerOf(provider.name, workId)) !== principal.keyId)
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
  const owners = await things.ownersOf(provider, references);
  if (owners.some((owner) => owner !== principal.keyId))
    throw new Refused(
      "not_metered",
      "the body refers to a file, cache, answer or conversation that another Keymeter key made",
    );
}
