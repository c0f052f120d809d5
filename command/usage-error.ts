// A command line that makes no sense: exit code 2, with what is allowed.
export class UsageError extends Error {
  override readonly name = "UsageError";
}
