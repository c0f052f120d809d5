// The way into the pages and out of them: a one-time link, a token, an organisation's sign-in; and signing out.
import type { FastifyInstance, FastifyReply } from "fastify";
import { html } from "ghtml";
import type { Log } from "../../service/log.ts";
import type { Query } from "./builder.ts";
import { lastOf, onward } from "./replies.ts";
import { homeOf } from "./seen.ts";
import { READER } from "./session.ts";
import type { Sessions } from "./session.ts";
import { SignInRefused } from "./sign-in.ts";
import type { SignIn } from "./sign-in.ts";

/** `askToSignIn`: the page that asks, with what went wrong. */
export function addEntrance(
  routes: FastifyInstance,
  sessions: Sessions,
  provider: SignIn | undefined,
  askToSignIn: (reply: FastifyReply, status: number, why?: string) => FastifyReply,
  log: Log,
): void {
  routes.get<{ Querystring: Query }>("/login", { exposeHeadRoute: false }, async (request, reply) => {
    const word = lastOf(request.query["link"]);
    if (word === "") return askToSignIn(reply, 200);
    if (!sessions.takeLink(word))
      return askToSignIn(
        reply,
        403,
        "That link has been used, or is older than a day. `npx keymeter pages` prints a new one.",
      );
    sessions.begin(reply, READER);
    return onward(reply, homeOf(READER));
  });
  routes.post<{ Body: { readonly token?: unknown } | null | undefined }>("/login", async ({ body }, reply) => {
    const holder = await sessions.holderOfToken(lastOf(body?.token).trim());
    if (!holder)
      return askToSignIn(reply, 403, "That is no token that is good now: neither the read token nor a named one.");
    sessions.begin(reply, holder);
    return reply.redirect(homeOf(holder), 303);
  });
  if (provider) {
    const orSayWhy = async (reply: FastifyReply, work: () => Promise<FastifyReply>): Promise<FastifyReply> => {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof SignInRefused)) throw error;
        log.warn({ why: error.message }, "somebody could not sign in");
        return askToSignIn(reply, 403, error.message);
      }
    };
    routes.get("/login/begin", { exposeHeadRoute: false }, async (_request, reply) =>
      orSayWhy(reply, () => provider.begin(reply)),
    );
    routes.get("/login/callback", { exposeHeadRoute: false }, async (request, reply) =>
      orSayWhy(reply, async () => {
        const holder = await provider.finish(request, reply);
        sessions.begin(reply, holder);
        return onward(reply, homeOf(holder));
      }),
    );
  }
  routes.post("/logout", async (request, reply) => {
    sessions.end(request, reply);
    return reply.redirect("/login", 303);
  });
}

export function signInHtml(hasProvider: boolean, why?: string): string {
  return html`!${why === undefined ? "" : html`<p role="alert">${why}</p>`}
    !${hasProvider ? '<p><a class="begin" href="/login/begin">Sign in with your organisation</a></p>' : ""}
    <form class="controls" method="post" action="/login">
      <input type="text" name="user" autocomplete="username" value="keymeter" hidden />
      <label>Token <input type="password" name="token" autocomplete="current-password" required /></label>
      <button>Sign in</button>
    </form>
    <p>
      A named token (kmt_..., from <code>keymeter tokens create</code>) shows what its role sees, and changes what that
      may. The read token reads: it stands in the data folder, in the file read-token (or is what KEYMETER_READ_TOKEN
      says). On that machine, <code>npx keymeter pages</code> prints a link that needs none.
    </p>`;
}
