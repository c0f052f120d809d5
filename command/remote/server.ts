// Verbs that are asked from elsewhere: on the collector's listener, for holders of a token. Who may not ask a verb is refused before
// anything runs.
import { Readable } from "node:stream";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { OfferedCommand } from "../../collector/main.ts";
import type { Holder } from "../../ledger/usage/tokens.ts";
import { holderOf, requireRole } from "../../service/admin-routes.ts";
import type { Environment } from "../../service/settings.ts";
import { VERBS } from "../verbs.ts";
import { MOST_FILE_BYTES, rolesFor } from "./rules.ts";
import type { Line } from "./rules.ts";
import { runVerb, sweepFolders } from "./run-verb.ts";

/** A question with a bill in it, as base64; without one. */
const MOST_BYTES = Math.ceil(MOST_FILE_BYTES * 1.4);
const USUAL_BYTES = 1024 * 1024;
const MOST_ARGS = 200;
/** Each is a process with books open. Those of the pages are counted apart: somebody may have to pause a key. */
const MOST_AT_ONCE = 4;
const MOST_OF_ONE = 2;
const BUSY = "as many commands run already as run at once: try again in a moment";
/** An answer that nobody takes on for so long is given up. */
const STALLED_MS = 30_000;
const END_MS = 6_000;

const base64 = z.string().regex(/^[A-Za-z0-9+/]*={0,2}$/, "is no base64");
const question = z.strictObject({
  args: z
    .array(
      z
        .string()
        .max(10_000)
        .regex(/^[^\0]*$/, "holds a zero byte"),
    )
    .min(1, "which verb?")
    .max(MOST_ARGS),
  files: z.record(z.string().regex(/^\w[\w.-]{0,99}$/, "a plain name of a file"), base64),
  input: base64.optional(),
});

/** The command as the collector offers it to others: over HTTP, and to its own pages. */
export function offerCommand(environment: Environment): OfferedCommand {
  sweepFolders(environment);
  const stopping = new AbortController();
  /** Who asks over HTTP now, once a question. */
  const asking: string[] = [];
  const running = new Set<Promise<unknown>>();
  let ofPages = 0;

  /** Notes it as running until it is over. */
  async function* noted(lines: AsyncGenerator<string>): AsyncGenerator<string> {
    let over = (): void => {};
    const done = new Promise<void>((resolve) => (over = resolve));
    running.add(done);
    try {
      yield* lines;
    } finally {
      running.delete(done);
      over();
    }
  }

  /** Before a body is read: it may be large. */
  const takeSlot = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    const { name } = holderOf(request);
    if (asking.length >= MOST_AT_ONCE || asking.filter((one) => one === name).length >= MOST_OF_ONE)
      return void (await reply.code(429).header("retry-after", "5").send({ error: BUSY }));
    asking.push(name);
    reply.raw.once("close", () => asking.splice(asking.indexOf(name), 1));
  };

  return {
    whyNot,
    async run(asker, words) {
      if (ofPages >= MOST_AT_ONCE) return { code: 1, out: "", err: `${BUSY}\n` };
      ofPages += 1;
      const said = { code: 1, out: "", err: "" };
      try {
        for await (const text of noted(runVerb({ args: words, files: {} }, asker, environment, stopping.signal))) {
          const line = JSON.parse(text) as Line;
          if ("code" in line) said.code = line.code;
          else if ("out" in line) said.out += Buffer.from(line.out, "base64").toString();
          else if ("err" in line) said.err += Buffer.from(line.err, "base64").toString();
        }
      } finally {
        ofPages -= 1;
      }
      return said;
    },
    addRoutes(app, access, passFor) {
      const anybody = requireRole(access);
      app.get("/command/me", { onRequest: anybody }, (request) => holderOf(request));
      const hooks = { onRequest: [anybody, refuseLarge, takeSlot], bodyLimit: MOST_BYTES };
      app.post("/command", hooks, async (request, reply) => {
        const parsed = question.safeParse(request.body);
        if (!parsed.success)
          return reply
            .code(400)
            .send({ error: parsed.error.issues.map((one) => `${one.path.join(".")}: ${one.message}`).join("; ") });
        const holder = holderOf(request);
        const why = whyNot(holder, parsed.data.args);
        if (why !== undefined) return reply.code(403).send({ error: why });
        const left = new AbortController();
        reply.raw.once("close", () => left.abort());
        const signal = AbortSignal.any([left.signal, stopping.signal]);
        const lines = noted(runVerb(parsed.data, { holder, pass: passFor(holder) }, environment, signal));
        return reply
          .type("application/x-ndjson; charset=utf-8")
          .header("cache-control", "no-store")
          .send(Readable.from(whileTaken(lines, () => reply.raw.destroy())));
      });
    },
    async close() {
      stopping.abort();
      await Promise.race([Promise.all(running), new Promise((resolve) => setTimeout(resolve, END_MS).unref())]);
    },
  };
}

/** The lines, as long as somebody takes them. */
async function* whileTaken(lines: AsyncGenerator<string>, giveUp: () => void): AsyncGenerator<string> {
  for await (const line of lines) {
    const timer = setTimeout(giveUp, STALLED_MS);
    try {
      yield line;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Who may send no bill sends nothing large. */
async function refuseLarge(request: FastifyRequest): Promise<void> {
  const length = Number(request.headers["content-length"] ?? Infinity);
  if (length <= USUAL_BYTES || (rolesFor("import") ?? []).includes(holderOf(request).role)) return;
  throw Object.assign(new Error(`a question has at most ${USUAL_BYTES} bytes, and says how many it has`), {
    statusCode: 413,
  });
}

function whyNot({ name, role }: Holder, [verb = "", word]: readonly string[]): string | undefined {
  const roles = rolesFor(verb, word);
  if (!Object.hasOwn(VERBS, verb)) return `there is no verb "${verb}" in this version of Keymeter`;
  if (!roles) return `\`keymeter ${verb}${word === undefined ? "" : ` ${word}`}\` runs on its own machine only`;
  if (roles.includes(role)) return undefined;
  return `${name} may not do that: it takes the role ${roles.join(" or ")}, and this one is ${role}`;
}
