// What Google's predict makes: pictures by the piece, films by the second, embeddings by the token.
// Source: ai.google.dev and cloud.google.com, Imagen, Veo and text embeddings references.
import { readCount } from "../../ledger/usage.ts";
import { compactUsage, findDeep, NO_READING, objectAt, objectsIn, PLAIN_CALL, textAt } from "./dialect.ts";
import type { Call, JsonObject, Reading, UsageReader } from "./dialect.ts";

/** Texts become embeddings. Pictures are a fee each: as many as were asked for, four where nobody said. */
export function describePrediction(model: string, body: JsonObject): Call {
  const has = (wanted: string): boolean => findDeep(body["instances"], (name) => name === wanted);
  const isText = has("content") && !has("prompt");
  if (isText) return { ...PLAIN_CALL, endpoint: "predict", model, maxOutputTokens: 0 };
  const count = readCount(objectAt(body, "parameters")?.["sampleCount"]) || DEFAULT_PICTURES;
  return {
    ...PLAIN_CALL,
    endpoint: "predict",
    model,
    maxOutputTokens: 0,
    fees: { image: count },
  };
}

const DEFAULT_PICTURES = 4;

/** Films by the second, as many and as long as were asked for; finer ones may cost more. */
export function describeFilm(model: string, body: JsonObject): Call {
  const parameters = objectAt(body, "parameters");
  const seconds = readCount(parameters?.["durationSeconds"]) || DEFAULT_FILM_SECONDS;
  const resolution = textAt(parameters, "resolution");
  return {
    ...PLAIN_CALL,
    endpoint: "predict_long_running",
    model,
    tiers: resolution === undefined ? [] : [`variant:${resolution}`],
    maxOutputTokens: 0,
    fees: { video_second: seconds * (readCount(parameters?.["sampleCount"]) || 1) },
  };
}

const DEFAULT_FILM_SECONDS = 8;

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

/** A film that was begun. Its end says nothing of seconds, so it is booked at its start, by what was asked for, as an estimate: one
 *  that fails later is not billed. */
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
