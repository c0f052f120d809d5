// A conversation is what a WebSocket carries: messages of the client, of which some start work that costs money, and messages
// of the provider, of which some say what it used. A turn is one such piece of work. Reads JSON text and changes none of it.
import type { Call, Reading } from "./dialect.ts";

/** What has to be held while a message of the client goes to the provider. */
export type Need =
  | {
      readonly call: Call;
      /** The message starts a turn of its own; else the provider may start one whenever it likes. */
      readonly begins: boolean;
    }
  /** Why the message cannot go on: what it starts could not be metered. */
  | { readonly unmetered: string };

/** What a message of the provider says about turns. */
export type Said =
  | { readonly kind: "began"; readonly turnId: string }
  /** `reading` says what the turn used; one that began unseen ends all the same. */
  | { readonly kind: "ended"; readonly turnId: string; readonly reading: Reading }
  /** What the client wanted to start does not start. */
  | { readonly kind: "declined" };

export type Conversation = {
  /** What a turn is, where the handshake says so already: what does not fit is then refused before anything is connected. */
  readonly opening: Call | undefined;
  /** Whether a message costs depends on what it says, so each is read as strictly as a body: two parsers must not differ. */
  readonly isStrict: boolean;
  /** Before a message of the client goes on. Undefined: it costs nothing. */
  sent(message: string): Need | undefined;
  received(message: string): readonly Said[];
  /** What tells the provider to stop a turn; undefined where only hanging up does. */
  cancel(turnId: string): string | undefined;
  /** What was used of a turn that is cut, as far as it was said. */
  partial(turnId: string): Reading;
  /** An error as the provider would send it; undefined where it says everything by closing. */
  errorMessage(message: string): string | undefined;
};
