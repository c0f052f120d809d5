// What somebody can tell the collector to do to billing.db: close a day, import a file, dismiss a leak, plan an event.
// The admin routes and the command end here, both.
import { randomBytes } from "node:crypto";
import type { FastifyError, FastifyInstance } from "fastify";
import { z } from "zod";
import type { Adjustment } from "../ledger/usage/adjustments.ts";
import { readBillDays, replaceBills } from "../ledger/billing/bills.ts";
import { ChangeRefused } from "../ledger/usage/change-refused.ts";
import { findClosed } from "../ledger/billing/closed-days.ts";
import { FORECAST_SCOPES } from "../ledger/billing/forecasts.ts";
import { dismissLeak } from "../ledger/billing/leaks.ts";
import { formatUsd } from "../ledger/money.ts";
import { addPlan, removePlan } from "../ledger/billing/plans.ts";
import type { PriceBook } from "../ledger/prices/price-book.ts";
import { firstMeteredDay } from "../ledger/usage/meter-hours.ts";
import type { ForecastScope } from "../ledger/usage/hours.ts";
import { addDays, utcDay } from "../ledger/windows.ts";
import { actorOf, holderOf, namedHolderOf, requireRole } from "../service/admin-routes.ts";
import type { Access } from "../service/admin-routes.ts";
import { refreshBilledHours } from "./before.ts";
import { closeBilledDay, compareDays, whyOpen } from "./compare.ts";
import { readBillFile } from "./importers/file.ts";
import { ImportError } from "./importers/importer.ts";
import { actOnLeak, LEAK_STEPS } from "./leak/playbook.ts";
import type { LeakContext, LeakTask } from "./leak/playbook.ts";
import { changeRotation } from "./rotation/change.ts";
import type { RotationTask } from "./rotation/change.ts";
import type { InTurn } from "./turn.ts";

export type Task =
  | { readonly type: "close"; readonly day: string; readonly provider?: string | undefined; readonly by: string }
  | {
      readonly type: "plan";
      readonly scope: ForecastScope["scope"];
      readonly scopeId: string;
      readonly fromMs: number;
      readonly toMs: number;
      readonly factor: number;
      readonly why: string;
      readonly by: string;
    }
  | { readonly type: "unplan"; readonly id: string }
  | RotationTask
  | LeakTask
  | { readonly type: "dismiss"; readonly provider: string; readonly billedKey: string; readonly why: string }
  | { readonly type: "import"; readonly name: string; readonly bytes: Buffer; readonly isForced: boolean };

export type TaskContext = LeakContext & {
  readonly prices: PriceBook;
  /** Sends corrections to whoever owns the books of usage. */
  readonly adjust: (list: Adjustment[]) => Promise<void>;
  readonly now: () => number;
};

/** As large as a file may be: it is read whole. */
const MOST_FILE_BYTES = 128 * 1024 * 1024;
/** Somebody who closes by hand need not wait for the bill to stand still, only for it to be whole. */
const BY_HAND = { afterDays: 0, quietMs: 0 };

/** Does it. Returns what was done, a sentence each. Rejects with ChangeRefused or ImportError for what cannot be
 *  done. */
export async function perform(context: TaskContext, task: Task): Promise<string[]> {
  const { books, prices, stated, adjust, now } = context;
  switch (task.type) {
    case "close": {
      const today = utcDay(now());
      if (task.day >= today)
        throw new ChangeRefused(`${task.day} is not over yet (days are UTC days); it cannot be closed`);
      const days = await readBillDays(books.billing, task.day, addDays(task.day, 1), task.provider);
      if (days.length === 0)
        throw new ChangeRefused(
          `no bill${task.provider === undefined ? "" : ` of ${task.provider}`} has been read for ${task.day}; set a billing key, or import a file with \`keymeter import\``,
        );
      const open = [];
      for (const one of days) if (!(await findClosed(books.billing, one.provider, one.day))) open.push(one);
      if (open.length === 0)
        throw new ChangeRefused(`${task.day} is closed already; what changed since is a correction`);
      for (const day of open) {
        const why = whyOpen(day, BY_HAND, await firstMeteredDay(books.usage, now()), now());
        if (why !== undefined) throw new ChangeRefused(why);
      }
      const said: string[] = [];
      for (const day of open) {
        const why = await closeBilledDay(books, day, task.by, stated, adjust, now());
        if (why !== undefined)
          throw new ChangeRefused(`${day.day} of ${day.provider} cannot be closed: ${why}; try again`);
        said.push(`${day.day} of ${day.provider} is closed at ${formatUsd(day.amountNanoUsd)}.`);
      }
      return said;
    }
    case "rotate":
    case "accept":
    case "rotateBack":
    case "rotateDone":
      return changeRotation(books, task, now());
    case "leak":
      return actOnLeak(context, task, now());
    case "dismiss":
      await dismissLeak(books.billing, task.provider, task.billedKey, task.why, now());
      return [
        `Use of ${task.billedKey} up to now is no leak: ${task.why}. What comes after this hour is looked at again.`,
      ];
    case "plan": {
      const { type: _type, by, ...rest } = task;
      if (task.toMs <= task.fromMs) throw new ChangeRefused("a planned event ends after it begins");
      if (task.toMs <= now()) throw new ChangeRefused("the planned event is over already: it would change nothing");
      const id = `plan_${randomBytes(5).toString("hex")}`;
      await addPlan(books.billing, { ...rest, id, madeBy: by, madeAtMs: now() });
      return [
        `${id}: from ${iso(task.fromMs)} to ${iso(task.toMs)} UTC ${task.scope === "org" ? "the organisation" : `${task.scope} ${task.scopeId}`} is expected to spend ${task.factor} times as much: ${task.why}.`,
      ];
    }
    case "unplan":
      await removePlan(books.billing, task.id, now());
      return [`${task.id} is planned no more.`];
    case "import": {
      const bills = await readBillFile(task.name, task.bytes);
      const { changed, kept } = await replaceBills(books.billing, bills, now(), task);
      await refreshBilledHours(books, prices, stated.providers, now());
      const days = bills.map(({ day }) => day).toSorted();
      const [first, last] = [days[0], days.at(-1)];
      const asked = new Set<string>();
      for (const day of new Set(changed))
        for (const { provider, questions } of await compareDays(books, day, addDays(day, 1), stated, now()))
          for (const question of questions) asked.add(`${provider}: ${question}`);
      const lines = bills.reduce((sum, bill) => sum + bill.lines.length, 0);
      const providers = [...new Set(bills.map(({ provider }) => provider))].join(", ");
      return [
        `${task.name}: ${lines} lines of ${providers || "no provider that is metered"}, ${first ?? "no day"} to ${last ?? "none"}; ${changed.length} of ${bills.length} days changed.`,
        ...(kept.length === 0
          ? []
          : [
              `Not taken, because a fuller bill is there (the provider's own API before a file, a later export before an earlier one; --replace takes these all the same): ${[...new Set(kept)].toSorted().join(", ")}.`,
            ]),
        ...asked,
      ];
    }
  }
}

