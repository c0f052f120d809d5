// Recorded traffic of every other endpoint and vendor: pictures, sound, batches, Azure, Vertex and those that speak
// OpenAI's format, each under the upstream that a user would configure for it. What has no route here is counted, so
// that a new gap shows.
import { costOf } from "../oracle/recorded-cost.mjs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EventRecord } from "../../ledger/usage/events.ts";
import { readEvents } from "../../ledger/usage/events.ts";
import type { UsageBooks } from "../../ledger/books.ts";
import { openUsage } from "../../ledger/open.ts";
import { addUsage } from "../../ledger/usage.ts";
import type { Usage } from "../../ledger/usage.ts";
import { matchRoute } from "../../proxy/dialects/routes.ts";
import type { JsonObject } from "../../proxy/dialects/json.ts";
import type { RouteMatch } from "../../proxy/dialects/routes.ts";
import { readTarget, resolveTarget } from "../../proxy/target.ts";
import type { Target } from "../../proxy/target.ts";
import type { Dialect } from "../../proxy/dialects/dialect.ts";
import { DIALECTS } from "../../proxy/dialects/index.ts";
import { createMeter } from "../../proxy/meter.ts";
import { workCall } from "../../proxy/work.ts";
import {
  addFolds,
  expectedSearches,
  expectedFold,
  fold,
  hasRecordings,
  PROMPTLESS,
  listRecordings,
  readExpected,
  readRecordings,
} from "../recordings.ts";
import type { Expected, Recording } from "../recordings.ts";
import { cut, IS_CI, random, SEED } from "../seed.ts";
import { writeSettings } from "../start-proxy.ts";
import { withProxy } from "../with-proxy.ts";

/** Formats and endpoints that Keymeter has no route for: records of each that ended well. All of them are answered 404
 *  to a Keymeter key; a client's own key passes, counted as unmetered. */
const WITHOUT_ROUTE: { readonly [file: string]: number } = {
  "anthropic-complete": 3,
  "anthropic-complete-stream": 1,
  "azure-misc": 2,
  "bedrock-converse": 187,
  "bedrock-converse-stream": 27,
  "bedrock-count-tokens": 2,
  "bedrock-invoke": 64,
  "bedrock-invoke-stream": 25,
  "bedrock-misc": 11,
  "bedrock-rerank": 1,
  "cohere-audio-transcription": 1,
  "cohere-chat-native": 39,
  "cohere-chat-native-stream": 13,
  "cohere-embeddings": 6,
  "cohere-generate-native": 1,
  "cohere-misc": 1,
  "cohere-rerank": 4,
  gateways: 5,
  "gemini-misc": 8,
  "mistral-batches": 4,
  "mistral-ocr": 1,
  "ollama-chat-native": 6,
  "ollama-chat-native-stream": 3,
  "ollama-generate-native": 3,
  "ollama-generate-native-stream": 2,
  "openai-assistants": 109,
  "openai-assistants-stream": 6,
  "openai-misc": 25,
  "openai-moderations": 1,
  "openai-org-usage": 3,
  "openrouter-misc": 1,
  "openrouter-rerank": 1,
  "other-misc": 35,
  "xai-audio-speech": 1,
  "xai-audio-transcription": 1,
  "xai-batches": 2,
  "xai-videos": 1,
};
/** Every record in full in CI; a sample here. */
const SHARE = IS_CI ? 1 : 0.25;
/** Where a vendor's base URL ends. */
const ENDPOINT =
  /^(.*?)(\/v1)?\/(?:chat\/completions|completions|responses|embeddings|images|audio|batches|files|models|moderations|videos|decisions)\b/;

type Place = { readonly upstream: string; readonly path: string };
type Row = { readonly url: string; readonly version?: "none"; readonly list: string; readonly kind?: string };

