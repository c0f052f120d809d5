/** A change that cannot be made; the message is for whoever asked. */
export class ChangeRefused extends Error {
  override readonly name = "ChangeRefused";
}
