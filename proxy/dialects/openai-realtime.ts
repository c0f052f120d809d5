// OpenAI over WebSockets: Realtime (speech, a turn is a response; each transcription of what was heard is another) and
// Responses (each response.create is the body of a POST). The counts of Realtime include cached tokens, by modality.
// Source: platform.openai.com, Realtime and Responses WebSocket references.
import { readCount } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import { compactUsage, hasOddCounts, unknownNumbers } from "./stated.ts";
import { NO_READING } from "./reading.ts";
import { objectAt, parseObject, printed, rawOf, textAt } from "./json.ts";
import { PLAIN_CALL } from "./call.ts";
import type { Call } from "./call.ts";
import type { JsonObject } from "./json.ts";
import type { KnownFields } from "./stated.ts";
import type { Reading, UsageReader } from "./reading.ts";
import type { Conversation, Need, Said } from "./conversation.ts";
import { readSound } from "./openai-media.ts";
import { renderOpenAiErrorMessage } from "./openai-refusals.ts";
import { far, unproven } from "./why.ts";

/** What a turn of speech is taken for, beside its text: half a minute heard, half a minute said. */
const USUAL_TURN: Usage = { input_audio: 300, output_audio: 600 };
const USUAL_SECONDS: Usage = { audio_second: 30 };
const ONLY_LANE = "";

/** A Realtime session. `model` undefined: one that only writes down what it hears, by a model that it names later. */
export function converseRealtime(model: string | undefined): Conversation {
  let servedModel = model;
  /** What writes down what is heard: as the client asks, and, which is what counts, as the provider says. */
  let transcriber: string | undefined;
  let heardBy: string | undefined;
  /** Client event ids of what asked for a turn: an error that names one says that it does not start. */
  const asked = new Set<string>();
  const call = (): Call | undefined => {
    const named = model ?? transcriber;
    return named === undefined ? undefined : speechCall(named);
  };
  const transcriberOf = (session: JsonObject | undefined): string | undefined =>
    textAt(objectAt(objectAt(objectAt(session, "audio"), "input"), "transcription"), "model") ??
    textAt(objectAt(session, "input_audio_transcription"), "model");

  return {
    opening: call(),

    models(message) {
      const session = objectAt(message, "session");
      const named = [textAt(session, "model"), transcriberOf(session), textAt(objectAt(message, "response"), "model")];
      return named.filter((model) => model !== undefined);
    },

    sent(message): Need | undefined {
      const type = message["type"];
      if (type === "session.update" || type === "transcription_session.update")
        transcriber = transcriberOf(objectAt(message, "session")) ?? transcriber;
      const needed = call();
      if (!needed) return { unmetered: "name a model for transcription in session.update before anything else" };
      if (type !== "response.create") return { call: needed, mayStart: true };
      const id = textAt(message, "event_id");
      if (id !== undefined && asked.size < MOST_IDS) asked.add(id);
      return { call: needed, asks: { lane: ONLY_LANE } };
    },

    received(text): readonly Said[] {
      if (!TELLING.test(text)) return [];
      const event = parseObject(text);
      const response = objectAt(event, "response");
      switch (event?.["type"]) {
        case "session.created":
        case "session.updated": {
          const session = objectAt(event, "session");
          servedModel = textAt(session, "model") ?? servedModel;
          heardBy = transcriberOf(session) ?? heardBy;
          return [];
        }
        case "response.created":
          return [{ kind: "began", turnId: textAt(response, "id") ?? "", lane: ONLY_LANE }];
        case "response.done":
          return [
            { kind: "ended", turnId: textAt(response, "id") ?? "", reading: readResponse(response, servedModel) },
          ];
        case "conversation.item.input_audio_transcription.completed": {
          const stated = objectAt(event, "usage");
          const usage = readSound(event);
          const reading: Reading = {
            ...NO_READING,
            usage,
            servedModel: heardBy ?? transcriber ?? servedModel,
            responseId: textAt(event, "item_id"),
            raw: rawOf(stated),
            isContradictory: hasOddCounts(stated),
            unknownFields: unknownNumbers(stated, TRANSCRIBED),
            final: usage !== undefined,
            ended: true,
          };
          return [{ kind: "ended", turnId: `${textAt(event, "item_id") ?? ""} heard`, reading, apart: true }];
        }
        case "error": {
          const error = objectAt(event, "error");
          const isDeclined = asked.delete(textAt(error, "event_id") ?? "") || DECLINES.has(textAt(error, "code") ?? "");
          return isDeclined ? [{ kind: "declined", lane: ONLY_LANE }] : [];
        }
        default:
          return [];
      }
    },

    cancel: (turnId) => JSON.stringify({ type: "response.cancel", response_id: turnId }),
    partial: () => ({ reading: NO_READING, tokens: 0 }),
    errorMessage: renderOpenAiErrorMessage,
  };
}

