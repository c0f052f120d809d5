// Secrets that went where they have no business: credentials of ours in answers, keys of ours at providers, keys in
// tags, what one key may learn of another, and texts that spreadsheets run and terminals obey.
import { connect } from "node:net";
import { join } from "node:path";
import { parse } from "csv-parse/sync";
import { stringify } from "csv-stringify/sync";
import { beforeEach, describe, expect, it } from "vitest";
import { csvText } from "../../service/csv.ts";
import { toCsv } from "../../collector/pages/downloads.ts";
import { formatTable, printable } from "../../command/table.ts";
import { openForReading } from "../../ledger/sqlite.ts";
import { createMask } from "../../proxy/mask.ts";
import type { Mask } from "../../proxy/mask.ts";
import { readTags } from "../../proxy/tags.ts";
import { chatAnswer, json } from "../fake/provider.ts";
import { startFakeSocketProvider } from "../fake/socket-provider.ts";
import { sendRaw } from "../raw-http.ts";
import { cut, IS_CI, random, SEED } from "../seed.ts";
import { startProxy } from "../start-proxy.ts";
import { withProxy } from "../with-proxy.ts";

const OPENAI = "sk-proj-provider-credential-openai";
const ANTHROPIC = "sk-ant-api03-provider-credential";
const GOOGLE = "AIzaProviderCredentialGoogle";

const bench = withProxy(
  json(chatAnswer()),
  { KEYMETER_DURABILITY: "process", KEYMETER_TRUSTED_PROXIES: "127.0.0.1" },
  { key: {} },
);
beforeEach(() => {
  bench.provider.script = json(chatAnswer());
  (bench.provider.journal as unknown[]).length = 0;
});

const CHAT = "/openai/v1/chat/completions";
const MESSAGES = "/anthropic/v1/messages";
const GEMINI = "/google/v1beta/models/gemini-2.5-flash:generateContent";
const BODIES: { readonly [path: string]: object } = {
  [CHAT]: { model: "gpt-4o-mini", max_tokens: 5, messages: [] },
  [MESSAGES]: { model: "claude-haiku-4-5", max_tokens: 5, messages: [] },
  [GEMINI]: { contents: [] },
};

function ask(headers: { [name: string]: string }, path = CHAT, query = "", more: object = {}): Promise<Response> {
  return fetch(bench.running.url + path + query, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify({ ...BODIES[path], ...more }),
  });
}
const bearer = (text: string): { authorization: string } => ({ authorization: `Bearer ${text}` });

/** What an answer says, all of it. */
async function saidBy(answer: Response): Promise<string> {
  return JSON.stringify([...answer.headers]) + (await answer.text());
}

const PLACES = [
  ["openai", CHAT, OPENAI],
  ["anthropic", MESSAGES, ANTHROPIC],
  ["google", GEMINI, GOOGLE],
] as const;

