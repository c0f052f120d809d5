/** A change that cannot be made; the message is for whoever asked. */
export class ChangeRefused extends Error {
  override readonly name: string = "ChangeRefused";
}

/** A change that the role of whoever asked does not allow. */
export class NotAllowed extends ChangeRefused {
  override readonly name = "NotAllowed";
}

/** How a failure travels from the writer's thread. */
export function kindOfRefusal(error: unknown): "refused" | "notAllowed" | undefined {
  if (error instanceof NotAllowed) return "notAllowed";
  return error instanceof ChangeRefused ? "refused" : undefined;
}
