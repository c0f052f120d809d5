// The admin API: keys and budgets, on the operations listener, for holders of the admin token, or of a named one as far as its
// role goes. Each change is one transaction with its audit record. `keymeter keys|budgets` speak to this, or call the same
// functions without a proxy.
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { covers } from "../ledger/budgets.ts";
import type { Subject } from "../ledger/budgets.ts";
import type { Change } from "../ledger/usage/changes.ts";
import { cleanName } from "../ledger/usage/people.ts";
import { createDigest, isWellFormedVirtualKey, reissueSecret } from "../ledger/usage/keys.ts";
import { ROLES } from "../ledger/usage/tokens.ts";
import { keyPolicy } from "../ledger/usage/key-policy.ts";
import { ChangeRefused, NotAllowed } from "../ledger/usage/change-refused.ts";
import { LedgerUnavailable } from "../ledger/usage/writer.ts";
import type { Writer } from "../ledger/usage/writer.ts";
import { actorOf, createAccess, holderOf, namedHolderOf, requireRole, SEE_ALL } from "../service/admin-routes.ts";
import { toJson } from "../service/json.ts";
import { checkCredentials } from "./check.ts";
import type { ProxyConfig } from "./config.ts";
import type { People } from "./people.ts";
import type { Register } from "./register.ts";
import type { Unmetered } from "./unmetered.ts";
import type { Work } from "./work.ts";

/** As many corrections are one transaction. */
const MOST_ADJUSTMENTS = 500;
const MOST_TOGETHER = 2_000;

/** Changes as they travel: bigint as a string of digits. */
const nanoUsd = z
  .string()
  .regex(/^\d{1,18}$/, "nano-USD as 1 to 18 digits")
  .transform(BigInt);
/** Names are printed, in tables and in headers. */
const text = z
  .string()
  .max(200)
  .regex(/^\P{Cc}*$/u, "holds a control character, such as a tab or a line's end");
/** An instant that a Date can hold. */
const instant = z.number().int().min(0).max(8_640_000_000_000_000);
const userId = z.string().regex(/^user_[a-z0-9]{1,40}$/, "the id of a user");
/** An id, which stands among words of the command and in addresses. */
const id = z.string().regex(/^[A-Za-z][\w-]{0,63}$/, "an id of letters, digits, _ and -, which begins with a letter");
const scope = z.strictObject({
  team: text.optional(),
  project: text.optional(),
  env: text.optional(),
  user: userId.optional(),
  keyId: text.optional(),
  provider: text.optional(),
  model: text.optional(),
  tag: z
    .string()
    .regex(/^[a-z0-9][a-z0-9_.-]{0,63}=\P{Cc}{1,256}$/u, "a tag such as customer=acme")
    .optional(),
});
const budget = z.strictObject({
  id,
  scope,
  each: z
    .union([z.enum(["user", "key"]), z.templateLiteral(["tag:", z.string().regex(/^[a-z0-9][a-z0-9_.-]{0,63}$/)])])
    .optional(),
  window: z.enum(["hour", "day", "week", "month", "quarter", "total"]),
  amountNanoUsd: nanoUsd,
  kind: z.enum(["soft", "hard"]),
  mode: z.enum(["strict", "expected"]),
  observe: z.literal(true).optional(),
  thresholds: z.array(z.number().int().min(1).max(1000)).min(1).max(10).optional(),
  createdAtMs: instant,
});
const key = z.strictObject({
  id,
  kind: z.literal("virtual"),
  provider: z
    .undefined()
    .optional()
    .transform(() => undefined),
  name: text.min(1),
  team: text,
  project: text,
  env: text,
  user: userId.or(z.literal("")).optional(),
  /** Of scripts of the release before: the name of a user. */
  owner: text.optional(),
  state: z.literal("active"),
  hint: text,
  createdAtMs: instant,
  expiresAtMs: instant.optional().transform((value) => value),
  purpose: text,
  policy: keyPolicy,
});
const most = z
  .number()
  .int()
  .positive()
  .optional()
  .transform((value) => value);
