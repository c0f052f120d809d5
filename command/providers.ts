// Providers as people name them on the command line: by name, by what they are called too, or as keymeter.yaml names an
// upstream.
import { didYouMean } from "../service/closest.ts";
import { loadCommandConfig } from "./config.ts";
import { UsageError } from "./usage-error.ts";

/** The name under which it is booked. Throws UsageError where nothing can be: a budget on it would never hold. */
export function knownProvider(word: string): string {
  const { providers } = loadCommandConfig();
  const { names } = providers;
  if (!names.includes(word))
    throw new UsageError(
      `nothing is booked under the provider "${word}"${didYouMean(word, names)}; there are ${names.join(", ")}`,
    );
  return providers.bookedName(word);
}

/** The same for what is looked up: books may know an upstream that settings do not name any more, so a likely slip is
 *  only said. */
export function bookedProvider(word: string): string {
  const { providers } = loadCommandConfig();
  const { names } = providers;
  const hint = names.includes(word) ? "" : didYouMean(word, names);
  if (hint !== "") process.stderr.write(`settings name no provider "${word}"${hint}\n`);
  return providers.bookedName(word);
}
