// Forms over HTTP: whose role shows them, whose session sends them, and the step that each is at.
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { html } from "ghtml";
import type { Secret } from "../../../service/secret.ts";
import type { OfferedCommand } from "../../offered-command.ts";
import type { InTurn } from "../../turn.ts";
import type { PageContext, Query } from "../builder.ts";
import { toHtml } from "../html.ts";
import { frameOf, lastOf, notice } from "../replies.ts";
import type { Sessions } from "../session.ts";
import { FORMS } from "./index.ts";
import { pageOfStep } from "./steps.ts";

export function addFormRoutes(
  routes: FastifyInstance,
  {
    sessions,
    contextOf,
    command,
    adminToken,
    inTurn,
  }: {
    readonly sessions: Sessions;
    readonly contextOf: (request: FastifyRequest) => PageContext;
    readonly command: OfferedCommand | undefined;
    readonly adminToken: Secret;
    readonly inTurn: InTurn;
  },
): void {
  const step = async (
    request: FastifyRequest,
    reply: FastifyReply,
    given: { readonly [name: string]: unknown },
    isSent: boolean,
  ): Promise<FastifyReply> => {
    const values = Object.fromEntries(Object.entries(given).map(([name, value]) => [name, lastOf(value)]));
    const proof = sessions.proofOf(request);
    const own = contextOf(request);
    const offered = FORMS.get(values["form"] ?? "");
    if (!offered || !own.mayAsk(...offered.verb))
      return notice(reply, 403, "This sign-in may not do that", html`<p><a href="manage">What it may</a></p>`);
    if (isSent && (proof === undefined || values["proof"] !== proof || isFromElsewhere(request)))
      return notice(reply, 403, "That form is not of this sign-in", html`<p><a href="manage">Begin again</a></p>`);
    const { form = "", step: wanted = "" } = values;
    const asked = { form, step: isSent ? wanted : "", values, proof: proof ?? "" };
    const make = async () => (command && proof !== undefined ? pageOfStep(own, asked, command, adminToken) : undefined);
    // What reads a lot waits its turn among pages; what is done waits for nothing.
    const found = asked.step === "do" ? await make() : await inTurn(make);
    if (!found) return notice(reply, 403, "A form needs a sign-in", html`<p><a href="manage">Sign in</a></p>`);
    const { status, page } = found;
    return reply
      .code(status)
      .type("text/html; charset=utf-8")
      .send(toHtml(page, frameOf(own, "change", {})));
  };
  routes.get<{ Querystring: Query }>("/change", async (request, reply) => step(request, reply, request.query, false));
  routes.post<{ Body: Query | null }>("/change", async (request, reply) =>
    step(request, reply, request.body ?? {}, true),
  );
}

/** Whether another site had the browser send it. */
function isFromElsewhere({ headers }: FastifyRequest): boolean {
  const site = headers["sec-fetch-site"];
  return site !== undefined && site !== "same-origin";
}