const limits = z.strictObject({
  scope: z
    .string()
    .regex(/^(org|key:\S{1,64}|user:user_[a-z0-9]{1,40}|team:.{1,200})$/, "org, key:ID, user:ID or team:NAME"),
  requestsPerMinute: most,
  tokensPerMinute: most,
  concurrent: most,
  bodyBytes: most,
  seatTokensPer5Hours: most,
  seatTokensPerWeek: most,
});
const seat = z.strictObject({
  scope: z.string().regex(/^(key:\S{1,64}|user:user_[a-z0-9]{1,40})$/, "key:ID or user:ID"),
  month: z.string().regex(/^\d{4}-(0[1-9]|1[0-2])$/, "such as 2026-11"),
  priceNanoUsd: nanoUsd,
});
const raise = z.strictObject({
  id,
  budgetId: z.string().max(3_000),
  amountNanoUsd: nanoUsd.refine((amount) => amount > 0n, "more than nothing"),
  reason: text.min(1),
  createdAtMs: instant,
  untilMs: instant,
});
const freeze = z.strictObject({ id, scope, reason: text.min(1), createdAtMs: instant });
const adjustment = z.strictObject({
  source: z.enum(["reprice", "bill"]),
  sourceId: text,
  attemptId: z.number().int().positive(),
  /** Not more than a million USD each: their sum has to be a number too. */
  amountNanoUsd: z
    .string()
    .regex(/^-?\d{1,15}$/)
    .transform(BigInt),
  unpriced: z.number().int().min(-1).max(1),
  inferred: z.number().int().min(-1).max(1),
  detail: text,
});
const attempt = z.number().int().min(0);
const owner = z.strictObject({ team: text.optional(), project: text.optional(), env: text.optional() });
const names = z.array(text).max(1_000).optional();
const owners = z.strictObject({ team: names, project: names, env: names });
const digest = z.string().regex(/^[0-9a-f]{64}$/);
/** The digest of a secret, or the secret itself, which the proxy digests. */
const ofSecret = {
  digest: digest.or(z.literal("")).default(""),
  secret: z.string().refine(isWellFormedVirtualKey, "a key of Keymeter's").optional(),
};
const token = z.strictObject({
  id: z.string().regex(/^tok_[0-9A-Za-z]{10}$/),
  name: z.string().regex(/^[\x21-\x7e]{1,60}$/, "a name of 1 to 60 plain characters, without spaces"),
  role: z.enum(ROLES),
  team: text.min(1).optional(),
  createdAtMs: instant,
  expiresAtMs: instant.optional().transform((value) => value),
});
const single = [
  z.strictObject({ type: z.literal("createKey"), key, ...ofSecret, budget: budget.optional() }),
  z.strictObject({ type: z.literal("setKeyState"), keyId: text, state: z.enum(["active", "paused", "revoked"]) }),
  z.strictObject({ type: z.literal("rotateKey"), keyId: text, ...ofSecret, hint: text, graceUntilMs: instant }),
  z.strictObject({ type: z.literal("endOldSecrets"), keyId: text, untilMs: instant }),
  z.strictObject({
    type: z.literal("describeKey"),
    keyId: text,
    fields: z.strictObject({
      name: text.optional(),
      team: text.optional(),
      project: text.optional(),
      env: text.optional(),
      user: userId.or(z.literal("")).optional(),
      owner: text.optional(),
      purpose: text.optional(),
    }),
  }),
  z.strictObject({ type: z.literal("nameUser"), userId, name: text.min(1) }),
  z.strictObject({ type: z.literal("forgetUser"), userId }),
  z.strictObject({ type: z.literal("setBudget"), budget }),
  z.strictObject({ type: z.literal("removeBudget"), budgetId: text }),
  z.strictObject({ type: z.literal("raiseBudget"), raise }),
  z.strictObject({ type: z.literal("endRaise"), raiseId: text }),
  z.strictObject({ type: z.literal("answerAsk"), askId: text, answer: z.enum(["approved", "refused"]) }),
  z.strictObject({
    type: z.literal("rotateCredential"),
    rotationId: text,
    step: z.number().int().positive(),
    place: text,
    state: text,
    said: z.string().max(2_000),
  }),
  z.strictObject({ type: z.literal("closeWork"), workId: text }),
  z.strictObject({ type: z.literal("acceptClock") }),
  z.strictObject({
    type: z.literal("reassign"),
    keyId: text,
    first: attempt,
    end: attempt,
    from: owners,
    to: owner,
    current: owner,
  }),
  z.strictObject({ type: z.literal("setPolicy"), keyId: text, policy: keyPolicy }),
  z.strictObject({ type: z.literal("setLimits"), limits }),
  z.strictObject({ type: z.literal("removeLimits"), scope: text }),
  z.strictObject({ type: z.literal("setSeatPrice"), seat }),
  z.strictObject({ type: z.literal("createToken"), token, digest }),
  z.strictObject({ type: z.literal("revokeToken"), tokenId: text }),
  z.strictObject({ type: z.literal("freeze"), freeze }),
  z.strictObject({ type: z.literal("lift"), freezeId: text }),
  z.strictObject({
    type: z.literal("expire"),
    firstAttemptId: z.number().int().nonnegative(),
    events: z.number().int().nonnegative(),
    file: text,
    sha256: digest,
  }),
  z.strictObject({ type: z.literal("adjust"), adjustments: z.array(adjustment).max(MOST_ADJUSTMENTS) }),
] as const;
const change = z.discriminatedUnion("type", [
  ...single,
  z.strictObject({
    type: z.literal("together"),
    changes: z.array(z.discriminatedUnion("type", [...single])).max(MOST_TOGETHER),
  }),
]);

