// What Google's predict makes: pictures by the piece, films by the second, embeddings by the token.
// Source: ai.google.dev and cloud.google.com, Imagen, Veo and text embeddings references.
import { readCount } from "../../ledger/usage.ts";
import { compactUsage } from "./stated.ts";
import { findDeep, objectAt, objectsIn, textAt } from "./json.ts";
import { NO_READING } from "./reading.ts";
import { PLAIN_CALL } from "./call.ts";
import type { Call } from "./call.ts";
import type { JsonObject } from "./json.ts";
import type { Reading, UsageReader } from "./reading.ts";
import { unproven } from "./why.ts";

/** Texts become embeddings. Pictures are a fee each: as many as were asked for, four where nobody said. */
export function describePrediction(model: string, body: JsonObject): Call {
  const has = (wanted: string): boolean => findDeep(body["instances"], (name) => name === wanted);
  const isText = has("content") && !has("prompt");
  if (isText) return { ...PLAIN_CALL, endpoint: "predict", model, maxOutputTokens: 0 };
  const count = countSamples(body, DEFAULT_PICTURES);
  return {
    ...PLAIN_CALL,
    endpoint: "predict",
    model,
    maxOutputTokens: 0,
    unbounded: count === undefined ? unproven("a sampleCount that is no whole number") : undefined,
    fees: { image: (count ?? DEFAULT_PICTURES) * instancesOf(body) },
  };
}

const DEFAULT_PICTURES = 4;

/** Films by the second, as many and as long as were asked for; finer ones may cost more. */
export function describeFilm(model: string, body: JsonObject): Call {
  const parameters = objectAt(body, "parameters");
  const seconds = wholeAt(parameters, "durationSeconds", DEFAULT_FILM_SECONDS);
  const count = countSamples(body, 1);
  const resolution = textAt(parameters, "resolution");
  return {
    ...PLAIN_CALL,
    endpoint: "predict_long_running",
    model,
    tiers: resolution === undefined ? [] : [`variant:${resolution}`],
    maxOutputTokens: 0,
    unbounded: count === undefined || seconds === undefined ? unproven("a count that is no whole number") : undefined,
    fees: { video_second: (seconds ?? MOST_FILM_SECONDS) * (count ?? MOST_FILMS) * instancesOf(body) },
  };
}

const DEFAULT_FILM_SECONDS = 8;
const MOST_FILM_SECONDS = 60;
const MOST_FILMS = 4;

/** How often each is made; undefined where that is written as no whole number. */
function countSamples(body: JsonObject, usual: number): number | undefined {
  return wholeAt(objectAt(body, "parameters"), "sampleCount", usual);
}

/** Absent, null and 0 is the usual; undefined: what is written is no whole number. */
function wholeAt(holder: JsonObject | undefined, name: string, usual: number): number | undefined {
  // Protobuf JSON takes a name in either spelling.
  const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const both = [holder?.[name], holder?.[snake]].filter((value) => value !== undefined && value !== null);
  if (both.length > 1) return undefined;
  const [given] = both;
  if (given === undefined) return usual;
  const count = readCount(given);
  return count === 0 ? usual : count;
}

function instancesOf(body: JsonObject): number {
  return Math.max(Array.isArray(body["instances"]) ? body["instances"].length : 1, 1);
}

/** Pictures that came; those that a filter took away are not billed. */
export function createPredictionReader(call: Call): UsageReader {
  if (call.fees === undefined) return createEmbeddingReader();
  let answer: JsonObject | undefined;
  return {
    needsWholeBody: false,
    body: (body) => void (answer = body),
    event: () => "pass",
    reading(): Reading {
      const predictions = answer?.["predictions"];
      // Too large to be held: as many as were asked for.
      const count = Array.isArray(predictions) ? predictions.length : (call.fees?.image ?? 0);
      return {
        ...NO_READING,
        usage: answer && compactUsage({ image: count }),
        final: answer !== undefined,
        ended: answer !== undefined,
      };
    },
  };
}

/** Embeddings of Vertex: each says how many tokens it took. */
function createEmbeddingReader(): UsageReader {
  let answer: JsonObject | undefined;
  return {
    needsWholeBody: true,
    body: (body) => void (answer = body),
    event: () => "pass",
    reading(): Reading {
      const predictions = objectsIn(answer?.["predictions"]);
      const counts = predictions.map((one) =>
        readCount(objectAt(objectAt(one, "embeddings"), "statistics")?.["token_count"]),
      );
      const isKnown = counts.length > 0 && !counts.includes(undefined);
      const input = counts.reduce<number>((sum, count) => sum + (count ?? 0), 0);
      return {
        ...NO_READING,
        usage: isKnown ? { input } : undefined,
        final: isKnown,
        ended: answer !== undefined,
      };
    },
  };
}

/** A film that was begun. Its end says nothing of seconds, so it is booked at its start, by what was asked for, as an
 *  estimate: one that fails later is not billed. */
export function createFilmReader(call: Call): UsageReader {
  let answer: JsonObject | undefined;
  return {
    needsWholeBody: true,
    body: (body) => void (answer = body),
    event: () => "pass",
    reading(): Reading {
      const name = textAt(answer, "name");
      const operation = name === undefined ? undefined : /models\/[^/]+\/operations\/.+$/.exec(name)?.[0];
      return {
        ...NO_READING,
        usage: name === undefined ? undefined : call.fees,
        tiers: call.tiers,
        responseId: name,
        makes: operation === undefined ? [] : [operation],
        final: name !== undefined,
        isEstimate: true,
        ended: answer !== undefined,
      };
    },
  };
}
