// Whatever JSON comes, a reader reads it: no request makes one throw but a refusal, no answer makes one throw at all,
// and what they say of quantities can always be booked. Fed with JSON of chance alone, and with real exchanges of every
// endpoint in which chance changed some places.
import { isDeepStrictEqual } from "node:util";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Usage } from "../../ledger/usage.ts";
import type { Call } from "../../proxy/dialects/call.ts";
import type { Conversation } from "../../proxy/dialects/conversation.ts";
import type { DialectName } from "../../proxy/dialects/dialect.ts";
import { DIALECTS } from "../../proxy/dialects/index.ts";
import { parseObject } from "../../proxy/dialects/json.ts";
import type { Reading } from "../../proxy/dialects/reading.ts";
import { matchRoute } from "../../proxy/dialects/routes.ts";
import type { Route, RouteMatch } from "../../proxy/dialects/routes.ts";
import { readRequest } from "../../proxy/read-request.ts";
import { Refused } from "../../proxy/refusals.ts";
import { workCall } from "../../proxy/work.ts";
import { IS_CI, SEED } from "../seed.ts";
import { EXCHANGES, SESSIONS } from "./exchanges.ts";
import type { Exchange, SessionExchange } from "./exchanges.ts";

const RUNS = IS_CI ? 1_000 : 10;
/** No divisor of the number of odd values. */
const ONE_IN = 7;
const KNOWN_BY = { vendor: "openai", allowed: [] };
/** More than any answer of a few parts says: a thousand million of each count, and of a cache that for a year. */
const MOST = 1e9 * 24 * 366 * 10;

/** Names that stand in exchanges, and those that every object has. */
const NAMES = [
  ...new Set([...EXCHANGES.flatMap(({ request, said }) => [request, ...said]), ...SESSIONS].flatMap(namesIn)),
  ..."__proto__ constructor toString valueOf hasOwnProperty length toJSON * 0".split(" "),
  "",
];
const LEAVES: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  0.5,
  7,
  999_999_999,
  2 ** 53,
  1e300,
  "",
  "12",
  "8e0",
  "text",
  "completed",
  "models/x",
  "resp_1",
  "2026-11-29T00:00:00Z",
  "9999999-01-01",
  '\u{1F600}\u0000"\\',
];

/** Objects and lists where none is expected: with members that may not be touched, and one that can become neither a
 *  text nor a number. */
const HOLDERS = [
  '{"constructor":{"arguments":{"caller":7}}}',
  "{}",
  "[]",
  "[null]",
  "[[1]]",
  '["x",{}]',
  '{"toString":0,"valueOf":0}',
];
/** What stands in each place once. */
const ODD = [...HOLDERS, "null", "-1", "0.5", "true", '""', '"text"', "999999999", "9007199254740992"];

const leaf = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...LEAVES).map((value) => JSON.stringify(value)) },
  { weight: 3, arbitrary: fc.constantFrom(...HOLDERS) },
  {
    weight: 1,
    arbitrary: fc
      .oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.string())
      .map((value) => JSON.stringify(value)),
  },
);
/** JSON as text, so that every name can stand in it. */
const json = fc.letrec<{ value: string; list: string; object: string }>((tie) => ({
  value: fc.oneof({ maxDepth: 4, depthSize: "small" }, leaf, tie("object"), tie("list")),
  list: fc.array(tie("value"), { maxLength: 3 }).map((items) => `[${items.join(",")}]`),
  object: fc
    .array(fc.tuple(fc.constantFrom(...NAMES), tie("value")), { maxLength: 5 })
    .map((members) => `{${members.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(",")}}`),
}));
/** Deeper than anybody nests. */
const DEEP = `${'{"usage":['.repeat(5_000)}${"]}".repeat(5_000)}`;
const changes = fc.array(fc.tuple(fc.nat(), json.value), { minLength: 1, maxLength: 4 });

