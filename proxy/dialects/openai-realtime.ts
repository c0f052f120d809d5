// OpenAI over WebSockets: Realtime (speech, a turn is a response; each transcription of what was heard is another) and Responses
// (each response.create is the body of a POST). The counts of Realtime include cached tokens, by modality.
// Source: platform.openai.com, Realtime and Responses WebSocket references.
import { readCount } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import {
  compactUsage,
  hasOddCounts,
  NO_READING,
  objectAt,
  parseObject,
  PLAIN_CALL,
  textAt,
  unknownNumbers,
} from "./dialect.ts";
import type { Call, JsonObject, KnownFields, Reading, UsageReader } from "./dialect.ts";
import type { Conversation, Need, Said } from "./conversation.ts";
import { readSound } from "./openai-media.ts";

/** What a turn of speech is taken for until the key has a history: half a minute heard, half a minute said. */
const USUAL_TURN: Usage = { input_audio: 300, output_audio: 600 };

/** A Realtime session. `model` undefined: one that only writes down what it hears, by a model that it names later. */
export function converseRealtime(model: string | undefined): Conversation {
  let servedModel = model;
  let transcriber: string | undefined;
  const call = (): Call | undefined => {
    const named = model ?? transcriber;
    return named === undefined ? undefined : speechCall(named);
  };
  const learn = (session: JsonObject | undefined): void => {
    const audio = objectAt(objectAt(session, "audio"), "input");
    transcriber =
      textAt(objectAt(audio, "transcription"), "model") ??
      textAt(objectAt(session, "input_audio_transcription"), "model") ??
      transcriber;
  };

  return {
    opening: call(),
    isStrict: false,

    sent(message): Need | undefined {
      if (message.includes('"session.update"') || message.includes('"transcription_session.update"'))
        learn(objectAt(parseObject(message), "session"));
      const needed = call();
      if (!needed) return { unmetered: "name a model for transcription in session.update before anything else" };
      return { call: needed, begins: CREATES.test(message) };
    },

    received(message): readonly Said[] {
      if (!TELLING.test(message)) return [];
      const event = parseObject(message);
      const response = objectAt(event, "response");
      switch (event?.["type"]) {
        case "session.created":
        case "session.updated": {
          const session = objectAt(event, "session");
          servedModel = textAt(session, "model") ?? servedModel;
          learn(session);
          return [];
        }
        case "response.created":
          return [{ kind: "began", turnId: textAt(response, "id") ?? "" }];
        case "response.done":
          return [
            { kind: "ended", turnId: textAt(response, "id") ?? "", reading: readResponse(response, servedModel) },
          ];
        case "conversation.item.input_audio_transcription.completed": {
          const stated = objectAt(event, "usage");
          const reading: Reading = {
            ...NO_READING,
            usage: readSound(event),
            servedModel: transcriber ?? servedModel,
            responseId: textAt(event, "item_id"),
            raw: stated && JSON.stringify(stated),
            unknownFields: unknownNumbers(stated, TRANSCRIBED),
            final: readSound(event) !== undefined,
            ended: true,
          };
          return [{ kind: "ended", turnId: `${textAt(event, "item_id") ?? ""} heard`, reading }];
        }
        case "error":
          return [{ kind: "declined" }];
        default:
          return [];
      }
    },

    cancel: (turnId) => JSON.stringify({ type: "response.cancel", response_id: turnId }),
    partial: () => NO_READING,
    errorMessage,
  };
}

/** Responses over a WebSocket. `describe` reads the body of a response.create, `createReader` the events of its answer. */
export function converseResponses(
  describe: (body: JsonObject) => Call,
  createReader: (call: Call) => UsageReader,
): Conversation {
  const turns = new Map<string, { readonly reader: UsageReader; bytes: number }>();
  const asked: Call[] = [];
  return {
    opening: undefined,
    isStrict: true,

    sent(message): Need | undefined {
      const body = parseObject(message) ?? {};
      if (body["type"] !== "response.create") return undefined;
      // What was said before stands at the provider, and more may be put in while it answers.
      const call: Call = { ...describe(body), stream: true, openInput: "a connection" };
      asked.push(call);
      return { call, begins: true };
    },

    received(message): readonly Said[] {
      const event = RESPONSE_STATE.test(message) ? parseObject(message) : undefined;
      const response = objectAt(event, "response");
      const turnId = textAt(response, "id") ?? "";
      switch (event?.["type"]) {
        case "response.created": {
          const call = asked.shift();
          if (call) turns.set(turnId, { reader: createReader(call), bytes: 0 });
          turns.get(turnId)?.reader.event(message);
          return [{ kind: "began", turnId }];
        }
        case "response.completed":
        case "response.incomplete":
        case "response.failed": {
          const reader = turns.get(turnId)?.reader;
          turns.delete(turnId);
          reader?.event(message);
          return [{ kind: "ended", turnId, reading: reader?.reading() ?? NO_READING }];
        }
        case "error":
          asked.shift();
          return [{ kind: "declined" }];
        default:
          return [];
      }
    },

    cancel: () => undefined,
    partial: (turnId) => turns.get(turnId)?.reader.reading() ?? NO_READING,
    errorMessage,
  };
}

