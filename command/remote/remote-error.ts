/** A Keymeter elsewhere did not do what was asked. */
export class RemoteError extends Error {}