describe("readers of answers", () => {
  const calls = everyCall();
  it.each(calls.map((call) => [`${call.dialect} ${call.name}`, call] as const))(
    "%s: JSON of chance",
    (_name, { dialect, call }) => {
      holds(fc.array(json.object, { minLength: 1, maxLength: 3 }), (texts) => readAnswer(dialect, call, texts));
    },
  );

  it.each(EXCHANGES.map((one) => [`${one.dialect} ${one.path}`, one] as const))(
    "%s: changed answers",
    (_name, exchange) => {
      const asked = callsOf(exchange);
      const read = (places: readonly Change[]): void => {
        const texts = changed(exchange.said, places);
        for (const call of asked) readAnswer(exchange.dialect, call, texts);
      };
      for (const change of eachPlace(exchange.said)) at(change, () => read([change]));
      holds(changes, read);
    },
  );
});

describe("what is nested deeper than anything", () => {
  it.each(EXCHANGES.map((one) => [`${one.dialect} ${one.path}`, one] as const))("%s", (_name, exchange) => {
    const [call] = callsOf(exchange);
    holds(
      fc.nat(),
      (at) => {
        if (call) readAnswer(exchange.dialect, call, changed(exchange.said, [[at, DEEP]]));
      },
      IS_CI ? 50 : 1,
    );
  });
});

describe("readers of requests", () => {
  it.each(
    routes("metered").map((one) => [`${one.dialect} ${one.match.route.method} ${one.match.route.path}`, one] as const),
  )("%s: JSON of chance", async (_name, { dialect, match }) => {
    await holdsAsync(json.object, (text) => readAsked(dialect, match, text));
  });

  it.each(EXCHANGES.map((one) => [`${one.dialect} ${one.path}`, one] as const))(
    "%s: changed requests",
    async (_name, exchange) => {
      const read = async (places: readonly Change[]): Promise<void> => {
        const [text = ""] = changed([exchange.request], places);
        await readAsked(exchange.dialect, matchOf(exchange), text);
      };
      for (const change of eachPlace([exchange.request]))
        await read([change]).catch((error: unknown) => tell(change, error));
      await holdsAsync(changes, read);
    },
  );
});

describe("readers of sessions", () => {
  it.each(SESSIONS.map((one) => [one.path, one] as const))("%s", (_name, session) => {
    const step = fc.tuple(fc.boolean(), fc.nat(), fc.oneof(fc.constant(undefined), changes, json.object));
    holds(fc.array(step, { minLength: 1, maxLength: 12 }), (steps) => {
      const conversation = converse(session);
      for (const [isSent, at, change] of steps) {
        const list = isSent ? session.sent : session.received;
        const message = list[at % list.length] ?? {};
        const text = typeof change === "string" ? change : (changed([message], change ?? [])[0] ?? "");
        if (isSent) say(conversation, text);
        else hear(conversation, text);
      }
    });
  });
});

it("has an exchange, or a session, of every endpoint that is read", () => {
  const read = new Set(routes("metered").map(({ dialect, match }) => `${dialect} ${match.route.endpoint}`));
  for (const exchange of EXCHANGES) read.delete(`${exchange.dialect} ${matchOf(exchange).route.endpoint}`);
  expect([...read]).toEqual([]);
  const spoken = new Set(routes("socket").map(({ dialect, match }) => `${dialect} ${match.route.endpoint}`));
  for (const { dialect, path } of SESSIONS)
    spoken.delete(`${dialect} ${matchRoute(DIALECTS[dialect].routes, "GET", path)?.route.endpoint}`);
  expect([...spoken]).toEqual([]);
});

const VERDICTS = new Set(["pass", "last", "hide"]);

/** As `expect`, which is too slow for millions. */
function ensure(isSo: boolean, what: string): void {
  if (!isSo) throw new Error(`this should be ${what}`);
}

function holds<T>(arbitrary: fc.Arbitrary<T>, test: (value: T) => void, numRuns = RUNS): void {
  fc.assert(fc.property(arbitrary, test), { numRuns, seed: SEED });
}

async function holdsAsync<T>(arbitrary: fc.Arbitrary<T>, test: (value: T) => Promise<void>): Promise<void> {
  await fc.assert(fc.asyncProperty(arbitrary, test), { numRuns: RUNS, seed: SEED });
}

