// The report pages over HTTP: who may read, which page, in which form. Every figure is read from the books as of the
// request.
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import cookie from "@fastify/cookie";
import formbody from "@fastify/formbody";
import helmet from "@fastify/helmet";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { html } from "ghtml";
import { addDays, isDay } from "../../ledger/windows.ts";
import { requireRole, SEE_ALL } from "../../service/admin-routes.ts";
import type { Access } from "../../service/admin-routes.ts";
import type { Log } from "../../service/log.ts";
import type { Secret } from "../../service/secret.ts";
import { streamFocus } from "../reports.ts";
import { FOCUS_VERSIONS } from "../focus.ts";
import { createTurn } from "../turn.ts";
import type { InTurn } from "../turn.ts";
import { findTokenHolder } from "../../ledger/usage/tokens.ts";
import type { Holder } from "../../ledger/usage/tokens.ts";
import { audit } from "./audit.ts";
import { changes } from "./changes.ts";
import { bill } from "./bill.ts";
import { bills } from "./bills.ts";
import { chargeback } from "./chargeback.ts";
import type { BuildPage, PageContext, PageSource, Query } from "./builder.ts";
import { toCsv, toPageJson } from "./downloads.ts";
import { toHtml } from "./html.ts";
import type { OfferedCommand } from "../offered-command.ts";
import { addFormRoutes } from "./forms/routes.ts";
import { addEntrance, signInHtml } from "./entrance.ts";
import { frameOf, lastOf, notice, onward } from "./replies.ts";
import { manage } from "./manage.ts";
import { homeOf, mayPage } from "./seen.ts";
import { key } from "./key.ts";
import { keys } from "./keys.ts";
import { models } from "./models.ts";
import { overview } from "./overview.ts";
import type { Page } from "./page.ts";
import { refused } from "./refused.ts";
import { createSignIn } from "./sign-in.ts";
import type { SignInSettings } from "./sign-in.ts";
import { createSessions, READER } from "./session.ts";
import { team, teams } from "./team.ts";
import { user, users } from "./users.ts";
import { repositories, repository, session } from "./work.ts";

const PAGES: ReadonlyMap<string, BuildPage> = new Map(
  Object.entries({
    overview,
    changes,
    teams,
    team,
    keys,
    key,
    users,
    user,
    session,
    repositories,
    repository,
    bills,
    bill,
    models,
    refused,
    chargeback,
    manage,
    audit,
  }),
);
const STYLE = readFileSync(new URL("style.css", import.meta.url), "utf8");
/** A FOCUS file of more days comes from `keymeter export focus`. */
const MOST_FOCUS_DAYS = 400;
/** Pages need nothing but their own style sheet: whatever a name may hold, it cannot run or load anything. */
const POLICY = {
  useDefaults: false,
  directives: {
    defaultSrc: ["'none'"],
    styleSrc: ["'self'"],
    imgSrc: ["data:"],
    formAction: ["'self'"],
    baseUri: ["'none'"],
    frameAncestors: ["'none'"],
  },
};

export type PageSettings = {
  readonly readToken: Secret;
  readonly adminToken: Secret;
  /** Whose a token is. */
  readonly access: Access;
  /** An identity provider at which readers may sign in. */
  readonly signIn?: SignInSettings | undefined;
  /** What changes something from a page; without it, none does. */
  readonly command?: OfferedCommand | undefined;
  /** Where readers find the pages. */
  readonly pagesUrl: string;
};

/** Pages that keep what they fold, in billing.db: one at a time with all else that is written there. */
const WRITING: ReadonlySet<string> = new Set(["chargeback"]);

/** Adds the pages; returns a maker of one-time links, each the address of a page that opens a session. `writeInTurn`:
 *  the turn of whoever writes billing.db. */