const MOST_IDS = 10_000;
/** Errors that say that a response.create came to nothing. */
const DECLINES = new Set(["conversation_already_has_active_response"]);

/** Responses over a WebSocket, on one lane for each `stream_id`. `describe` reads the body of a response.create,
 *  `createReader` the events of its answer. */
export function converseResponses(
  describe: (body: JsonObject) => Call,
  createReader: (call: Call) => UsageReader,
): Conversation {
  const readers = new Map<string, UsageReader>();
  const asked = new Map<string, Call[]>();
  const open = new Map<string, string>();
  /** Bytes of the model's words, by turn. */
  const words = new Map<string, number>();
  let latest: Call | undefined;

  const end = (turnId: string, lane: string, text: string): Said => {
    const reader = readers.get(turnId);
    readers.delete(turnId);
    words.delete(turnId);
    if (open.get(lane) === turnId) open.delete(lane);
    reader?.event(text);
    return { kind: "ended", turnId, reading: reader?.reading() ?? NO_READING };
  };

  return {
    opening: undefined,

    sent(message): Need | undefined {
      // Steering and injecting start more work in ways that no bound knows.
      if (message["type"] !== "response.create")
        return { unmetered: `of the messages only response.create, not ${printed(message["type"]).slice(0, 40)}` };
      const lane = textAt(message, "stream_id") ?? ONLY_LANE;
      // What was said before stands at the provider.
      const described = describe(message);
      const call: Call = { ...described, stream: true, openInput: described.openInput ?? { kind: "connection" } };
      asked.set(lane, [...(asked.get(lane) ?? []), call]);
      latest = call;
      return { call, asks: { lane } };
    },

    received(text): readonly Said[] {
      if (!RESPONSE_STATE.test(text)) {
        const lane = open.size > 1 ? textAt(parseObject(text), "stream_id") : open.keys().next().value;
        const speaking = open.get(lane ?? ONLY_LANE);
        if (speaking !== undefined)
          words.set(speaking, (words.get(speaking) ?? 0) + (readers.get(speaking)?.words?.(text) ?? 0));
        return [];
      }
      const event = parseObject(text);
      const turnId = textAt(objectAt(event, "response"), "id") ?? "";
      const lane = textAt(event, "stream_id") ?? ONLY_LANE;
      switch (event?.["type"]) {
        case "response.created": {
          const call = asked.get(lane)?.shift() ?? latest;
          if (call) readers.set(turnId, createReader(call));
          readers.get(turnId)?.event(text);
          open.set(lane, turnId);
          return [{ kind: "began", turnId, lane }];
        }
        case "response.completed":
        case "response.incomplete":
        case "response.failed":
          return [end(turnId, lane, text)];
        case "error": {
          if (asked.get(lane)?.shift()) return [{ kind: "declined", lane }];
          const broken = open.get(lane);
          return broken === undefined ? [] : [end(broken, lane, text)];
        }
        default:
          return [];
      }
    },

    cancel: () => undefined,
    partial: (turnId) => ({
      reading: readers.get(turnId)?.reading() ?? NO_READING,
      tokens: Math.ceil((words.get(turnId) ?? 0) / BYTES_PER_TOKEN),
    }),
    errorMessage: renderOpenAiErrorMessage,
  };
}

function speechCall(model: string): Call {
  return {
    ...PLAIN_CALL,
    endpoint: "realtime",
    model,
    stream: true,
    openInput: far("a session"),
    unbounded: unproven("a session that may speak at any time"),
    isSpeech: true,
    fees: model.startsWith("whisper") ? USUAL_SECONDS : USUAL_TURN,
  };
}

/** Audio comes in thousands of messages: only those that tell something are parsed. Inside a text its quotes are
 *  escaped. */
const TELLING =
  /"(?:session\.(?:created|updated)|response\.(?:created|done)|conversation\.item\.input_audio_transcription\.completed|error)"/;
const BYTES_PER_TOKEN = 4;
const RESPONSE_STATE = /"(?:response\.(?:created|completed|incomplete|failed)|error)"/;

function readResponse(response: JsonObject | undefined, servedModel: string | undefined): Reading {
  const stated = objectAt(response, "usage");
  const usage = stated && readRealtimeUsage(stated);
  return {
    ...NO_READING,
    usage,
    servedModel,
    responseId: textAt(response, "id"),
    raw: rawOf(stated),
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