/** Reads an answer in each frame that there is: whole, in events, in lines, as text, through and through. */
function readAnswer(dialect: DialectName, call: Call, texts: readonly string[]): void {
  for (const hides of [false, true]) {
    const events = DIALECTS[dialect].reader(call, hides);
    for (const text of [...texts, "[DONE]", "no JSON"]) {
      ensure(VERDICTS.has(events.event(text)), "a verdict");
      countable(events.words?.(text) ?? 0);
      events.isFinishing?.();
      events.goesOn?.(text);
      checkReading(events.reading());
    }
    // Asked again, it says the same.
    ensure(isDeepStrictEqual(events.reading(), events.reading()), "the same reading");
  }
  for (const text of texts) {
    const body = parseObject(text);
    const whole = DIALECTS[dialect].reader(call, false);
    if (body) whole.body(body);
    else whole.text?.(text);
    if (body) DIALECTS[dialect].made?.(body);
    checkReading(whole.reading());
    DIALECTS[dialect].placeUrls?.(text, "http://here.test");
  }
  const spoken = DIALECTS[dialect].reader(call, false);
  spoken.text?.(texts.join("\n"));
  checkReading(spoken.reading());
}

function checkReading(reading: Reading): void {
  checkUsage(reading.usage);
  for (const { usage, context, model, tiers } of reading.extra) {
    checkUsage(usage);
    countable(context);
    for (const text of [model, ...(tiers ?? [])]) ensure(text === undefined || typeof text === "string", "a text");
  }
  for (const count of [reading.context, reading.reasoning, reading.passes]) countable(count);
  for (const text of [reading.servedModel, reading.responseId, reading.raw, reading.resultPlace])
    ensure(text === undefined || typeof text === "string", "a text");
  for (const text of [...reading.tiers, ...reading.unknownFields, ...(reading.makes ?? [])])
    ensure(typeof text === "string", "a string");
  for (const one of [reading.final, reading.ended, reading.failed, reading.pending])
    ensure(typeof one === "boolean", "a boolean");
  if (reading.statedCostNanoUsd !== undefined) {
    ensure(reading.statedCostNanoUsd >= 0n && reading.statedCostNanoUsd < 10n ** 16n, "an amount");
  }
}

function checkUsage(usage: Usage | undefined): void {
  for (const count of Object.values(usage ?? {})) countable(count);
}

function countable(count: number | undefined): void {
  if (count === undefined) return;
  ensure(Number.isSafeInteger(count) && count >= 0 && count <= MOST, `a count, not ${count}`);
}

async function readAsked(dialect: DialectName, match: RouteMatch, text: string): Promise<void> {
  const { describe, references, rewrite } = DIALECTS[dialect];
  const body = parseObject(text);
  const bytes = Buffer.from(text);
  for (const vendor of ["openai", "anthropic", "perplexity"]) {
    // Also what the gate would have refused.
    if (!body) break;
    const call = describe(match, body, { "anthropic-beta": text.slice(0, 40) }, { vendor, allowed: [] });
    for (const name of references(body)) ensure(typeof name === "string", "a string");
    rewrite(call, bytes, body);
  }
  const toRead = { dialect, match, headers: {}, asksUsage: true, knownBy: KNOWN_BY };
  const read = await readRequest(toRead, bytes).catch((error: unknown) => {
    if (error instanceof Refused) return undefined;
    throw error;
  });
  if (read) checkCall(read.call);
}

function checkCall(call: Call): void {
  ensure(typeof call.model === "string", "a string");
  for (const count of [call.maxOutputTokens, call.inputs, call.hiddenTokens, call.longestContext]) countable(count);
  ensure(Number.isSafeInteger(call.answers) && call.answers >= 1, "a number of answers");
  checkUsage(call.fees);
  for (const text of [...call.tiers, ...Object.values(call.bodyTags)]) ensure(typeof text === "string", "a string");
  for (const text of [...(call.otherModels?.instead ?? []), ...(call.otherModels?.beside ?? [])])
    ensure(typeof text === "string", "a string");
  // It travels to threads.
  ensure(isDeepStrictEqual(structuredClone(call), call), "plain data");
}

function say(conversation: Conversation, text: string): void {
  const message = parseObject(text);
  if (!message) return;
  for (const model of conversation.models?.(message) ?? []) ensure(typeof model === "string", "a string");
  const need = conversation.sent(message);
  if (need && "call" in need) checkCall(need.call);
}