const reissuing = z.strictObject({ graceUntilMs: instant });

export function addAdminRoutes(
  app: FastifyInstance,
  {
    writer,
    register,
    people,
    work,
    unmetered,
    cut,
    config,
  }: {
    writer: Writer;
    register: Register;
    people: People;
    work: Work;
    unmetered: Unmetered;
    /** Ends what goes on now for the subjects that the test takes. */
    cut: (test: (subject: Subject) => boolean) => number;
    config: ProxyConfig;
  },
): void {
  const access = createAccess(config.adminToken, register.tokens);
  const [anybody, seeing, admins] = [requireRole(access), requireRole(access, SEE_ALL), requireRole(access, ["admin"])];
  const digestOf = createDigest(config.pepper.reveal());
  const makeChange = async (made: Change, request: FastifyRequest): Promise<void> => {
    await writer.change(made, actorOf(request), namedHolderOf(request));
    await register.reload();
    await people.reload();
    await work.reload();
  };

  app.post("/admin/changes", { onRequest: anybody }, async (request, reply) => {
    const parsed = change.safeParse(request.body);
    if (!parsed.success)
      return reply
        .code(400)
        .send({ error: parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ") });
    // Scripts of the release before have the admin token; looking an owner up makes him.
    if (namedHolderOf(request) && JSON.stringify(request.body).includes('"owner"'))
      return reply.code(400).send({ error: "say user, by id: owner is of scripts of the release before" });
    return answerChange(reply, async () => {
      const made = await withUsers(withDigests(parsed.data, digestOf), (name) => writer.personOf(name));
      await makeChange(made, request);
      return { ok: true };
    });
  });

  /** Another secret for a key; it is in this one answer and nowhere else. */
  app.post<{ Params: { id: string } }>("/admin/keys/:id/rotate", { onRequest: anybody }, async (request, reply) => {
    const parsed = reissuing.safeParse(request.body);
    if (!parsed.success)
      return reply
        .code(400)
        .send({ error: "graceUntilMs: until when the old secret works, in milliseconds since 1970" });
    const { id: keyId } = request.params;
    const key = register.list().find((one) => one.id === keyId);
    if (!key) return reply.code(409).send({ error: `there is no key ${keyId}` });
    const secret = reissueSecret(key.env);
    const [digest, hint] = [digestOf(secret), secret.slice(-4)];
    const made = { type: "rotateKey", keyId, digest, hint, ...parsed.data } as const;
    return answerChange(reply, async () => {
      await makeChange(made, request);
      return { secret };
    });
  });

  app.post("/admin/cut", { onRequest: anybody }, async (request, reply) => {
    const parsed = scope.safeParse(request.body);
    if (!parsed.success) return reply.code(400).send({ error: 'a scope such as {"team":"search"}' });
    // Who may stop what is to come may end what goes on.
    const freeze = { id: "", scope: parsed.data, reason: "", createdAtMs: 0 };
    const why = await register.whyNot(holderOf(request), { type: "freeze", freeze });
    if (why !== undefined) return reply.code(403).send({ error: why });
    return { cut: cut((subject) => covers(parsed.data, subject)) };
  });

  app.get("/admin/budgets", { onRequest: seeing }, async () => {
    const states = await writer.states();
    return JSON.parse(toJson({ states })) as unknown;
  });

  app.get<{ Querystring: { spend?: string } }>("/admin/check", { onRequest: admins }, async ({ query }) => ({
    findings: await checkCredentials(config, query.spend === "1"),
  }));

  app.get("/admin/unmetered", { onRequest: seeing }, () => ({ unmetered: unmetered.list() }));

  app.get("/admin/verify", { onRequest: seeing }, async () => {
    const { differences, reservedNanoUsd } = await writer.verify();
    return { differences, reservedNanoUsd: reservedNanoUsd.toString() };
  });
}

async function answerChange(reply: FastifyReply, work: () => Promise<object>): Promise<unknown> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof NotAllowed) return reply.code(403).send({ error: error.message });
    if (error instanceof ChangeRefused) return reply.code(409).send({ error: error.message });
    if (error instanceof LedgerUnavailable)
      return reply.code(503).send({ error: `the ledger cannot be written: ${error.message}` });
    throw error;
  }
}