describe("fault 14: what a provider repeats of our credential", () => {
  describe.each(PLACES)("%s", (_name, path, credential) => {
    const repeat = `Incorrect API key provided: Bearer ${credential} (${credential}). Find yours elsewhere.`;

    it.each([400, 401, 403, 429, 500, 503])(
      "in an error (%i) and its headers is stars to the client",
      async (status) => {
        bench.provider.script = (arrived, response) => {
          // The test is worth nothing unless it is what was sent.
          const sent = [arrived.headers.authorization, arrived.headers["x-api-key"], arrived.headers["x-goog-api-key"]];
          expect(sent.join(" ")).toContain(credential);
          const body = JSON.stringify({ error: { message: repeat, code: status } });
          response
            .writeHead(status, {
              "content-type": "application/json",
              "x-echo": `key=${credential};`,
              "www-authenticate": `Bearer realm="${credential}"`,
            })
            .end(body);
        };
        const answer = await ask(bearer(bench.secret), path);
        expect(answer.status).toBe(status);
        const stars = "*".repeat(credential.length);
        expect(answer.headers.get("x-echo")).toBe(`key=${stars};`);
        expect(answer.headers.get("www-authenticate")).toBe(`Bearer realm="${stars}"`);
        expect(await answer.json()).toEqual({
          error: { message: repeat.replaceAll(credential, stars), code: status },
        });
      },
    );

    it("is found though it comes in pieces, as events too", async () => {
      const next = random(SEED);
      for (const type of ["application/json", "text/event-stream"]) {
        const text = `data: {"error":"${repeat}"}\n\ndata: ${credential}${credential}\n\n${credential.slice(0, -1)}`;
        bench.provider.script = async (_arrived, response) => {
          response.writeHead(400, { "content-type": type });
          for (const piece of cut(Buffer.from(text), next, 20)) {
            response.write(piece);
            await new Promise((resolve) => setImmediate(resolve));
          }
          response.end();
        };
        const got = await (await ask(bearer(bench.secret), path, "", path === GEMINI ? {} : { stream: true })).text();
        expect(got, `seed ${SEED}`).toBe(text.replaceAll(credential, "*".repeat(credential.length)));
      }
    });

    it("in a header of an answer that is none of an error is stars too", async () => {
      bench.provider.script = (_arrived, response) =>
        void response
          .writeHead(200, { "content-type": "application/json", "x-debug": `sent ${credential}` })
          .end(JSON.stringify(chatAnswer()));
      const answer = await ask(bearer(bench.secret), path);
      expect(answer.status).toBe(200);
      expect(answer.headers.get("x-debug")).toBe(`sent ${"*".repeat(credential.length)}`);
    });
  });

  it("on a path that costs nothing is stars", async () => {
    bench.provider.script = (_arrived, response) =>
      void response.writeHead(401, { "x-echo": OPENAI }).end(`no such key: ${OPENAI}`);
    const answer = await fetch(`${bench.running.url}/openai/v1/models`, { headers: bearer(bench.secret) });
    expect(answer.status).toBe(401);
    expect(await saidBy(answer)).not.toContain(OPENAI);
  });

  it("in a redirect, which is not followed, does not reach the client", async () => {
    bench.provider.script = (_arrived, response) =>
      void response.writeHead(302, { location: `https://elsewhere.example/?key=${OPENAI}` }).end(OPENAI);
    const answer = await ask(bearer(bench.secret));
    expect(answer.status).toBeGreaterThanOrEqual(500);
    expect(await saidBy(answer)).not.toContain(OPENAI);
  });

  it("reaches no books: neither the id that a provider gives a request nor anything else of an event", async () => {
    bench.provider.script = (_arrived, response) =>
      void response
        .writeHead(401, { "content-type": "application/json", "x-request-id": `for ${OPENAI}` })
        .end(JSON.stringify({ error: { message: OPENAI, code: OPENAI } }));
    const before = (await bench.running.events()).length;
    const answer = await ask(bearer(bench.secret));
    expect(await saidBy(answer)).not.toContain(OPENAI);
    await expect.poll(async () => (await bench.running.events()).length).toBe(before + 1);
    const books = openForReading(join(bench.running.dataDir, "usage.db"));
    const row = books?.prepare("SELECT * FROM events ORDER BY attempt_id DESC LIMIT 1").get() as object;
    books?.close();
    expect(row).toMatchObject({ http_status: 401n });
    expect(Object.values(row).join("\n")).not.toContain(OPENAI);
  });

  it("in the refusal of a WebSocket's handshake is stars", async () => {
    const sockets = await startFakeSocketProvider();
    const other = await startProxy(sockets.url, { KEYMETER_DURABILITY: "process", OPENAI_API_KEY: "invalid_api_key" });
    // What this provider answers holds the words `invalid_api_key`, which are our credential here.
    sockets.refusesWith = 401;
    const own = await other.createKey();
    const { status, text } = await sendRaw(other.url, handshake(`authorization: Bearer ${own.secret}`));
    expect(sockets.handshakes[0]?.headers.authorization).toBe("Bearer invalid_api_key");
    expect(status).toBe(401);
    expect(text).toContain('"code":"***************"');
    expect(text).not.toContain("invalid_api_key");
    await other.stop();
    await sockets.close();
  });

  it("is a client's own affair where the key is his own: those bytes pass as they are", async () => {
    const own = "sk-test-of-the-client-himself";
    bench.provider.script = (_arrived, response) => void response.writeHead(401, { "x-echo": own }).end(`no: ${own}`);
    const answer = await ask(bearer(own));
    expect([answer.headers.get("x-echo"), await answer.text()]).toEqual([own, `no: ${own}`]);
  });

  it("could hide in packed bytes, so plain ones are asked for, whatever the client asked", async () => {
    for (const [, path] of PLACES) await ask({ ...bearer(bench.secret), "accept-encoding": "gzip, br, zstd" }, path);
    expect(bench.provider.journal.map(({ headers }) => headers["accept-encoding"])).toEqual(
      PLACES.map(() => "identity"),
    );
  });
});

