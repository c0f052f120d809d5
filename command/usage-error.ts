// A command line that makes no sense: exit code 2, with what is allowed.
import { didYouMean } from "../service/closest.ts";

export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** A verb of a command that there is not: says what was typed, what was probably meant, and the whole usage. */
export function noSuchVerb(
  command: string,
  typed: string | undefined,
  known: readonly string[],
  usage: string,
): UsageError {
  return new UsageError(
    typed === undefined
      ? `keymeter ${command} what? ${known.join(", ")}\n\n${usage}`
      : `there is no "keymeter ${command} ${typed}"${didYouMean(typed, known) || `: it has ${known.join(", ")}`}\n\n${usage}`,
  );
}
