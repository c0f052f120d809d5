// What an answer says of its use, and who reads it.
import type { Usage } from "../../ledger/usage.ts";
import type { JsonObject } from "./json.ts";

/** What an answer said about its use, until now. `pending` outweighs all else: its work is another attempt's to end.
 *  `final` says something of `usage` only where that is there; without it an answer that `ended` or `failed` is
 *  estimated from what went by. An estimate that is contradictory too is an estimate. What is absent was not said. */
export type Reading = {
  readonly usage: Usage | undefined;
  /** Of usage that sums up many answers: the input of the largest, by which long context is priced. */
  readonly context?: number | undefined;
  /** Nobody said how long each of them was: the price is inferred where one of them may have been longer than a
   *  step. */
  readonly isContextGuess?: boolean;
  /** How many passes of the model, each with the whole context, `usage` sums up: a tool that runs at the provider
   *  begins another one. */
  readonly passes?: number;
  /** Usage on top of `usage`, billed at another model's price where `model` is given. */
  readonly extra: readonly {
    readonly model: string | undefined;
    readonly usage: Usage;
    readonly context?: number | undefined;
    /** What picks its price: "variant:high/1024x1024". */
    readonly tiers?: readonly string[];
  }[];
  readonly reasoning: number | undefined;
  readonly servedModel: string | undefined;
  readonly tiers: readonly string[];
  /** Of pending work also what its result will be asked for by. */
  readonly responseId: string | undefined;
  /** The provider's own usage object as JSON text. */
  readonly raw: string | undefined;
  /** Whether `usage` is the last word on it: nothing that follows can change it. */
  readonly final: boolean;
  /** `usage` is worked out, for the provider states none in such an answer. */
  readonly isEstimate?: boolean;
  /** Counts in it do not fit together, or are no counts. */
  readonly isContradictory?: boolean;
  /** `usage` grows as the answer comes, what is thought unseen included. */
  readonly countsThoughts?: boolean;
  /** Whether the protocol's own end was seen: the last event of a stream, the whole of a JSON body. */
  readonly ended: boolean;
  /** The provider put an error where an answer should be. */
  readonly failed: boolean;
  /** What the provider says that it cost, in nano-USD. */
  readonly statedCostNanoUsd?: bigint | undefined;
  /** Numbers in the usage object that no reader knows, by path: counted and shown, so that a new fee is not lost in
   *  silence. */
  readonly unknownFields: readonly string[];
  /** Names of things at the provider that the answer made, or leads to: the key that asked may reach them. */
  readonly makes?: readonly string[];
  /** A cache that is kept for money: until when that is booked with this. */
  readonly keeps?: { readonly name: string; readonly model: string; readonly untilMs: number };
  /** Where the result of work lies, when it is asked for by another name than the work. */
  readonly resultPlace?: string | undefined;
  /** The work goes on at the provider after this answer (background responses): its use is not known yet. */
  readonly pending: boolean;
};

/** An answer that said nothing: what others differ from. */
export const NO_READING: Reading = Object.freeze({
  usage: undefined,
  extra: [],
  reasoning: undefined,
  servedModel: undefined,
  tiers: [],
  responseId: undefined,
  raw: undefined,
  unknownFields: [],
  final: false,
  ended: false,
  failed: false,
  pending: false,
});

/** What to do with a stream event on its way to the client. `last`: from here on, wait for the books. */
type EventVerdict = "pass" | "last" | "hide";

/** Reads one answer. Either `body` is called once, or `event` for each server-sent event. Never throws on odd input. */
export type UsageReader = {
  /** Whether `body` needs more than its top-level scalars and usage objects: then large bodies are parsed whole. */
  readonly needsWholeBody: boolean;
  body(body: JsonObject): void;
  /** A small answer that is no JSON. */
  text?(text: string): void;
  /** `data` is the event's payload, read as latin1: enough to look for names and to parse numbers from. */
  event(data: string): EventVerdict;
  /** How many bytes of the model's own words an event carries: what is left to go by when no usage comes. Absent: none
   *  can be told. */
  words?(data: string): number;
  /** Whether an event has more of the answer in it, though no words: sound, or what nobody counts. */
  goesOn?(data: string): boolean;
  /** Whether the model has said its last word, and only its counts may still come. Absent: the counts come with it. */
  isFinishing?(): boolean;
  reading(): Reading;
};