function maskOf(secret: string): Mask {
  const mask = createMask(secret);
  if (!mask) throw new Error("no mask");
  return mask;
}

describe("a mask", () => {
  const SECRET = "sk-proj-sk-proj-0123456789abcdef";
  const STARS = "*".repeat(SECRET.length);
  const masked = (pieces: readonly Buffer[]): string => {
    const mask = maskOf(SECRET);
    return Buffer.concat([...pieces.flatMap((piece) => mask.push(piece) ?? []), mask.end()]).toString("latin1");
  };

  it("finds the secret wherever two cuts fall", () => {
    const text = `a ${SECRET} b ${SECRET}${SECRET}${SECRET.slice(0, 8)}${SECRET} end ${SECRET.slice(0, -1)}`;
    const wanted = text.replaceAll(SECRET, STARS);
    const bytes = Buffer.from(text);
    expect(masked([bytes])).toBe(wanted);
    expect(masked(Array.from(bytes, (byte) => Buffer.of(byte)))).toBe(wanted);
    for (let first = 0; first <= bytes.length; first++)
      for (let second = first; second <= bytes.length; second++) {
        const got = masked([bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)]);
        if (got !== wanted) expect.fail(`cut at ${first} and ${second}: ${got}`);
      }
  });

  it("changes nothing else: no byte of anything that holds no secret, and not the caller's buffer", () => {
    const next = random(SEED);
    for (let round = 0; round < (IS_CI ? 2_000 : 200); round++) {
      const bytes = Buffer.from(Array.from({ length: 300 }, () => Math.floor(next() * 256)));
      expect(masked(cut(bytes, next)), `seed ${SEED}`).toBe(bytes.toString("latin1"));
    }
    const given = Buffer.from(`x${SECRET}x`);
    expect(masked([given])).toBe(`x${STARS}x`);
    expect(given.toString()).toBe(`x${SECRET}x`);
  });

  it("is none where there is no secret", () => {
    expect([createMask(""), createMask(undefined)]).toEqual([undefined, undefined]);
  });

  it("lets go of all but what could begin the secret", () => {
    const mask = maskOf(SECRET);
    expect(mask.push(Buffer.alloc(1_000, 0x61))?.length).toBe(1_000 - SECRET.length + 1);
    expect(mask.end().length).toBe(SECRET.length - 1);
    expect(mask.end().length).toBe(0);
    expect(mask.text(`${SECRET}${SECRET}`)).toBe(STARS + STARS);
  });
});

