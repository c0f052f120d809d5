// How pages answer that are no report: with one thing to say, or with an address to go on to.
import type { FastifyReply } from "fastify";
import { html } from "ghtml";
import type { PageContext, Query } from "./builder.ts";
import type { Frame } from "./html.ts";
import { toNotice } from "./html.ts";

export function notice(reply: FastifyReply, status: number, title: string, body: string): FastifyReply {
  return reply.code(status).type("text/html; charset=utf-8").send(toNotice(title, body));
}

/** A page of our own that goes on by itself: what it asks for comes from here, and brings the session. */
export function onward(reply: FastifyReply, address: string): FastifyReply {
  return notice(
    reply,
    200,
    "Keymeter",
    html`<meta http-equiv="refresh" content="0; url=${address}" />
      <p><a href="${address}">Go on</a></p>`,
  );
}

/** What was given; the last one, of a name that is given twice. */
export function lastOf(value: unknown): string {
  const one: unknown = Array.isArray(value) ? value.at(-1) : value;
  return typeof one === "string" ? one : "";
}

/** With what a page is drawn. */
export function frameOf({ nowMs, calendar, holder }: PageContext, path: string, query: Query): Frame {
  return { path, query, asOfMs: nowMs, timezone: calendar.zone, holder };
}