function speechCall(model: string): Call {
  return {
    ...PLAIN_CALL,
    endpoint: "realtime",
    model,
    stream: true,
    openInput: "a session",
    unbounded: "a session that may speak at any time",
    fees: USUAL_TURN,
  };
}

function errorMessage(message: string): string {
  return JSON.stringify({
    type: "error",
    event_id: "event_keymeter",
    status: 402,
    error: { type: "insufficient_quota", code: "insufficient_quota", message, param: null, event_id: null },
  });
}

const CREATES = /"type"\s*:\s*"response\.create"/;
/** Audio comes in thousands of messages: only those that tell something are parsed. Inside a text its quotes are escaped. */
const TELLING =
  /"(?:session\.(?:created|updated)|response\.(?:created|done)|conversation\.item\.input_audio_transcription\.completed|error)"/;
const RESPONSE_STATE = /"(?:response\.(?:created|completed|incomplete|failed)|error)"/;

function readResponse(response: JsonObject | undefined, servedModel: string | undefined): Reading {
  const stated = objectAt(response, "usage");
  const usage = stated && readRealtimeUsage(stated);
  return {
    ...NO_READING,
    usage,
    servedModel,
    responseId: textAt(response, "id"),
    raw: stated && JSON.stringify(stated),
    isContradictory: hasOddCounts(stated),
    unknownFields: unknownNumbers(stated, KNOWN),
    final: usage !== undefined,
    ended: true,
    failed: response?.["status"] === "failed",
  };
}

/** Disjoint classes of a response's counts; undefined when they make no sense. */
function readRealtimeUsage(stated: JsonObject): Usage | undefined {
  const input = readCount(stated["input_tokens"]);
  const output = readCount(stated["output_tokens"]);
  if (input === undefined || output === undefined) return undefined;
  const ins = objectAt(stated, "input_token_details");
  const outs = objectAt(stated, "output_token_details");
  const cachedIns = objectAt(ins, "cached_tokens_details");
  const count = (holder: JsonObject | undefined, name: string, most: number): number =>
    Math.min(readCount(holder?.[name]) ?? 0, most);

  const audio = count(ins, "audio_tokens", input);
  const image = count(ins, "image_tokens", input - audio);
  const text = input - audio - image;
  const cached = count(ins, "cached_tokens", input);
  // Without its split, what was cached is taken for text first.
  const cachedAudio = cachedIns
    ? count(cachedIns, "audio_tokens", Math.min(audio, cached))
    : Math.max(cached - text, 0);
  const cachedImage = count(cachedIns, "image_tokens", Math.min(image, cached - cachedAudio));
  const cachedText = Math.min(cached - cachedAudio - cachedImage, text);
  const spoken = count(outs, "audio_tokens", output);
  return compactUsage({
    input: text - cachedText,
    input_audio: audio - cachedAudio,
    input_image: image - cachedImage,
    cache_read: cachedText,
    cache_read_audio: cachedAudio,
    cache_read_image: cachedImage,
    output: output - spoken,
    output_audio: spoken,
  });
}

const DETAILS: KnownFields = { text_tokens: true, audio_tokens: true, image_tokens: true };
const KNOWN: KnownFields = {
  total_tokens: true,
  input_tokens: true,
  output_tokens: true,
  input_token_details: { ...DETAILS, cached_tokens: true, cached_tokens_details: DETAILS },
  output_token_details: { ...DETAILS, reasoning_tokens: true },
};
const TRANSCRIBED: KnownFields = {
  total_tokens: true,
  input_tokens: true,
  output_tokens: true,
  input_token_details: DETAILS,
  seconds: true,
};
