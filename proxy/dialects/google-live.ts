// Gemini Live: a WebSocket whose first message names the model. A turn is what the model says until it says that its
// turn is complete. Usage comes on messages of the turn or right behind it; within a turn the last one counts. Source:
// ai.google.dev, Live API reference. That counts start anew with each turn is not said there; recorded sessions show
// it.
import type { Usage } from "../../ledger/usage.ts";
import { NO_READING } from "./reading.ts";
import { objectAt, parseObject, textAt } from "./json.ts";
import { PLAIN_CALL } from "./call.ts";
import type { Call } from "./call.ts";
import type { JsonObject } from "./json.ts";
import type { Reading } from "./reading.ts";
import type { Conversation, Need, Said } from "./conversation.ts";
import { readingOf } from "./google-usage.ts";
import { far, unproven } from "./why.ts";

/** What a turn of speech is taken for, beside its text: half a minute heard, half a minute said. */
const USUAL_TURN: Usage = { input_audio: 750, output_audio: 750 };

export function converseLive(): Conversation {
  let model: string | undefined;
  let turn = 0;
  /** Whether the model has begun to answer, and whether it has said that it is done. */
  let isOpen = false;
  let isComplete = false;
  let stated: JsonObject | undefined;

  const read = (): Reading =>
    stated ? { ...readingOf(stated, model ?? "", 0), servedModel: model, final: true } : NO_READING;
  const end = (): Said => {
    const said: Said = { kind: "ended", turnId: String(turn), reading: { ...read(), ended: true } };
    isOpen = isComplete = false;
    stated = undefined;
    turn += 1;
    return said;
  };

  return {
    opening: undefined,

    sent(message): Need | undefined {
      if (model === undefined) {
        // "models/x", or the long name of Vertex.
        model = textAt(objectAt(message, "setup"), "model")?.replace(/^.*\//, "");
        if (model === undefined) return { unmetered: 'the first message must be a "setup" that names the model' };
      }
      const call = liveCall(model);
      const said = objectAt(message, "clientContent") ?? objectAt(message, "client_content");
      const completes = said?.["turnComplete"] === true || said?.["turn_complete"] === true;
      const answers = message["toolResponse"] !== undefined || message["tool_response"] !== undefined;
      return completes || answers ? { call, asks: { lane: "" } } : { call, mayStart: true };
    },

    received(text): readonly Said[] {
      if (!TELLING.test(text)) return [];
      const event = parseObject(text);
      if (!event) return [];
      const content = objectAt(event, "serverContent") ?? objectAt(event, "server_content");
      const usage = objectAt(event, "usageMetadata") ?? objectAt(event, "usage_metadata");
      const speaks = content !== undefined && SPEECH.some((name) => content[name] !== undefined);
      const calls = event["toolCall"] !== undefined || event["tool_call"] !== undefined;
      const completes = content?.["turnComplete"] === true || content?.["turn_complete"] === true;
      const said: Said[] = [];
      // The turn before said nothing more of what it used.
      if (isComplete && (speaks || calls)) said.push(end(), { kind: "merged" });
      if (!isOpen && (speaks || calls || usage || completes)) {
        isOpen = true;
        said.push({ kind: "began", turnId: String(turn), lane: "" });
      }
      stated = usage ?? stated;
      isComplete ||= completes;
      // A count comes with the end, or right behind it.
      if (isComplete && usage) said.push(end(), { kind: "merged" });
      return said;
    },

    cancel: () => undefined,
    partial: () => ({
      reading: stated ? { ...read(), isEstimate: true } : NO_READING,
      tokens: 0,
    }),
    errorMessage: () => undefined,
  };
}

function liveCall(model: string): Call {
  return {
    ...PLAIN_CALL,
    endpoint: "live",
    model,
    stream: true,
    openInput: far("a session"),
    unbounded: unproven("a session that may speak at any time"),
    isSpeech: true,
    fees: USUAL_TURN,
  };
}

const TELLING = /"(?:server_?[cC]ontent|tool_?[cC]all|usage_?[mM]etadata)"/;
const SPEECH = ["modelTurn", "model_turn", "outputTranscription", "output_transcription", "generationComplete"];
