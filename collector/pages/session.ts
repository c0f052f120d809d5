// Who reads the pages, and as what: holders of the read token and of named tokens, by header or by signing in, whoever opens a
// one-time link first, and whom an identity provider vouches for. A session is a signed cookie that ends by itself; one of a token
// ends with the token. The admin token is not taken here.
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { DAY_MS, HOUR_MS } from "../../ledger/windows.ts";
import { looksLikeToken } from "../../ledger/usage/tokens.ts";
import type { Holder } from "../../ledger/usage/tokens.ts";
import type { FastifyReply, FastifyRequest } from "fastify";
import { bearerOf, createTokenCheck } from "../../service/admin-routes.ts";
import type { Access } from "../../service/admin-routes.ts";
import type { Secret } from "../../service/secret.ts";

/** Who has the read token, which has no name: sees everything, and changes nothing. */
export const READER: Holder = { name: "reader", role: "read" };

export type Sessions = {
  /** A word that opens one session, once, within a day. */
  makeLink(): string;
  /** Whether it is such a word; it is used up by being asked. */
  takeLink(word: string): boolean;
  /** Whose token it is. */
  holderOfToken(given: string): Promise<Holder | undefined>;
  /** Gives the browser a session. */
  begin(reply: FastifyReply, holder: Holder): void;
  /** Ends it, also for a copy of its cookie; until this program starts anew, then by its time. */
  end(request: FastifyRequest, reply: FastifyReply): void;
  /** Who asks, by the session or by a token in the header. */
  holderOf(request: FastifyRequest): Promise<Holder | undefined>;
  /** What a form of this session brings back: no other page knows it. Undefined without a session. */
  proofOf(request: FastifyRequest): string | undefined;
};

type Session = { readonly name: string; readonly untilMs: number; readonly holder: Holder };

const COOKIE = "keymeter_session";
const SESSION_MS = 12 * HOUR_MS;
const LINK_MS = DAY_MS;
/** Links that nobody opened; the oldest goes first. */
const MOST_LINKS = 100;

export type SessionSettings = {
  readonly readToken: Secret;
  readonly adminToken: Secret;
  readonly access: Access;
  /** The holder of a token by its id, as long as it is good. */
  readonly findTokenHolder: (tokenId: string) => Promise<Holder | undefined>;
  readonly now: () => number;
  /** Readers come by https, whatever stands in between. */
  readonly isSecure: boolean;
};

export function createSessions(settings: SessionSettings): Sessions {
  const { readToken, adminToken, access, findTokenHolder, now, isSecure } = settings;
  // Not the tokens themselves: who steals a cookie cannot make others, and another token ends all sessions. Both, for a session
  // may do more than the read token.
  const key = createHash("sha256").update(`keymeter session\n${readToken.reveal()}\n${adminToken.reveal()}`).digest();
  /** A signature for one purpose is none for another. */
  const sign = (purpose: "session" | "form", text: string): string =>
    createHmac("sha256", key).update(`${purpose}\n${text}`).digest("base64url");
  /** Sessions that were left before their end, by when that is. */
  const left = new Map<string, number>();
  /** The session of a request, if it is one of ours and has not ended. */
  const read = (request: FastifyRequest): Session | undefined => {
    const [until = "", word = "", who = "", signature = ""] = (request.cookies[COOKIE] ?? "").split(".");
    const name = `${until}.${word}.${who}`;
    const expected = Buffer.from(sign("session", name));
    const given = Buffer.from(signature);
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
    const untilMs = /^\d{1,16}$/.test(until) ? Number(until) : 0;
    if (!(now() < untilMs) || left.has(name)) return undefined;
    return { name, untilMs, holder: JSON.parse(Buffer.from(who, "base64url").toString()) as Holder };
  };
  const links = new Map<string, number>();
  const isReader = createTokenCheck(readToken);
  const holderOfToken = async (given: string): Promise<Holder | undefined> => {
    if (looksLikeToken(given)) return access(given);
    return given !== "" && (await isReader(given)) ? READER : undefined;
  };
  return {
    makeLink() {
      const word = randomBytes(24).toString("base64url");
      links.set(digest(word), now() + LINK_MS);
      for (const [oldest] of links) if (links.size > MOST_LINKS) links.delete(oldest);
      return word;
    },
    takeLink(word) {
      const untilMs = links.get(digest(word));
      links.delete(digest(word));
      return untilMs !== undefined && now() < untilMs;
    },
    holderOfToken,
    begin(reply, holder) {
      const who = Buffer.from(JSON.stringify(holder)).toString("base64url");
      const name = `${now() + SESSION_MS}.${randomBytes(12).toString("base64url")}.${who}`;
      void reply.setCookie(COOKIE, `${name}.${sign("session", name)}`, {
        path: "/",
        httpOnly: true,
        sameSite: "strict",
        secure: isSecure ? true : "auto",
        maxAge: SESSION_MS / 1000,
      });
    },
    end(request, reply) {
      const session = read(request);
      if (session) left.set(session.name, session.untilMs);
      for (const [name, untilMs] of left) if (untilMs <= now()) left.delete(name);
      void reply.clearCookie(COOKIE, { path: "/" });
    },
    async holderOf(request) {
      const holder = read(request)?.holder;
      if (holder) return holder.tokenId === undefined ? holder : findTokenHolder(holder.tokenId);
      return holderOfToken(bearerOf(request));
    },
    proofOf(request) {
      const session = read(request);
      return session && sign("form", session.name);
    },
  };
}

function digest(word: string): string {
  return createHash("sha256").update(word).digest("base64url");
}
