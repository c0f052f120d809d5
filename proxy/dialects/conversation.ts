// A conversation is what a WebSocket carries: messages of the client, of which some start work that costs money, and
// messages of the provider, of which some say what it used. A turn is one such piece of work. Reads messages and
// changes none of them.
import type { Call } from "./call.ts";
import type { JsonObject } from "./json.ts";
import type { Reading } from "./reading.ts";
import type { Refusal } from "./refusal.ts";

/** What has to be reserved before a message of the client goes to the provider. */
export type Need =
  /** `asks`: the message asks for a turn of its own, on that lane. */
  | { readonly call: Call; readonly asks: { readonly lane: string } }
  /** `mayStart`: behind this message the provider may start a turn by itself. */
  | { readonly call: Call; readonly mayStart: true }
  /** Why the message cannot go on: what it starts could not be metered. */
  | { readonly unmetered: string };

/** What a message of the provider says about turns. */
export type Said =
  | { readonly kind: "began"; readonly turnId: string; readonly lane: string }
  /** `reading` says what the turn used. `apart`: it is nothing that was asked for, but was used beside it (a
   *  transcription). */
  | { readonly kind: "ended"; readonly turnId: string; readonly reading: Reading; readonly apart?: boolean }
  /** What was asked for on the lane does not start. */
  | { readonly kind: "declined"; readonly lane: string }
  /** Whatever was asked for and has not begun is part of a turn that ended. */
  | { readonly kind: "merged" };

export type Conversation = {
  /** What a turn is, where the handshake says so already: what does not fit is then refused before anything is
   *  connected. */
  readonly opening: Call | undefined;
  /** Models that a message names beside that of the session: for its sound, or in place of it. */
  models?(message: JsonObject): readonly string[];
  /** Before a message of the client goes on. Undefined: it costs nothing. */
  sent(message: JsonObject): Need | undefined;
  /** `text`: the message as it came. Never throws on odd input. */
  received(text: string): readonly Said[];
  /** What tells the provider to stop a turn; undefined where only hanging up does. */
  cancel(turnId: string): string | undefined;
  /** What was used of a turn that is cut, as far as it was said, and an estimate of the tokens that went by. */
  partial(turnId: string): { readonly reading: Reading; readonly tokens: number };
  /** An error as the provider would send it; undefined where it says everything by closing. */
  errorMessage(refusal: Refusal, userAgent: string): string | undefined;
};
