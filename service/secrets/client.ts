// Clients that are made with a secret, and follow it.
import type { Secret } from "../secret.ts";

/** The client of the secret as it is now; made anew when that is another one. Throws what `reveal` throws. */
export function clientOf<T>(secret: Pick<Secret, "reveal">, make: (text: string) => T): () => T {
  let made: { readonly text: string; readonly client: T } | undefined;
  return () => {
    const text = secret.reveal();
    if (made?.text !== text) made = { text, client: make(text) };
    return made.client;
  };
}
