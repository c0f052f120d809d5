// Answers of OpenAI's pictures, sound and film: where they say what was used; some are bare bytes that state nothing.
// Source: platform.openai.com API reference.
import { readCount } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import type { Call } from "./call.ts";
import { DEFAULT_PICTURE, SPOKEN_TOKENS_PER_CHARACTER } from "./openai-media-call.ts";
import { objectAt, parseObject, rawOf, textAt } from "./json.ts";
import type { JsonObject } from "./json.ts";
import { readUsage, statedCost } from "./openai-usage.ts";
import { NO_READING } from "./reading.ts";
import type { Reading, UsageReader } from "./reading.ts";
import type { Route } from "./routes.ts";
import { compactUsage, hasOddCounts, unknownNumbers } from "./stated.ts";
import type { KnownFields } from "./stated.ts";

export const MEDIA_ROUTES: readonly Route[] = [
  { method: "POST", path: "/images/generations", endpoint: "images", kind: "metered" },
  { method: "POST", path: "/images/edits", endpoint: "images", kind: "metered", takesForm: true },
  { method: "POST", path: "/images/variations", endpoint: "images", kind: "metered", takesForm: true },
  { method: "POST", path: "/audio/speech", endpoint: "audio_speech", kind: "metered" },
  {
    method: "POST",
    path: "/audio/transcriptions",
    endpoint: "audio_transcriptions",
    kind: "metered",
    takesForm: true,
  },
  { method: "POST", path: "/audio/translations", endpoint: "audio_transcriptions", kind: "metered", takesForm: true },
  { method: "POST", path: "/videos", endpoint: "videos", kind: "metered", takesForm: true },
  { method: "GET", path: "/videos", endpoint: "videos_list", kind: "free", scope: "account" },
  { method: "GET", path: "/videos/{id}", endpoint: "videos", kind: "result" },
  { method: "POST", path: "/videos/{id}/remix", endpoint: "videos", kind: "metered", scope: "work" },
  { method: "POST", path: "/videos/edits", endpoint: "videos", kind: "metered", takesForm: true },
  { method: "POST", path: "/videos/extensions", endpoint: "videos", kind: "metered", takesForm: true },
  { method: "DELETE", path: "/videos/{id}", endpoint: "videos_delete", kind: "free", scope: "work" },
  { method: "GET", path: "/videos/{id}/content", endpoint: "videos_content", kind: "free", scope: "work" },
];

const CHARACTERS_PER_TOKEN = 4;
/** Spoken slowly. What was packed smaller than usual shows in what was written down. */
const CHARACTERS_PER_SECOND = 10;

/** Readers of these endpoints' answers. */
export const MEDIA_READERS: { readonly [endpoint: string]: (call: Call) => UsageReader } = {
  images: (call) => createReader(call, false, (answer) => readPictures(call, answer)),
  audio_speech: (call) => createReader(call, false, readSpeech),
  audio_transcriptions: (call) => createReader(call, true, readSound),
  videos: () => createFilmReader(),
};

function createReader(
  call: Call,
  needsWholeBody: boolean,
  read: (answer: JsonObject) => Usage | undefined,
): UsageReader {
  let usage: Usage | undefined;
  let stated: JsonObject | undefined;
  let servedModel: string | undefined;
  let extra: Reading["extra"] = [];
  let ended = false;
  let failed = false;
  let isBytes = true;
  let isDefault = false;
  let heard: Usage | undefined;
  return {
    needsWholeBody,
    text(text) {
      // Written down as plain text or as subtitles: the last of these says when it ends.
      if (call.fees?.audio_second === undefined) return;
      const spoken = endOfSubtitles(text) ?? Math.ceil(text.length / CHARACTERS_PER_SECOND);
      heard = { audio_second: Math.max(spoken, call.fees.audio_second) };
    },
    body(answer) {
      isBytes = false;
      ended = true;
      failed = objectAt(answer, "error") !== undefined;
      stated = objectAt(answer, "usage");
      usage = read(answer);
      extra = drawnUse(answer);
      // OpenAI names none here; others do. Of its models only the older ones state no usage, and of these one needs no
      // name.
      isDefault = call.openInput?.kind === "unnamed_model" && !stated && usage !== undefined;
      servedModel = textAt(answer, "model") ?? (isDefault ? DEFAULT_PICTURE.model : undefined);
    },
    event(data) {
      isBytes = false;
      const event = parseObject(data);
      const type = textAt(event, "type");
      if (event?.["error"] || type === "error") {
        failed = true;
        return "last";
      }
      const isLast = data.startsWith("[DONE]") || LAST_EVENTS.has(type ?? "");
      ended ||= isLast;
      if (event && objectAt(event, "usage")) {
        stated = objectAt(event, "usage");
        usage = read(event);
      }
      return isLast ? "last" : "pass";
    },
    reading(): Reading {
      // Bare bytes state nothing: what the request fixed was used; spoken tokens are worked out from the text.
      const spoken = isBytes ? spokenUsage(call) : undefined;
      return {
        ...NO_READING,
        extra,
        usage: usage ?? spoken?.usage ?? heard,
        servedModel,
        tiers: call.tiers,
        raw: rawOf(stated),
        statedCostNanoUsd: stated && statedCost(stated),
        isContradictory: hasOddCounts(stated),
        unknownFields: unknownNumbers(stated, KNOWN),
        final: usage !== undefined || spoken !== undefined || heard !== undefined,
        isEstimate: isDefault || (usage === undefined && (spoken?.isEstimate === true || heard !== undefined)),
        ended: ended || spoken !== undefined || heard !== undefined,
        failed,
      };
    },
  };
}

