// Own: things at the provider that a key's request made. The key may reach them.
import { DONE } from "./ledger.ts";
import type { Booker, Ledger } from "./ledger.ts";

export function bookOwn({ entries }: Ledger): Booker<"own"> {
  return ({ attemptId, provider, keyId, names }) => {
    for (const name of names) entries.thing(provider, name, keyId, attemptId);
    return DONE;
  };
}
