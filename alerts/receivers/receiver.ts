// Where alerts are said: post a message, update it, add to it, find what was sent. The outcome says whether trying again is of use, and
// whether the other side may have taken it all the same; the notifier guesses nothing.
import type { Message } from "../message.ts";

export type Outcome =
  | { readonly ok: true; readonly channel: string; readonly ts: string }
  | {
      readonly ok: false;
      readonly retryAfterMs: number;
      readonly error: string;
      /** The other side said that it did not take it. Else nobody knows: look for it before it is sent again. */
      readonly isKnown: boolean;
      /** gone: what was to be updated is not there. channel: it cannot be said there. form: the other side does not like the
       *  message. wait: that receiver says nothing before this is over, and it was not asked; everything: nothing of it works. */
      readonly about: "gone" | "channel" | "form" | "wait" | "everything" | "call";
    };

export type Picture = { readonly png: Uint8Array; readonly title: string; readonly alt: string };

/** `channel`: where, as the receiver calls it; `ts`: its id of a message. */
export type Receiver = {
  /** `isAgain`: it may be there already, with older words. */
  post(channel: string, message: Message, nonce: string, isAgain: boolean): Promise<Outcome>;
  update(channel: string, ts: string, message: Message, nonce: string): Promise<Outcome>;
  /** Beside a message. `isLoud`: where all see it. */
  reply(channel: string, ts: string, text: string, nonce: string, isLoud: boolean): Promise<Outcome>;
  /** A PNG beside a message. */
  picture(channel: string, ts: string, picture: Picture, nonce: string): Promise<Outcome>;
  /** The id of what carries a nonce, in a channel or a thread; undefined when it is not there, or when nobody can look. */
  find(channel: string, nonce: string, sinceMs: number, threadTs?: string): Promise<string | undefined>;
  /** Whether it works; returns who Keymeter is there, in words. Rejects with an Error that says how to mend it. */
  check(): Promise<string>;
};