export async function addPages(
  app: FastifyInstance,
  context: () => PageSource,
  { readToken, adminToken, access, command, signIn, pagesUrl }: PageSettings,
  log: Log,
  writeInTurn: InTurn,
): Promise<() => string> {
  const sessions = createSessions({
    readToken,
    adminToken,
    access,
    findTokenHolder: (id) => findTokenHolder(context().books.usage, id, Date.now()),
    now: Date.now,
    isSecure: pagesUrl.startsWith("https:"),
  });
  const provider = signIn && createSignIn(signIn, pagesUrl, adminToken, Date.now);
  const askToSignIn = (reply: FastifyReply, status: number, why?: string): FastifyReply =>
    notice(reply, status, "Sign in", signInHtml(provider !== undefined, why));
  const makeLink = (): string => `${pagesUrl}/login?link=${sessions.makeLink()}`;
  /** What a page of somebody is built with. */
  const contextOf = (holder: Holder): PageContext => ({
    ...context(),
    holder,
    mayAsk: (verb, word) => command !== undefined && command.whyNot(holder, [verb, word]) === undefined,
  });
  const seers = new WeakMap<FastifyRequest, Holder>();
  const seerOf = (request: FastifyRequest): Holder => seers.get(request) ?? READER;
  // Pages are built one after the other: a page reads a lot, and somebody who asks for all of them at once must not
  // hold up the gauges.
  const inTurn = createTurn();

  await app.register(async (routes) => {
    // A link reads, whoever makes it: it stands in shells and logs.
    routes.addHook("onRequest", requireRole(access, SEE_ALL));
    routes.post("/admin/link", async () => ({ url: makeLink() }));
  });
  await app.register(async (routes) => {
    await routes.register(cookie);
    await routes.register(formbody);
    await routes.register(helmet, { contentSecurityPolicy: POLICY, hsts: false });
    routes.addHook("onSend", async (_request, reply) => {
      if (!reply.hasHeader("cache-control")) void reply.header("cache-control", "no-store");
    });
    routes.setErrorHandler<Error & { statusCode?: number }>(async (error, request, reply) => {
      const status = error.statusCode ?? 500;
      if (status < 500) return notice(reply, status, "That cannot be answered", html`<p>${error.message}</p>`);
      log.error({ page: request.routeOptions.url, why: error.message }, "a page could not be made");
      return notice(
        reply,
        500,
        "This page could not be made",
        html`<p>The collector's log says why. Nothing was changed; other pages may still open.</p>`,
      );
    });

    routes.get("/style.css", async (_request, reply) =>
      reply.type("text/css; charset=utf-8").header("cache-control", "max-age=300").send(STYLE),
    );
    addEntrance(routes, sessions, provider, askToSignIn, log);

    await routes.register(async (inside) => {
      inside.addHook("onRequest", async (request, reply) => {
        const holder = await sessions.holderOf(request);
        if (holder) return void seers.set(request, holder);
        // A strict cookie is not sent when a link on another site led here. The same address, asked for by this page,
        // brings it.
        const isLed = request.method === "GET" && request.headers["sec-fetch-site"] === "cross-site";
        await (isLed ? onward(reply, `/${request.url.replace(/^[/\\]+/, "")}`) : askToSignIn(reply, 401));
      });
      inside.get("/", async (request, reply) => reply.redirect(homeOf(seerOf(request))));
      inside.get<{ Querystring: { readonly [name: string]: unknown } }>("/focus.csv", async (request, reply) => {
        const { role, team } = seerOf(request);
        const query = role === "lead" ? { ...request.query, team } : request.query;
        return sendFocus(contextOf(seerOf(request)), query, reply);
      });
      addFormRoutes(inside, {
        sessions,
        contextOf: (request) => contextOf(seerOf(request)),
        command,
        adminToken,
        inTurn,
      });
      inside.get<{ Params: { file: string }; Querystring: Query }>("/:file", async (request, reply) => {
        const send = (): Promise<FastifyReply> =>
          inTurn(async () => sendPage(contextOf(seerOf(request)), request, reply));
        const [path = ""] = request.params.file.split(".");
        // Whoever waits to write holds up no other page.
        return WRITING.has(path) ? writeInTurn(send) : send();
      });
    });
  });
  return makeLink;
}

async function sendPage(
  context: PageContext,
  { params, query: asked }: FastifyRequest<{ Params: { file: string }; Querystring: Query }>,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const [path = "", form] = params.file.split(".");
  const query = Object.fromEntries(Object.entries(asked).map(([name, value]) => [name, lastOf(value)]));
  if (PAGES.has(path) && !(await mayPage(context, path, query)))
    return notice(
      reply,
      403,
      "This sign-in does not see that",
      html`<p><a href="${homeOf(context.holder)}">What it sees</a></p>`,
    );
  const page = await PAGES.get(path)?.(context, query);
  if (!page) return notice(reply, 404, "There is nothing here", html`<p><a href="overview">Overview</a></p>`);
  switch (form) {
    case undefined:
      return reply.type("text/html; charset=utf-8").send(toHtml(page, frameOf(context, path, query)));
    case "json":
      return download(reply, `${fileOf(path, page)}.json`, "application/json").send(toPageJson(page, context.nowMs));
    case "csv": {
      const table = page.sections.find((section) => section.table?.name === query["table"])?.table;
      if (table) return download(reply, `${fileOf(path, page)}-${table.name}.csv`, "text/csv").send(toCsv(table));
    }
  }
  return notice(reply, 404, "There is nothing here", html`<p><a href="${path}">${page.title}</a></p>`);
}

async function sendFocus(
  { books, stated }: PageContext,
  asked: { readonly [name: string]: unknown },
  reply: FastifyReply,
): Promise<FastifyReply> {
  const [since, until] = [lastOf(asked["since"]), lastOf(asked["until"])];
  const version = lastOf(asked["version"] ?? "1.2");
  const known = FOCUS_VERSIONS.find((one) => one === version);
  if (!isDay(since) || !isDay(until) || since >= until || until > addDays(since, MOST_FOCUS_DAYS) || !known)
    return notice(
      reply,
      400,
      "Which days?",
      html`<p>
        since and until are days such as 2026-11-01, until is not included, ${MOST_FOCUS_DAYS} days at most; version is
        1.2 or 1.4. <code>keymeter export focus</code> writes longer ones.
      </p>`,
    );
  const part = (name: string): string | undefined => (asked[name] === undefined ? undefined : lastOf(asked[name]));
  const rows = streamFocus(books, { sinceDay: since, untilDay: until, version: known }, stated, {
    team: part("team"),
    key: part("key"),
    provider: part("provider"),
  });
  return download(reply, `keymeter-focus-${since}-${until}.csv`, "text/csv").send(Readable.from(rows));
}

/** "keymeter-chargeback-2026-11": what a download is of, as far as plain letters can say it. */
function fileOf(path: string, { subject = "" }: Page): string {
  const words = subject
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "")
    .slice(0, 60);
  return ["keymeter", path, ...(words === "" ? [] : [words])].join("-");
}

function download(reply: FastifyReply, name: string, type: string): FastifyReply {
  return reply.type(`${type}; charset=utf-8`).header("content-disposition", `attachment; filename="${name}"`);
}