/** Under which upstream a record goes, and which path its client sends. */
function placeOf(recording: Recording, upstreams: Map<string, Row>): Place | undefined {
  const url = new URL(
    `https://${recording.url
      .replace(/<(?:\w+_API_BASE|AWS_REGION)>/, "vendor")
      .replaceAll("<GOOGLE_CLOUD_LOCATION>", "us-central1")
      .replace(/^([^/]+)\/\/+/, "$1/")}`,
  );
  const path = url.pathname + url.search;
  const named = (name: string, row: Row): string => {
    upstreams.set(name, row);
    return name;
  };
  switch (recording.provider) {
    case "openai":
      return { upstream: "openai", path };
    case "anthropic":
      return { upstream: "anthropic", path };
    case "gemini":
      return { upstream: "google", path };
    case "vertex":
      return { upstream: "vertex", path };
    case "azure":
      return { upstream: named("azure", { url: "", list: "openai", kind: "azure" }), path };
    default: {
      // Formats of their own: Anthropic's at a gateway, Cohere's, a gateway's stored prompts.
      if (url.pathname.includes("/anthropic/v1/") || recording.provider === "cohere" || path.includes("/prompts/"))
        return undefined;
      const [, base, version] = ENDPOINT.exec(url.pathname) ?? [];
      if (base === undefined) return undefined;
      const row: Row = { url: base, list: recording.provider, ...(version === undefined ? { version: "none" } : {}) };
      const name = `up-${[...upstreams.keys()].length}`;
      const known = [...upstreams].find(([, other]) => JSON.stringify(other) === JSON.stringify(row))?.[0];
      return { upstream: known ?? named(name, row), path: path.slice(base.length) };
    }
  }
}

/** The body that the recording kept, rebuilt where it was a form. */
async function requestOf(
  recording: Recording,
  expected: Expected | undefined,
): Promise<{ body: Buffer; type: string }> {
  const recorded = recording.request_body as { multipart?: { headers: unknown; body: string }[] } | null;
  if (recorded !== null && typeof recorded === "object" && Array.isArray(recorded.multipart)) {
    const form = new FormData();
    for (const part of recorded.multipart) {
      const headers = JSON.stringify(part.headers);
      const name = /name=\\"([^"\\]+)/.exec(headers)?.[1];
      if (name === undefined) continue;
      if (headers.includes("filename=")) form.append(name, new Blob([Buffer.alloc(100_000)]), "file");
      else form.append(name, part.body.trim());
    }
    const answer = new Response(form);
    return { body: Buffer.from(await answer.arrayBuffer()), type: answer.headers.get("content-type") ?? "" };
  }
  const isObject = recorded !== null && typeof recorded === "object";
  // Where the answer holds a usage event the client did ask for it, whatever the recording kept of the request.
  const asked = /-(chat|completions)-stream$/.test(recording.file) ? { stream_options: { include_usage: true } } : {};
  const body = isObject
    ? { ...recorded, ...asked }
    : { model: expected?.usage?.served_model ?? "gpt-4o-mini", stream: recording.stream, ...asked };
  return { body: Buffer.from(JSON.stringify(body)), type: "application/json" };
}

/** Where what is booked is another figure than the one worked out apart, and why. */
const LISTED: { readonly [id: string]: string } = {
  r_2c0a966820fe05d4: "the answer does not say how long its prompt was: it is booked at what was held, as an estimate",
  r_f2dddb24ccea167f: "the stated cost is less than half of what the tokens cost by any list, so it is not believed",
  r_f6718e55a2399fb8: "the stated cost is less than half of what the tokens cost by our list, so it is not believed",
  r_9f1719d7fa167af6:
    "the container was begun by an earlier request, which the answer does not say: it is booked as inferred",
  r_b34bb9a842a32634:
    "whether its container was begun by this request the answer does not say: it is booked as inferred",
  r_cb3ca9b4aeb21ff6: "what a search costs on Azure is in no list that is sure",
  r_b69e3b98748ea86e: "sound of gemini-2.0-flash on Vertex: 1.05 by the multiple, 1.00 by LiteLLM; inferred",
  r_37d1a9567e31ca2e: "what is cached of this model: 0.26 by Mistral's own page, 0.14 by LiteLLM",
  r_0c09fee5662faa24: "an experimental model that was free",
  r_2504280b9d213ccb: "grok-code-fast-1: nine bills state our price, a list has another one",
  r_7386b92743e5ad8b: "grok-code-fast-1: nine bills state our price, a list has another one",
};