/** A secret that came with a change becomes its digest: who changes keys from elsewhere does not have the pepper. */
function withDigests(given: Given, digestOf: (secret: string) => string): Given {
  switch (given.type) {
    case "together":
      return { ...given, changes: given.changes.map((one) => withDigests(one, digestOf) as typeof one) };
    case "createKey":
    case "rotateKey": {
      const { secret, ...rest } = given;
      if (secret === undefined && rest.digest === "") throw new ChangeRefused("a key needs a secret, or its digest");
      return secret === undefined ? rest : { ...rest, digest: digestOf(secret) };
    }
    default:
      return given;
  }
}

type Given = z.infer<typeof change>;
type Owned = { readonly user?: string | undefined; readonly owner?: string | undefined };

/** The change with ids of users, where it names an owner as scripts of the release before do. */
async function withUsers(given: Given, personOf: (name: string) => Promise<string>): Promise<Change> {
  const named = async <T extends Owned>({ owner, ...rest }: T): Promise<Omit<T, "owner">> =>
    owner === undefined || rest.user !== undefined
      ? rest
      : { ...rest, user: cleanName(owner) === "" ? "" : await personOf(owner) };
  switch (given.type) {
    case "createKey": {
      const { user = "", ...key } = await named(given.key);
      return { ...given, key: { ...key, user } } as Change;
    }
    case "describeKey":
      return { ...given, fields: await named(given.fields) } as Change;
    case "together":
      return {
        type: "together",
        changes: await Promise.all(given.changes.map((one) => withUsers(one, personOf))),
      };
    default:
      return given as Change;
  }
}