describe("fault 16: a key of ours that is sent in another form", () => {
  const isRefused = async (answer: Response, held: string): Promise<void> => {
    expect(answer.status).toBe(401);
    expect(await saidBy(answer)).not.toContain(held);
    expect(bench.provider.journal).toEqual([]);
  };
  const FORMS: readonly (readonly [name: string, form: (key: string) => string])[] = [
    ["in double quotes", (key) => `"${key}"`],
    ["in single quotes", (key) => `'${key}'`],
    ["with a quote at its end", (key) => `${key}"`],
    ["with sk- in front", (key) => `sk-${key}`],
    ["with sk-ant- in front", (key) => `sk-ant-${key}`],
    ["with sk-ant-oat in front, as a sign-in", (key) => `sk-ant-oat-${key}`],
    ["behind a second Bearer", (key) => `Bearer:${key}`],
    ["behind the name of a variable", (key) => `KEYMETER_KEY=${key}`],
    ["with a comma at its end, in brackets", (key) => `<${key}>,`],
  ];
  const PLACES_OF_KEYS: readonly (readonly [name: string, send: (key: string) => Parameters<typeof ask>])[] = [
    ["Authorization", (key) => [bearer(key)]],
    ["x-api-key", (key) => [{ "x-api-key": key }, MESSAGES]],
    ["api-key", (key) => [{ "api-key": key }]],
    ["x-goog-api-key", (key) => [{ "x-goog-api-key": key }, GEMINI]],
    ["?key=", (key) => [{}, GEMINI, `?key=${encodeURIComponent(key)}`]],
    ["?access_token=", (key) => [{}, GEMINI, `?access_token=${encodeURIComponent(key)}`]],
  ];

  it.each(FORMS)("(%s) goes to no provider, wherever it stands", async (_name, form) => {
    for (const [place, send] of PLACES_OF_KEYS) {
      const answer = await ask(...send(form(bench.secret)));
      expect(answer.status, place).toBe(401);
      await isRefused(answer, bench.secret);
    }
  });

  it("(a key that was revoked, in quotes) is refused too", async () => {
    const { id, secret: revoked } = await bench.running.createKey();
    await bench.running.change({ type: "setKeyState", keyId: id, state: "revoked" });
    await isRefused(await ask(bearer(`"${revoked}"`)), revoked);
  });

  it("(Basic, without a word in front) is refused", async () => {
    for (const value of [
      `Basic ${Buffer.from(`:${bench.secret}`).toString("base64")}`,
      bench.secret,
      `"Bearer ${bench.secret}"`,
    ])
      await isRefused(await ask({ authorization: value }), bench.secret);
  });

  it.each([
    ["as it is", (token: string) => token],
    ["in quotes, as it stands in a .env file", (token: string) => `"${token}"`],
  ])("(the admin token, %s) goes to no provider", async (_name, form) => {
    for (const [place, send] of PLACES_OF_KEYS) {
      const answer = await ask(...send(form(bench.running.adminToken)));
      expect([place, answer.status, bench.provider.journal.length]).toEqual([place, 401, 0]);
      expect(await saidBy(answer)).not.toContain(bench.running.adminToken);
    }
  });

  it("(among a WebSocket's subprotocols) goes to no provider", async () => {
    const arrived: string[] = [];
    const sockets = await startFakeSocketProvider();
    const other = await startProxy(sockets.url, { KEYMETER_DURABILITY: "process" });
    const own = await other.createKey();
    for (const key of [`sk-${own.secret}`, `'${own.secret}'`, other.adminToken]) {
      const protocols = `sec-websocket-protocol: realtime, openai-insecure-api-key.${key}`;
      const { status, text } = await sendRaw(other.url, handshake(protocols));
      expect([key, status]).toEqual([key, 401]);
      arrived.push(text);
    }
    expect(arrived.join("\n")).not.toContain(own.secret);
    expect(sockets.handshakes).toEqual([]);
    // The same handshake with the key itself is one.
    expect(
      await opened(other.url, handshake(`sec-websocket-protocol: openai-insecure-api-key.${own.secret}`)),
    ).toContain("101 Switching Protocols");
    expect(JSON.stringify(sockets.handshakes)).not.toContain(own.secret);
    await other.stop();
    await sockets.close();
  });

  it("is told what to do: send it without quotes or prefix", async () => {
    expect(await (await ask(bearer(`"${bench.secret}"`))).text()).toContain("send the km_... key alone");
    expect((await ask(bearer(bench.secret))).status).toBe(200);
  });
});

function handshake(header: string): string {
  return [
    "GET /openai/v1/realtime?model=gpt-realtime HTTP/1.1",
    "host: keymeter",
    "connection: upgrade",
    "upgrade: websocket",
    "sec-websocket-version: 13",
    "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
    header,
    "",
    "",
  ].join("\r\n");
}

