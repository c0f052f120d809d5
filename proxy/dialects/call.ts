// What a request asks for, as plain data: it is priced, held and settled by it, and travels to threads.
import type { Usage } from "../../ledger/usage.ts";
import type { Why } from "./why.ts";

/** What a metered request asks for, in what matters to its price. */
export type Call = {
  readonly endpoint: string;
  readonly model: string;
  readonly stream: boolean;
  /** Price-changing tiers that the request asks for. The answer's word wins. */
  readonly tiers: readonly string[];
  /** What the place it goes to does to its price, whatever the answer says. */
  readonly placeTiers?: readonly string[];
  /** The most tokens of one answer; undefined: as much as the model can. 0: it answers no tokens. */
  readonly maxOutputTokens: number | undefined;
  /** How many answers are asked for. */
  readonly answers: number;
  /** Why the input is bounded by the model's context only, not by the body's bytes (a picture, a stored
   *  conversation). */
  readonly openInput: Why | undefined;
  /** The answer that it goes on from, which is its input too. */
  readonly continues?: string | undefined;
  /** How many tokens that is, where it passed here. */
  readonly continuedTokens?: number;
  /** Why no bound exists at all (tools that run at the provider, work that goes on after the answer). */
  readonly unbounded: Why | undefined;
  /** A name in it that nobody knows (a field, a beta): no bound is proven with it, but what it may add is not reckoned
   *  with. */
  readonly unknown?: Why | undefined;
  /** The cache that it changes. `isModelOpen`: only who knows the cache knows its model. */
  readonly cache?: {
    readonly name: string;
    readonly isModelOpen: boolean;
    /** Until when its storage is booked, where it passed here. */
    readonly bookedUntilMs?: number;
  };
  /** Its work goes on at the provider after the answer. */
  readonly goesOn?: boolean;
  /** The provider keeps its answer, for who asked to fetch it again. */
  readonly isStored?: boolean;
  /** A turn of a WebSocket: it is not held up when what is held for it is used up. */
  readonly isTurn?: boolean;
  /** How many separate inputs it holds, each with a context of its own. Absent: one. */
  readonly inputs?: number;
  /** Why what is made cannot be told from what goes by: the most that it can cost is then what is expected. */
  readonly hidden?: string | undefined;
  /** Whether a model may think in it unseen; false only where that is known to be off. */
  readonly mayThink?: boolean;
  /** Text goes in and text comes out. Absent: sound, pictures or film may be among it. */
  readonly isText?: boolean;
  /** Whether its input may be written to a cache for money; undefined: the provider may do so by itself. */
  readonly writesCache?: boolean | undefined;
  /** Tokens that the provider adds to the input, beyond the bytes of the body: preambles of tools, pictures in a
   *  form. */
  readonly hiddenTokens?: number;
  /** Models beside `model` that the body names. One of `instead` may answer in its place; those `beside` it do a part
   *  of the work. */
  readonly otherModels?: { readonly instead: readonly string[]; readonly beside: readonly string[] };
  /** A turn of speech, of which only the usual length is known. */
  readonly isSpeech?: boolean;
  /** The longest context that one pass of the request can have, where that is less than the model's. */
  readonly longestContext?: number;
  /** Fees that the request fixes: pictures, seconds of film, characters to be spoken. */
  readonly fees?: Usage | undefined;
  /** The answer is the result of work: whole however large, and maybe one JSON object a line. */
  readonly isResult?: boolean;
  /** Whom the body names, in the format's own field for it. */
  readonly person?: string | undefined;
  /** Tags that the body carries. */
  readonly bodyTags: { readonly [name: string]: string };
};

/** A call of text that asks for nothing special: what others differ from. */
export const PLAIN_CALL: Omit<Call, "endpoint" | "model"> = Object.freeze({
  stream: false,
  tiers: [],
  maxOutputTokens: undefined,
  answers: 1,
  openInput: undefined,
  unbounded: undefined,
  bodyTags: {},
});

/** Whether a request may leave its model out, because the provider knows one. */
export function isNameless({ openInput }: Call): boolean {
  switch (openInput?.kind) {
    case "batch_file":
    case "stored_prompt":
    case "unnamed_model":
      return true;
    default:
      return false;
  }
}