/** In seconds; undefined for a text without times. */
function endOfSubtitles(text: string): number | undefined {
  const last = text.lastIndexOf("-->");
  const time = last < 0 ? null : /^-->\s*(?:(\d+):)?(\d\d):(\d\d)[.,]\d/.exec(text.slice(last, last + 40));
  return time ? Number(time[1] ?? 0) * 3_600 + Number(time[2]) * 60 + Number(time[3]) + 1 : undefined;
}

const LAST_EVENTS = new Set([
  "image_generation.completed",
  "image_edit.completed",
  "speech.audio.done",
  "transcript.text.done",
]);
const DETAILS: KnownFields = { text_tokens: true, audio_tokens: true, image_tokens: true, cached_tokens: true };
const KNOWN: KnownFields = {
  input_tokens: true,
  input_tokens_details: DETAILS,
  input_token_details: DETAILS,
  output_tokens: true,
  output_tokens_details: DETAILS,
  total_tokens: true,
  seconds: true,
  prompt_tokens: true,
  completion_tokens: true,
  prompt_tokens_details: DETAILS,
  prompt_audio_seconds: true,
  request_count: true,
  cost: true,
  cost_in_usd_ticks: true,
};

function spokenUsage(call: Call): { readonly usage: Usage; readonly isEstimate: boolean } | undefined {
  if (call.endpoint !== "audio_speech") return undefined;
  const characters = call.fees?.character;
  if (characters !== undefined) return { usage: { character: characters }, isEstimate: false };
  const output = call.maxOutputTokens ?? 0;
  const input = Math.ceil(Math.round(output / SPOKEN_TOKENS_PER_CHARACTER) / CHARACTERS_PER_TOKEN);
  return { usage: compactUsage({ input, output }), isEstimate: true };
}

/** A drawing in SVG is a second model's use, beside the picture's. */
function drawnUse(answer: JsonObject): Reading["extra"] {
  const stated = objectAt(answer, "svg_usage");
  const [input, output] = [readCount(stated?.["input_tokens"]), readCount(stated?.["output_tokens"])];
  if (!stated || input === undefined || output === undefined) return [];
  return [{ model: textAt(stated, "model"), usage: compactUsage({ input, output }) }];
}

/** Tokens where they are stated, else the pictures of a model that is paid by these: those in the answer, or as many as
 *  were asked for. */
function readPictures(call: Call, answer: JsonObject): Usage | undefined {
  const stated = objectAt(answer, "usage");
  if (!stated) {
    const drawn = Array.isArray(answer["data"]) ? answer["data"].length : undefined;
    const image =
      call.fees?.image === undefined && call.openInput?.kind !== "unnamed_model"
        ? undefined
        : (drawn ?? call.fees?.image);
    return image === undefined ? undefined : { image };
  }
  const input = readCount(stated["input_tokens"]);
  const output = readCount(stated["output_tokens"]);
  // Some state nothing but what it cost.
  if (input === undefined || output === undefined)
    return statedCost(stated) && Array.isArray(answer["data"]) ? { image: answer["data"].length } : undefined;
  const images = Math.min(readCount(objectAt(stated, "input_tokens_details")?.["image_tokens"]) ?? 0, input);
  const text = Math.min(readCount(objectAt(stated, "output_tokens_details")?.["text_tokens"]) ?? 0, output);
  return compactUsage({ input: input - images, input_image: images, output: text, output_image: output - text });
}

function readSpeech(answer: JsonObject): Usage | undefined {
  const stated = objectAt(answer, "usage");
  const input = readCount(stated?.["input_tokens"]);
  const output = readCount(stated?.["output_tokens"]);
  return input === undefined || output === undefined ? undefined : compactUsage({ input, output });
}

/** Tokens, or seconds: stated, or the duration of a verbose answer. A second that was begun counts. */
export function readSound(answer: JsonObject): Usage | undefined {
  const stated = objectAt(answer, "usage");
  // Mistral counts like its chat.
  if (stated?.["prompt_tokens"] !== undefined) return readUsage(stated, answer)?.usage;
  const seconds = stated?.["seconds"] ?? (stated ? undefined : answer["duration"]);
  if (typeof seconds === "number" && seconds >= 0 && seconds < 1_000_000) return { audio_second: Math.ceil(seconds) };
  const input = readCount(stated?.["input_tokens"]);
  const output = readCount(stated?.["output_tokens"]);
  if (!stated || input === undefined || output === undefined) return undefined;
  const sound = Math.min(readCount(objectAt(stated, "input_token_details")?.["audio_tokens"]) ?? 0, input);
  return compactUsage({ input: input - sound, input_audio: sound, output });
}

/** A film is work that goes on: its seconds are billed when it is there; one that failed costs nothing. */
function createFilmReader(): UsageReader {
  let film: JsonObject | undefined;
  return {
    needsWholeBody: true,
    body: (body) => void (film = body),
    event: () => "pass",
    reading(): Reading {
      const status = textAt(film, "status");
      const seconds = readCount(film?.["seconds"]);
      const size = textAt(film, "size");
      const isDone = status === "completed" || status === "failed";
      const usage = status === "failed" ? {} : seconds === undefined ? undefined : { video_second: seconds };
      return {
        ...NO_READING,
        usage: isDone ? usage : undefined,
        servedModel: textAt(film, "model"),
        tiers: size === undefined ? [] : [`variant:${size}`],
        responseId: textAt(film, "id"),
        final: isDone && usage !== undefined,
        ended: isDone,
        pending: status === "queued" || status === "in_progress",
      };
    },
  };
}
