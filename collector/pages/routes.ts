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
import { requireToken } from "../../service/admin-routes.ts";
import type { Log } from "../../service/log.ts";
import type { Secret } from "../../service/secret.ts";
import { streamFocus } from "../reports.ts";
import { FOCUS_VERSIONS } from "../focus.ts";
import { createTurn } from "../turn.ts";
import type { InTurn } from "../turn.ts";
import { changes } from "./changes.ts";
import { bill } from "./bill.ts";
import { bills } from "./bills.ts";
import { chargeback } from "./chargeback.ts";
import type { BuildPage, PageContext, Query } from "./builder.ts";
import { toCsv, toPageJson } from "./downloads.ts";
import { toHtml, toNotice } from "./html.ts";
import { key } from "./key.ts";
import { keys } from "./keys.ts";
import { models } from "./models.ts";
import { overview } from "./overview.ts";
import type { Page } from "./page.ts";
import { refused } from "./refused.ts";
import { createSessions } from "./session.ts";
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
  /** Where readers find the pages. */
  readonly pagesUrl: string;
};

/** Pages that keep what they fold, in billing.db: one at a time with all else that is written there. */
const WRITING: ReadonlySet<string> = new Set(["chargeback"]);

/** Adds the pages; returns a maker of one-time links, each the address of a page that opens a session. `writeInTurn`:
 *  the turn of whoever writes billing.db. */
export async function addPages(
  app: FastifyInstance,
  context: () => PageContext,
  { readToken, adminToken, pagesUrl }: PageSettings,
  log: Log,
  writeInTurn: InTurn,
): Promise<() => string> {
  const sessions = createSessions(readToken, Date.now, pagesUrl.startsWith("https:"));
  const makeLink = (): string => `${pagesUrl}/login?link=${sessions.makeLink()}`;
  // Pages are built one after the other: a page reads a lot, and somebody who asks for all of them at once must not
  // hold up the gauges.
  const inTurn = createTurn();

  await app.register(async (routes) => {
    routes.addHook("onRequest", requireToken(adminToken));
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
    routes.get("/", async (_request, reply) => reply.redirect("/overview"));
    routes.get<{ Querystring: Query }>("/login", { exposeHeadRoute: false }, async (request, reply) => {
      const word = lastOf(request.query["link"]);
      if (word === "") return signIn(reply, 200);
      if (!sessions.takeLink(word))
        return signIn(
          reply,
          403,
          "That link has been used, or is older than a day. `npx keymeter pages` prints a new one.",
        );
      sessions.begin(reply);
      return onward(reply, "/overview");
    });
    routes.post<{ Body: { readonly token?: unknown } | null | undefined }>("/login", async ({ body }, reply) => {
      if (!(await sessions.isToken(lastOf(body?.token).trim())))
        return signIn(reply, 403, "That is not the read token.");
      sessions.begin(reply);
      return reply.redirect("/overview", 303);
    });
    routes.post("/logout", async (request, reply) => {
      sessions.end(request, reply);
      return reply.redirect("/login", 303);
    });

    await routes.register(async (inside) => {
      inside.addHook("onRequest", async (request, reply) => {
        if (await sessions.mayRead(request)) return;
        // A strict cookie is not sent when a link on another site led here. The same address, asked for by this page,
        // brings it.
        const isLed = request.method === "GET" && request.headers["sec-fetch-site"] === "cross-site";
        await (isLed ? onward(reply, `/${request.url.replace(/^[/\\]+/, "")}`) : signIn(reply, 401));
      });
      inside.get<{ Querystring: { readonly [name: string]: unknown } }>("/focus.csv", async ({ query }, reply) =>
        sendFocus(context(), query, reply),
      );
      inside.get<{ Params: { file: string }; Querystring: Query }>("/:file", async (request, reply) => {
        const send = (): Promise<FastifyReply> => inTurn(async () => sendPage(context(), request, reply));
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
  const page = await PAGES.get(path)?.(context, query);
  if (!page) return notice(reply, 404, "There is nothing here", html`<p><a href="overview">Overview</a></p>`);
  switch (form) {
    case undefined:
      return reply
        .type("text/html; charset=utf-8")
        .send(toHtml(page, { path, query, asOfMs: context.nowMs, timezone: context.calendar.zone }));
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

/** What was given; the last one, of a name that is given twice. */
function lastOf(value: unknown): string {
  const one: unknown = Array.isArray(value) ? value.at(-1) : value;
  return typeof one === "string" ? one : "";
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

/** A page of our own that goes on by itself: what it asks for comes from here, and brings the session. */
function onward(reply: FastifyReply, address: string): FastifyReply {
  return notice(
    reply,
    200,
    "Keymeter",
    html`<meta http-equiv="refresh" content="0; url=${address}" />
      <p><a href="${address}">Go on</a></p>`,
  );
}

function signIn(reply: FastifyReply, status: number, why?: string): FastifyReply {
  return notice(
    reply,
    status,
    "Sign in to read",
    html`!${why === undefined ? "" : html`<p role="alert">${why}</p>`}
      <form class="controls" method="post" action="/login">
        <label>Read token <input type="password" name="token" autocomplete="current-password" required /></label>
        <button>Sign in</button>
      </form>
      <p>
        It stands in the data folder, in the file read-token (or is what KEYMETER_READ_TOKEN says). On that machine,
        <code>npx keymeter pages</code> prints a link that needs none.
      </p>`,
  );
}

function notice(reply: FastifyReply, status: number, title: string, body: string): FastifyReply {
  return reply.code(status).type("text/html; charset=utf-8").send(toNotice(title, body));
}