/** The first bytes that come back. */
function opened(url: string, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(url).port), "127.0.0.1", () => socket.write(bytes));
    socket.once("error", reject);
    socket.once("data", (chunk: Buffer) => {
      resolve(chunk.toString("latin1"));
      socket.destroy();
    });
  });
}

describe("fault 22: who asks /keymeter/me", () => {
  const me = (text: string, headers: { [name: string]: string } = {}, query = ""): Promise<Response> =>
    fetch(`${bench.running.url}/keymeter/me${query}`, { headers: { ...bearer(text), ...headers } });
  const jwt = (name: string): string => `eyJhbGciOiJub25lIn0.eyJzdWIiOiJ${name}.c2ln`;

  it.each([
    ["anthropic", MESSAGES, "sk-ant-oat-01-of-ann-herself", "sk-ant-oat-invented"],
    ["openai", CHAT, jwt("YW5u"), jwt("bm9ib2R5")],
    ["google", GEMINI, "ya29.of-ann-herself", "ya29.invented-by-somebody"],
  ])(
    "with an invented sign-in of %s learns nothing of who signed in from there",
    async (name, path, real, invented) => {
      const from = { "x-forwarded-for": `10.9.8.${name.charCodeAt(0)}` };
      expect((await me(real, from)).status).toBe(401);
      expect((await ask({ ...bearer(real), ...from }, path)).status).toBe(200);
      const keyId = (await bench.running.events()).at(-1)?.keyId ?? "";
      const fields = { name: `laptop-of-ann-${name}`, team: "secret-team", owner: "ann" };
      expect(await bench.running.change({ type: "describeKey", keyId, fields })).toBe(200);
      await bench.running.setBudget({ scope: { keyId }, amountNanoUsd: 5_000_000_000n });

      const own = await me(real, from);
      expect([own.status, ((await own.json()) as { key: { name: string } }).key.name]).toEqual([200, fields.name]);
      const isSilent = async (): Promise<void> => {
        const answer = await me(invented, from);
        const said = await saidBy(answer);
        expect(answer.status).toBe(401);
        for (const part of [...Object.values(fields), keyId, "budgets", "spent"]) expect(said).not.toContain(part);
      };
      await isSilent();
      // Nor when it has been asked with, and its provider did not take it.
      bench.provider.script = json({ error: { message: "no" } }, 401);
      expect((await ask({ ...bearer(invented), ...from }, path)).status).toBe(401);
      await isSilent();
      // The same sign-in from elsewhere is somebody else's.
      expect((await me(real, { "x-forwarded-for": "10.1.1.1" })).status).toBe(401);
    },
  );

  it("with a sign-in that one provider accepted learns nothing of another's key at the same address", async () => {
    const from = { "x-forwarded-for": "10.7.7.7" };
    const [anns, bobs] = ["sk-ant-oat-01-of-ann-at-the-office", "ya29.of-bob-at-the-office"];
    for (const [name, path, signIn] of [
      ["laptop-of-ann", MESSAGES, anns],
      ["laptop-of-bob", GEMINI, bobs],
    ] as const) {
      expect((await ask({ ...bearer(signIn), ...from }, path)).status).toBe(200);
      const keyId = (await bench.running.events()).at(-1)?.keyId ?? "";
      expect(await bench.running.change({ type: "describeKey", keyId, fields: { name } })).toBe(200);
    }
    expect(await (await me(anns, from)).text()).toContain("laptop-of-ann");
    const said = await (await me(bobs, from)).text();
    expect(said).not.toContain("laptop-of-ann");
    expect(said).toContain("laptop-of-bob");
  });

  it("review 4.10: from an address that the key is not for is refused, as every request of it is", async () => {
    const { secret: bound } = await bench.running.createKey({ name: "bound", policy: { addresses: ["10.0.0.0/8"] } });
    const statuses = async (headers: { [name: string]: string }): Promise<number[]> => [
      (await me(bound, headers)).status,
      (await ask({ ...bearer(bound), ...headers })).status,
    ];
    expect(await statuses({})).toEqual([403, 403]);
    expect(await statuses({ "x-forwarded-for": "192.168.1.1" })).toEqual([403, 403]);
    expect(await statuses({ "x-forwarded-for": "10.1.2.3" })).toEqual([200, 200]);
    const refused = await me(bound);
    expect(await refused.text()).not.toMatch(/"budgets"|"team"/);
  });

  it("with a form of a key, with the admin token, or with a key of nobody learns nothing", async () => {
    for (const text of [
      `"${bench.secret}"`,
      `sk-${bench.secret}`,
      bench.running.adminToken,
      "sk-of-nobody-in-particular",
    ]) {
      const answer = await me(text);
      expect(answer.status).toBe(401);
      expect(await saidBy(answer)).not.toMatch(/"budgets"|key-1/);
    }
  });
});