function hear(conversation: Conversation, text: string): void {
  for (const said of conversation.received(text)) {
    if (said.kind === "ended") checkReading(said.reading);
    if (!("turnId" in said)) continue;
    ensure(typeof said.turnId === "string", "a string");
    const { reading, tokens } = conversation.partial(said.turnId);
    checkReading(reading);
    countable(tokens);
    conversation.cancel(said.turnId);
  }
}

type Place = { readonly dialect: DialectName; readonly match: RouteMatch };

function routes(kind: Route["kind"]): Place[] {
  return Object.values(DIALECTS).flatMap((dialect) =>
    dialect.routes
      .filter((route) => route.kind === kind)
      .map((route) => ({ dialect: dialect.name, match: { route, parameters: parametersOf(route) } })),
  );
}

function parametersOf({ path }: Route): { [name: string]: string } {
  return Object.fromEntries([...path.matchAll(/\{(\w+)\+?\}/g)].map(([, name = ""]) => [name, `${name}-1`]));
}

/** A call of each endpoint that is metered, streamed and not, and of each result. */
function everyCall(): { name: string; dialect: DialectName; call: Call }[] {
  const metered = routes("metered").map(({ dialect, match }) => ({
    dialect,
    call: DIALECTS[dialect].describe(match, { model: "m", stream: true }, {}, KNOWN_BY),
  }));
  const results = routes("result").map(({ dialect, match }) => ({
    dialect,
    call: workCall(match.route.endpoint, "", []),
  }));
  return [...metered, ...results].map((one, at) => ({ ...one, name: `${one.call.endpoint} ${at}` }));
}

function matchOf({ dialect, method, path }: Exchange): RouteMatch {
  const match = matchRoute(DIALECTS[dialect].routes, method, path);
  if (!match) throw new Error(`no route for ${method} ${path}`);
  return match;
}

function callsOf(exchange: Exchange): Call[] {
  const match = matchOf(exchange);
  const body = parseObject(JSON.stringify(exchange.request)) ?? {};
  const call = DIALECTS[exchange.dialect].describe(match, body, {}, KNOWN_BY);
  return [call, { ...call, goesOn: true, isStored: true, answers: 2 }, workCall(call.endpoint, call.model, [])];
}

function converse({ dialect, path, query }: SessionExchange): Conversation {
  const match = matchRoute(DIALECTS[dialect].routes, "GET", path);
  const conversation = match && DIALECTS[dialect].converse?.(match, new URLSearchParams(query), KNOWN_BY);
  if (!conversation) throw new Error(`no session for ${path}`);
  return conversation;
}

/** At a place, counted from the first one, this text. */
type Change = readonly [at: number, text: string];

/** Every place with every odd value; without CI with one in a few, others each time. */
function eachPlace(values: readonly object[]): Change[] {
  const all = slotsIn(structuredClone(values) as object[]).flatMap((_slot, at) =>
    ODD.map((text): Change => [at, text]),
  );
  return IS_CI ? all : all.filter((_change, number) => (number + SEED) % ONE_IN === 0);
}

function at(change: Change, read: () => void): void {
  try {
    read();
  } catch (error) {
    tell(change, error);
  }
}

function tell([at, text]: Change, error: unknown): never {
  throw new Error(`with ${text} at place ${at}, seed ${SEED}`, { cause: error });
}

/** Values as texts, with other JSON at some of their places. */
function changed(values: readonly object[], places: readonly Change[]): string[] {
  const copies = structuredClone(values) as object[];
  const slots = slotsIn(copies);
  places.forEach(([at], number) => {
    const slot = slots[at % slots.length];
    if (slot) slot.holder[slot.name] = `${number}`;
  });
  return copies.map((copy) =>
    places.reduce((text, [, other], number) => text.replaceAll(`"${number}"`, () => other), JSON.stringify(copy)),
  );
}

type Slot = { readonly holder: { [name: string]: unknown }; readonly name: string };

function slotsIn(value: object): Slot[] {
  return Object.entries(value).flatMap(([name, member]: [string, unknown]) => [
    { holder: value as Slot["holder"], name },
    ...(typeof member === "object" && member !== null ? slotsIn(member) : []),
  ]);
}

function namesIn(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  const inner = Object.values(value).flatMap(namesIn);
  return Array.isArray(value) ? inner : [...Object.keys(value), ...inner];
}
