// The admin API: keys and budgets, on the operations listener, for holders of the admin token. Each change is one
// transaction with its audit record. `keymeter keys|budgets` speak to this, or call the same functions without a proxy.
import type { FastifyInstance } from "fastify";
import { z } from "zod";
import { covers } from "../ledger/budgets.ts";
import type { Subject } from "../ledger/budgets.ts";
import type { Change } from "../ledger/usage/changes.ts";
import { cleanName } from "../ledger/usage/people.ts";
import { keyPolicy } from "../ledger/usage/key-policy.ts";
import { ChangeRefused } from "../ledger/usage/change-refused.ts";
import { LedgerUnavailable } from "../ledger/usage/writer.ts";
import type { Writer } from "../ledger/usage/writer.ts";
import { requireToken } from "../service/admin-routes.ts";
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
  id: text,
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
  id: text,
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
  id: text,
  budgetId: z.string().max(3_000),
  amountNanoUsd: nanoUsd.refine((amount) => amount > 0n, "more than nothing"),
  reason: text.min(1),
  createdAtMs: instant,
  untilMs: instant,
});
const freeze = z.strictObject({ id: text, scope, reason: text.min(1), createdAtMs: instant });
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
const single = [
  z.strictObject({ type: z.literal("createKey"), key, digest, budget: budget.optional() }),
  z.strictObject({ type: z.literal("setKeyState"), keyId: text, state: z.enum(["active", "paused", "revoked"]) }),
  z.strictObject({ type: z.literal("rotateKey"), keyId: text, digest, hint: text, graceUntilMs: instant }),
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
  z.strictObject({ type: z.literal("freeze"), freeze }),
  z.strictObject({ type: z.literal("lift"), freezeId: text }),
  z.strictObject({ type: z.literal("adjust"), adjustments: z.array(adjustment).max(MOST_ADJUSTMENTS) }),
] as const;
const change = z.discriminatedUnion("type", [
  ...single,
  z.strictObject({
    type: z.literal("together"),
    changes: z.array(z.discriminatedUnion("type", [...single])).max(MOST_TOGETHER),
  }),
]);

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
  const authorized = requireToken(config.adminToken);

  app.post("/admin/changes", { onRequest: authorized }, async (request, reply) => {
    const parsed = change.safeParse(request.body);
    if (!parsed.success)
      return reply
        .code(400)
        .send({ error: parsed.error.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`).join("; ") });
    try {
      await writer.change(
        await withUsers(parsed.data, (name) => writer.personOf(name)),
        actorOf(request.headers["x-keymeter-actor"]),
      );
      await register.reload();
      await people.reload();
      await work.reload();
      return { ok: true };
    } catch (error) {
      if (error instanceof ChangeRefused) return reply.code(409).send({ error: error.message });
      if (error instanceof LedgerUnavailable)
        return reply.code(503).send({ error: `the ledger cannot be written: ${error.message}` });
      throw error;
    }
  });

  app.post("/admin/cut", { onRequest: authorized }, async (request, reply) => {
    const parsed = scope.safeParse(request.body);
    if (!parsed.success) return reply.code(400).send({ error: 'a scope such as {"team":"search"}' });
    return { cut: cut((subject) => covers(parsed.data, subject)) };
  });

  app.get("/admin/budgets", { onRequest: authorized }, async () => {
    const states = await writer.states();
    return JSON.parse(toJson({ states })) as unknown;
  });

  app.get<{ Querystring: { spend?: string } }>("/admin/check", { onRequest: authorized }, async ({ query }) => ({
    findings: await checkCredentials(config, query.spend === "1"),
  }));

  app.get("/admin/unmetered", { onRequest: authorized }, () => ({ unmetered: unmetered.list() }));

  app.get("/admin/verify", { onRequest: authorized }, async () => {
    const { differences, reservedNanoUsd } = await writer.verify();
    return { differences, reservedNanoUsd: reservedNanoUsd.toString() };
  });
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

/** Who asked, for the audit: the holder of the admin token, and for whom, where a program says so. */
function actorOf(given: string | string[] | undefined): string {
  return typeof given === "string" && /^[\x21-\x7e]{1,100}$/.test(given) ? `admin-api:${given}` : "admin-api";
}