describe("a header that holds a key", () => {
  const key = (): string => bench.secret;
  const KEYS: readonly (readonly [name: string, text: () => string])[] = [
    ["Keymeter", key],
    ["Keymeter, in quotes", () => `"${bench.secret}"`],
    ["OpenAI", () => "sk-proj-0123456789abcdefghijkl"],
    ["Anthropic", () => "sk-ant-api03-0123456789abcdefghijkl"],
    ["Anthropic's sign-in", () => "sk-ant-oat01-0123456789abcdefghijkl"],
    ["Google", () => "AIzaSyA0123456789abcdefghijklmnopqrstuvw"],
    ["Google's sign-in", () => "ya29.a0AfB_byC0123456789"],
    ["a JWT", () => "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"],
    ["OpenRouter", () => "sk-or-v1-0123456789abcdef0123456789abcdef"],
    ["xAI", () => "xai-0123456789abcdefghijklmnop"],
    ["Groq", () => "gsk_0123456789abcdefghijklmnop"],
    ["Perplexity", () => "pplx-0123456789abcdefghijklmnop"],
    ["Helicone", () => "sk-helicone-0123456789abcdef"],
    ["anybody, behind Bearer", () => "Bearer 0123456789"],
  ];

  it.each(KEYS)("(%s's) is never a tag, whatever carries it", (_name, text) => {
    const value = text();
    const headers = {
      "x-keymeter-feature": value,
      "x-keymeter-tags": `a=${value}, b=kept`,
      "x-litellm-tags": `c=${value}`,
      "helicone-property-session": value,
      "helicone-user-id": value,
      "x-portkey-metadata": JSON.stringify({ d: value, e: `${value} `, f: "kept" }),
      "cf-aig-metadata": JSON.stringify({ g: value }),
    };
    expect(readTags(headers, { person: value, bodyTags: { user: value, h: value } })).toEqual({ b: "kept", f: "kept" });
  });

  it.each([
    "x-keymeter-api-key",
    "x-keymeter-key",
    "x-keymeter-token",
    "x-keymeter-authorization",
    "x-keymeter-client-secret",
    "helicone-property-openai_api_key",
    "helicone-property-apikey",
    "helicone-property-password",
    "helicone-auth",
    "x-portkey-api-key",
    "x-portkey-virtual-key",
    "x-litellm-api-key",
    "cf-aig-authorization",
  ])("(%s) is none by its name alone", (name) => {
    expect(readTags({ [name]: "word-that-looks-like-nothing" }, { bodyTags: {} })).toEqual({});
  });

  it("(named in a list or in JSON) is none either; what only sounds like one stays", () => {
    expect(
      readTags(
        { "x-keymeter-tags": "api-key=abc,team=core", "x-portkey-metadata": '{"_token":"abc","apiKey":"x"}' },
        { bodyTags: { password: "abc", feature: "search" } },
      ),
    ).toEqual({ team: "core", feature: "search" });
    const names = { monkey: "yes", keyboard: "qwerty", tokenizer: "bpe", risk: "risk-assessment-of-a-pipeline" };
    expect(readTags({}, { bodyTags: names })).toEqual(names);
  });

  it("goes neither into the books nor to the provider", async () => {
    const before = (await bench.running.events()).length;
    const headers = {
      "x-portkey-api-key": bench.secret,
      "helicone-auth": `Bearer ${bench.secret}`,
      "x-keymeter-key": bench.secret,
      "helicone-property-session": bench.secret,
      "x-keymeter-feature": "kept",
    };
    expect((await ask({ ...bearer(bench.secret), ...headers })).status).toBe(200);
    await expect.poll(async () => (await bench.running.events()).length).toBe(before + 1);
    expect((await bench.running.events()).at(-1)?.tags).toEqual({ feature: "kept" });
    expect(JSON.stringify(bench.provider.journal.map(({ rawHeaders }) => rawHeaders))).not.toContain(bench.secret);
  });
});