const KNOWN_BY = { vendor: "openai", allowed: [] };

describe.skipIf(!hasRecordings)("recorded traffic of other endpoints and vendors", () => {
  const upstreams = new Map<string, Row>();
  const expectations = hasRecordings ? readExpected() : new Map<string, Expected>();
  const files = hasRecordings ? listRecordings() : [];
  const records = files
    .filter((file) => !file.endsWith("-ws"))
    .map((file) => ({
      file,
      recordings: readRecordings(file)
        .filter(({ status, method }) => status >= 200 && status < 300 && method !== "WS")
        .map((recording) => ({ recording, place: placeOf(recording, upstreams) })),
    }));
  const bench = withProxy(
    () => {},
    (url) => {
      const lines = [...upstreams].map(
        ([name, row]) =>
          `    ${name}: { url: "${url}${row.url}", price_list: ${row.list}${row.kind ? `, kind: ${row.kind}` : ""}${row.version ? ", version: none" : ""} }`,
      );
      return {
        KEYMETER_CONFIG: writeSettings(`proxy:\n  upstreams:\n${lines.join("\n")}\n`),
        KEYMETER_VERTEX_URL: url,
        KEYMETER_DURABILITY: "process",
      };
    },
  );
  let books: UsageBooks;
  const compared = { equal: 0, listed: 0, unpriced: 0, unsure: 0 };

  beforeAll(async () => {
    const opened = await openUsage(bench.running.place);
    if (!opened) throw new Error("no books");
    books = opened;
  });
  afterAll(async () => {
    console.log(`costs of recorded answers against those worked out apart: ${JSON.stringify(compared)}`);
    await books.close();
  });

  const targetOf = (recording: Recording, { upstream, path }: Place): Target | undefined => {
    const read = readTarget(`/${upstream}${path}`);
    return resolveTarget(
      bench.running.proxy.context.providers,
      { method: recording.method, headers: {} } as never,
      read.path,
      read.query,
    );
  };
  const newest = async (): Promise<EventRecord | undefined> => (await readEvents(books, { limit: 1 })).at(-1);

  it.each(records)("$file", async ({ file, recordings }) => {
    const next = random(SEED);
    let missing = 0;
    for (const { recording, place } of recordings) {
      const target = place && targetOf(recording, place);
      if (!place || !target?.match) {
        missing += 1;
        continue;
      }
      if (next() >= SHARE) continue;
      await replay(recording, place, target, next);
    }
    expect(missing, `records of ${file} without a route`).toBe(WITHOUT_ROUTE[file] ?? 0);
  });

  /** Booked is what was worked out apart, or stands on the list with its reason; what has no price says so. */
  function checkCost(recording: Recording, event: EventRecord): void {
    const { nanoUsd, lines = [], sure, source } = costOf(recording);
    const reason = LISTED[recording.id];
    if (nanoUsd === null) return;
    // DeepSeek's prices double from Monday to Friday, from 1 to 4 and from 6 to 10 h UTC; the list has the plain ones.
    const [day, hour] = [new Date(event.at).getUTCDay(), new Date(event.at).getUTCHours()];
    const isPeak = day >= 1 && day <= 5 && ((hour >= 1 && hour < 4) || (hour >= 6 && hour < 10));
    const times = event.priceList === "deepseek" && isPeak ? 2n : 1n;
    const off = event.costNanoUsd === null ? undefined : BigInt(event.costNanoUsd) - times * BigInt(nanoUsd);
    // Each line may round otherwise.
    const isSame = off !== undefined && (off < 0n ? -off : off) <= BigInt(lines.length + 1);
    compared[
      isSame ? "equal" : reason !== undefined ? "listed" : event.priceConfidence === "unpriced" ? "unpriced" : "unsure"
    ] += 1;
    if (isSame || reason !== undefined || event.priceConfidence === "unpriced") return;
    if (!sure && event.priceConfidence === "inferred") return;
    expect.fail(`${recording.id}: booked ${event.costNanoUsd}, by ${source} ${nanoUsd} (${lines.join(", ")})`);
  }

  async function replay(recording: Recording, place: Place, target: Target, next: () => number): Promise<void> {
    const { id } = recording;
    const expected = expectations.get(id);
    const answer = Buffer.from(recording.response_body, recording.response_body_encoding as BufferEncoding);
    const contentType =
      recording.response_headers["content-type"] ?? (recording.stream ? "text/event-stream" : "application/json");
    bench.provider.script = async (_arrived, response) => {
      response.writeHead(recording.status, { "content-type": contentType });
      for (const piece of cut(answer, next)) {
        response.write(piece);
        await new Promise(setImmediate);
      }
      response.end();
    };
    const { body, type } = await requestOf(recording, expected);
    const hasBody = recording.method === "POST" || recording.method === "PATCH";
    const before = (await newest())?.attemptId;
    const response = await fetch(`${bench.running.url}/${place.upstream}${place.path}`, {
      method: recording.method,
      headers: { authorization: "Bearer sk-test-recorded-traffic-key", ...(hasBody ? { "content-type": type } : {}) },
      ...(hasBody ? { body } : {}),
    });
    const got = Buffer.from(await response.arrayBuffer());
    expect(response.status, `${id}: ${got.toString().slice(0, 200)}`).toBe(recording.status);
    // Where results lie is put here; every other byte is the provider's.
    const placed = target.match?.route.namesPlaces
      ? Buffer.from(
          got.toString("latin1").replaceAll(`${bench.running.url}/anthropic`, "https://api.anthropic.com"),
          "latin1",
        )
      : got;
    expect(placed.equals(answer), `${id}: bytes`).toBe(true);
    const kind = target.match?.route.kind;
    if (kind === "free") return expect((await newest())?.attemptId, id).toBe(before);
    // A result of work that was begun elsewhere is booked nowhere; what would be read of it is looked at apart.
    if (kind === "result") return checkReading(recording, expected, target, answer, contentType);
    if (bench.running.proxy.context.work.list().some(({ workId }) => workId === expected?.response_id)) return;
    const event = await newest();
    if (event && event.attemptId !== before) checkCost(recording, event);
    // A second beginning of the same work has used nothing; a result that passed first, in this file, is what it used.
    if (GOING_ON.has(expected?.state ?? "")) return expect(["complete"], id).toContain(event?.outcome);
    if (!event || event.attemptId === before) {
      expect(expected?.usage ?? null, `${id}: no event`).toBeNull();
      return;
    }
    check(recording, expected, event.usage, event.usageState === "reported");
    const { served_model: model, service_tier: tier } = expected?.usage ?? {};
    if (model) expect(event.servedModel ?? event.requestedModel, id).toBe(model);
    if (tier && tier !== "auto") expect(event.tier?.split(","), id).toContain(tier.toLowerCase());
    const cost = expected?.extra?.provider_cost_usd;
    if (cost) expect(Math.abs(Number(event.statedCostNanoUsd) / 1e9 - cost), `${id}: stated cost`).toBeLessThan(2e-9);
  }

  function checkReading(
    recording: Recording,
    expected: Expected | undefined,
    { dialect, match }: Target,
    answer: Buffer,
    contentType: string,
  ): void {
    const meter = createMeter(dialect, workCall(match?.route.endpoint ?? "", "", []), false, contentType);
    meter.push(answer);
    const reading = meter.reading();
    const usage = reading.extra.reduce((sum, pass) => addUsage(sum, pass.usage), reading.usage ?? {});
    if (GOING_ON.has(expected?.state ?? "")) return expect(reading.pending, recording.id).toBe(true);
    check(recording, expected, usage, reading.usage !== undefined && reading.final && !reading.pending);
  }

  function check({ id, file }: Recording, expected: Expected | undefined, usage: Usage, isReported: boolean): void {
    if (expected?.extra?.ambiguous) return;
    const { seconds, prompt_audio_seconds: prompted } = expected?.extra ?? {};
    const length = seconds ?? prompted;
    if (length !== undefined && isReported) expect(usage.audio_second ?? Math.ceil(length), id).toBe(Math.ceil(length));
    if (!expected?.usage) {
      // What the expectations do not know: pictures by the piece, and batches answer by answer.
      const units = Object.keys(usage);
      const isKnown = units.length === 0 || units.some((unit) => UNITS_OF_OURS.has(unit)) || file.includes("batches");
      if (isReported) expect(isKnown, `${id}: ${JSON.stringify(usage)}`).toBe(true);
      return;
    }
    if (PROMPTLESS.has(id)) return expect(isReported, id).toBe(false);
    // Pictures by the piece are worked out.
    expect(isReported || usage.image !== undefined, `${id}: reported`).toBe(true);
    const extra = (expected.extra?.extra_usage ?? []).map((one) => expectedFold(one.usage));
    const sum = extra.reduce((total, one) => addFolds(total, one), expectedFold(expected.usage));
    const whole = { ...sum, web_search_requests: expectedSearches(id, usage, sum.web_search_requests) };
    expect(fold(usage), id).toEqual(whole);
    // Mistral's sound lies outside the prompt, in seconds.
    if (length === undefined)
      expect((usage.input_audio ?? 0) + (usage.cache_read_audio ?? 0), `${id}: sound in`).toBe(expected.usage.audio_in);
    expect(usage.output_audio ?? 0, `${id}: sound out`).toBe(expected.usage.audio_out);
  }

  it.each(files.filter((file) => file.endsWith("-ws")))("%s: every response of a session", (file) => {
    for (const { id, response_body: messages } of readRecordings(file)) {
      const expected = expectations.get(id);
      const model = expected?.usage?.served_model ?? "gpt-realtime";
      const conversation = file.startsWith("gemini")
        ? DIALECTS.google.converse?.(matched(DIALECTS.google, LIVE_PATH), new URLSearchParams(), KNOWN_BY)
        : DIALECTS.openai.converse?.(matched(DIALECTS.openai, "/realtime"), new URLSearchParams({ model }), KNOWN_BY);
      let sum: Usage = {};
      let turns = 0;
      const begun = new Set<string>();
      for (const line of messages.split("\n").filter((text) => text !== "")) {
        const { direction, data } = JSON.parse(line) as { direction: string; data: object };
        const message = JSON.stringify(data);
        if (direction === "sent") conversation?.sent(data as JsonObject);
        else
          for (const said of conversation?.received(message) ?? []) {
            if (said.kind === "began") begun.add(said.turnId);
            if (said.kind !== "ended") continue;
            if (said.reading.usage) sum = addUsage(sum, said.reading.usage);
            if (!said.turnId.endsWith("heard")) expect(begun.delete(said.turnId), `${id}: ${said.turnId}`).toBe(true);
            turns += 1;
          }
      }
      expect([...begun], `${id}: turns without an end`).toEqual([]);
      expect(turns, id).toBeGreaterThan(0);
      if (!expected?.usage) continue;
      const heard = (expected.extra?.transcription_usage ?? []).reduce((seconds, one) => seconds + one.seconds, 0);
      expect([fold(sum), sum.audio_second ?? 0], id).toEqual([expectedFold(expected.usage), heard]);
    }
  });
});

const LIVE_PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";

function matched(dialect: Dialect, path: string): RouteMatch {
  const match = matchRoute(dialect.routes, "GET", path);
  if (!match) throw new Error(`no route for ${path}`);
  return match;
}

const GOING_ON = new Set(["queued", "in_progress", "validating"]);
const UNITS_OF_OURS = new Set(["image", "audio_second", "character", "video_second"]);