function iso(ms: number): string {
  return new Date(ms).toISOString().slice(0, 16).replace("T", " ");
}

const day = z.iso.date();
const text = z.string().min(1, "must not be empty").max(300);
const routed = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("close"),
    day,
    provider: text.optional().transform((value) => value),
    by: text,
  }),
  z.strictObject({
    type: z.literal("plan"),
    scope: z.enum(FORECAST_SCOPES),
    scopeId: text,
    fromMs: z.number().int(),
    toMs: z.number().int(),
    factor: z.number().positive().max(1000),
    why: text,
    by: text,
  }),
  z.strictObject({ type: z.literal("unplan"), id: text }),
  z.strictObject({ type: z.literal("rotate"), place: text, by: text, why: z.string().max(300), isLeaked: z.boolean() }),
  z.strictObject({
    type: z.literal("accept"),
    place: text,
    by: text,
    hint: text,
    print: z.string().regex(/^[0-9a-f]{16}$/),
    isLeaked: z.boolean(),
  }),
  z.strictObject({
    type: z.literal("leak"),
    provider: text,
    billedKey: text,
    by: text,
    without: z.array(z.enum(LEAK_STEPS)),
  }),
  z.strictObject({ type: z.enum(["rotateBack", "rotateDone"]), place: text, by: text }),
  z.strictObject({ type: z.literal("dismiss"), provider: text, billedKey: text, why: text }),
]);

/** What finance does beside an admin: bills, and what is expected. */
const OF_FINANCE: ReadonlySet<Task["type"]> = new Set(["close", "plan", "unplan", "import"]);

/** The same over HTTP, for holders of the admin token or of a named one whose role allows it, in turn with the collector's own
 *  jobs. Who asks is known before a body is read. */
export async function addTaskRoutes(
  app: FastifyInstance,
  context: TaskContext,
  access: Access,
  inTurn: InTurn,
): Promise<void> {
  await app.register(async (routes) => {
    routes.addHook("onRequest", requireRole(access, ["finance", "admin"]));
    routes.addContentTypeParser(
      "application/octet-stream",
      { parseAs: "buffer", bodyLimit: MOST_FILE_BYTES },
      (_request, body, done) => done(null, body),
    );
    routes.setErrorHandler<FastifyError>(async (error, _request, reply) => {
      const isExpected = error instanceof ChangeRefused || error instanceof ImportError;
      return reply.code(isExpected ? 409 : (error.statusCode ?? 500)).send({ error: error.message });
    });
    routes.post("/admin/tasks", async (request, reply) => {
      const parsed = routed.safeParse(request.body);
      if (!parsed.success)
        return reply
          .code(400)
          .send({ error: parsed.error.issues.map((one) => `${one.path.join(".")}: ${one.message}`).join("; ") });
      const { name, role } = holderOf(request);
      if (role !== "admin" && !OF_FINANCE.has(parsed.data.type))
        return reply.code(403).send({ error: `${name} may not do that: it takes the role admin` });
      // Who signs is who asks; a program of this machine says for whom.
      const by = namedHolderOf(request) ? actorOf(request) : undefined;
      const task = by !== undefined && "by" in parsed.data ? { ...parsed.data, by } : parsed.data;
      return { said: await inTurn(() => perform(context, task)) };
    });
    routes.post<{ Querystring: { name?: string; replace?: string } }>(
      "/admin/import",
      { bodyLimit: MOST_FILE_BYTES },
      async ({ body, query }, reply) => {
        if (!Buffer.isBuffer(body))
          return reply.code(400).send({ error: "send the file's bytes as application/octet-stream" });
        return {
          said: await inTurn(() =>
            perform(context, {
              type: "import",
              name: query.name ?? "the file",
              bytes: body,
              isForced: query.replace === "1",
            }),
          ),
        };
      },
    );
  });
}