describe("fault 26: a text that a spreadsheet would run", () => {
  const FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "=cmd|' /C calc'!A0",
    "＝1+1",
    "＋1",
    "－1",
    "＠SUM(A1)",
    "|x",
    "%x",
  ];
  const IN_FRONT = [
    "",
    " ",
    "   ",
    "\t",
    "\r",
    "\n",
    "\r\n",
    "\u00a0",
    "\u3000",
    "\u2003",
    "\ufeff",
    "\u200b",
    "\u202e",
    "\u0000",
  ];

  it("is text in every CSV, whatever stands in front of its sign", () => {
    for (const front of IN_FRONT)
      for (const formula of FORMULAS) {
        const made = csvText(front + formula);
        expect(made.startsWith("'"), JSON.stringify(front + formula)).toBe(true);
        expect(made.endsWith(formula)).toBe(true);
      }
    // A tab or a return is taken away by some before they look.
    expect(csvText("\tplain").startsWith("'")).toBe(true);
  });

  it("is left alone where it is none, and has no marks that turn its direction", () => {
    for (const plain of ["", "search", "a=b", "gpt-4o-mini", " a", "1-1", "日本＝語", "ann@example.com", "'quoted"])
      expect(csvText(plain)).toBe(plain);
    expect(csvText("invoice\u202exslx.exe")).toBe("invoicexslx.exe");
    expect(csvText("\u2066\u061ca\u200fb\u2069")).toBe("ab");
  });

  it("in a download of a page is one cell, and what is read back is shown as it was", () => {
    const texts = ["  =1+1", "＝1+1", 'a"b,c\nd', "plain"];
    const csv = toCsv({
      name: "teams",
      columns: [{ title: "Team", field: "team", is: "text" }],
      rows: texts.map((text) => [{ is: "text", text }]),
    } as unknown as Parameters<typeof toCsv>[0]);
    expect(parse(csv)).toEqual([["team"], ["'  =1+1"], ["'＝1+1"], ['a"b,c\nd'], ["plain"]]);
    expect(parse(stringify([[csvText("a\r\nb")]]))).toEqual([["a\r\nb"]]);
  });
});

describe("fault 26: a text that a terminal would obey", () => {
  const ODD = [
    "\u001b[31mred\u001b[0m",
    "\u001b]0;title\u0007",
    "\u009b2J",
    "a\rb",
    "a\nb",
    "a\bb",
    "\u202egnp.txt",
    "\u2066x\u2069",
    "\u200b",
    "\u061c",
    "a\u2028b",
    "\ufeff",
    "\u007f",
  ];
  // oxlint-disable-next-line no-control-regex -- these are what must not be there
  const OBEYED = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/;

  it("is shown with question marks in the place of what moves the cursor or turns the line", () => {
    for (const text of ODD) expect(printable(text), JSON.stringify(text)).not.toMatch(OBEYED);
    expect(printable("Zoë's 日本語 team, 5 €")).toBe("Zoë's 日本語 team, 5 €");
  });

  it("moves nothing in a table: each row is one line, and all have the same columns", () => {
    const lines = formatTable(["team", "cost USD"], [...ODD.map((text) => [text, "1.00"]), ["plain", "20.00"]]).split(
      "\n",
    );
    expect(lines.length).toBe(ODD.length + 3);
    for (const line of lines) expect(line).not.toMatch(OBEYED);
    expect(new Set(lines.slice(1).map((line) => line.length)).size).toBe(1);
  });
});
