// Own: things at the provider that a key's request made. The key may reach them.
import { INSERT_THING } from "../things.ts";
import { DONE } from "./ledger.ts";
import type { Booker, Ledger } from "./ledger.ts";

export function bookOwn({ database }: Ledger): Booker<"own"> {
  const insertThing = database.prepare(INSERT_THING);
  return ({ attemptId, provider, keyId, names }) => {
    for (const name of names) insertThing.run(provider, name, keyId, attemptId);
    return DONE;
  };
}
