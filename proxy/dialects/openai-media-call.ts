// What a request for pictures, sound or film asks for: some are billed by the token, some by the picture, the second or
// the character. Source: platform.openai.com API reference.
import { readCount } from "../../ledger/usage.ts";
import { PLAIN_CALL } from "./call.ts";
import type { Call } from "./call.ts";
import type { KnownBy } from "./fields.ts";
import { objectAt, textAt } from "./json.ts";
import type { JsonObject } from "./json.ts";
import { otherModels, unknownCost, unknownName } from "./openai-fields.ts";
import type { Route } from "./routes.ts";
import { far, UNNAMED_MODEL, unproven } from "./why.ts";

const VARIATIONS = "/images/variations";
const FILMS = "/videos";

/** What OpenAI takes when a request leaves it open. */
export const DEFAULT_PICTURE = { model: "dall-e-2", quality: "standard", size: "1024x1024" };
const DEFAULT_FILM = { model: "sora-2", seconds: 4, size: "720x1280" };
/** Tokens of the largest picture in the highest quality, and of each unfinished one before it. Only this family's are
 *  published. */
const MOST_PICTURE_TOKENS = 6_240;
const PARTIAL_PICTURE_TOKENS = 100;
/** The most tokens that one picture is seen as, in high fidelity. */
const MOST_SEEN_TOKENS = 8_192;
const BOUNDED_PICTURES = /^gpt-image-1(-mini)?(-\d|$)/;
/** Speech has about 15 characters and 21 tokens a second, text 4 characters a token. */
export const SPOKEN_TOKENS_PER_CHARACTER = 1.4;
/** Sound as it is usually packed: 128 kbit/s. */
const BYTES_PER_SECOND = 16_000;

const NO_TEXT: Omit<Call, "endpoint" | "model"> = { ...PLAIN_CALL, maxOutputTokens: 0 };

/** The call of one of these endpoints, or undefined for every other. Fields of a form come as text. */
export function describeMedia(route: Route, body: JsonObject, knownBy: KnownBy): Call | undefined {
  const call = DESCRIBERS[route.endpoint]?.(route, body, knownBy);
  return call && { ...call, person: textAt(body, "user") };
}

const DESCRIBERS: { readonly [endpoint: string]: (route: Route, body: JsonObject, knownBy: KnownBy) => Call } = {
  images: describePictures,
  audio_speech: describeSpeech,
  audio_transcriptions: describeSound,
  videos: describeFilm,
};

function describePictures({ endpoint, path }: Route, body: JsonObject, knownBy: KnownBy): Call {
  // Variations are one model's; elsewhere a model that nobody names is the provider's choice, and has no price before
  // it answers.
  const model = textAt(body, "model") ?? (path === VARIATIONS ? DEFAULT_PICTURE.model : "");
  const count = Math.max(numberAt(body, "n") ?? 1, 1);
  const isFee = model.startsWith("dall-e");
  const quality = textAt(body, "quality") ?? DEFAULT_PICTURE.quality;
  const size = textAt(body, "size") ?? DEFAULT_PICTURE.size;
  return {
    ...NO_TEXT,
    endpoint,
    model,
    stream: body["stream"] === true || body["stream"] === "true",
    tiers: isFee || model === "" ? [`variant:${quality}/${size}`] : [],
    answers: count,
    hiddenTokens: countPictures(body) * MOST_SEEN_TOKENS,
    maxOutputTokens: isFee ? 0 : MOST_PICTURE_TOKENS + PARTIAL_PICTURE_TOKENS * (numberAt(body, "partial_images") ?? 0),
    ...(isFee ? { fees: { image: count } } : {}),
    // Pictures that lie elsewhere are no bytes of this body.
    openInput:
      model === ""
        ? UNNAMED_MODEL
        : body["images"] === undefined && typeof body["image"] !== "string"
          ? undefined
          : far("pictures that lie elsewhere"),
    unbounded:
      isFee || BOUNDED_PICTURES.test(model)
        ? unknownCost(endpoint, model, body, knownBy)
        : unproven(`the size of a picture of ${model}`),
    unknown: unknownName(endpoint, body, knownBy),
    otherModels: otherModels(body),
  };
}

function describeSpeech({ endpoint }: Route, body: JsonObject, knownBy: KnownBy): Call {
  const model = textAt(body, "model") ?? "";
  const characters = countCharacters(textAt(body, "input") ?? "");
  const isFee = model.startsWith("tts-");
  return {
    ...NO_TEXT,
    endpoint,
    model,
    stream: textAt(body, "stream_format") === "sse",
    maxOutputTokens: isFee ? 0 : Math.ceil(characters * SPOKEN_TOKENS_PER_CHARACTER),
    fees: isFee ? { character: characters } : {},
    unbounded: isFee ? unknownCost(endpoint, model, body, knownBy) : unproven("the length of speech"),
    unknown: unknownName(endpoint, body, knownBy),
  };
}

function describeSound({ endpoint }: Route, body: JsonObject): Call {
  const model = textAt(body, "model") ?? "";
  const bytes = numberAt(objectAt(body, "file") ?? {}, "bytes") ?? 0;
  return {
    ...NO_TEXT,
    endpoint,
    model,
    // Not fixed, but expected: answers in plain text state no length.
    fees: model.startsWith("whisper") ? { audio_second: Math.max(1, Math.ceil(bytes / BYTES_PER_SECOND)) } : {},
    stream: body["stream"] === true || body["stream"] === "true",
    maxOutputTokens: undefined,
    openInput: far("sound"),
    unbounded: unproven("the length of sound"),
  };
}

function describeFilm({ endpoint, path }: Route, body: JsonObject, knownBy: KnownBy): Call {
  const size = textAt(body, "size") ?? DEFAULT_FILM.size;
  return {
    ...NO_TEXT,
    endpoint,
    model: textAt(body, "model") ?? DEFAULT_FILM.model,
    tiers: [`variant:${size}`],
    fees: { video_second: numberAt(body, "seconds") || DEFAULT_FILM.seconds },
    unbounded:
      path === FILMS
        ? unknownCost(endpoint, textAt(body, "model") ?? DEFAULT_FILM.model, body, knownBy)
        : unproven("a film that is made from another one"),
    unknown: unknownName(endpoint, body, knownBy),
  };
}

/** Pictures that a form holds to be seen, a mask among them. */
function countPictures(body: JsonObject): number {
  const seen = [body["image"], body["mask"], body["images"]];
  return seen.reduce<number>((sum, one) => sum + (Array.isArray(one) ? one.length : one === undefined ? 0 : 1), 0);
}

/** Characters as they are read: a pair of surrogates is one. */
function countCharacters(text: string): number {
  let pairs = 0;
  for (let i = 0; i < text.length; i++) if ((text.charCodeAt(i) & 0xfc00) === 0xd800) pairs++;
  return text.length - pairs;
}

/** A whole number, as JSON or as the text of a form. */
function numberAt(body: JsonObject, name: string): number | undefined {
  return readCount(body[name]);
}
