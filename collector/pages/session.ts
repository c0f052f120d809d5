// Who may read the pages: holders of the read token, by header or by signing in with it, and whoever opens a one-time
// link first. A session is a signed cookie that ends by itself; it can read and nothing else. The admin token is not
// taken here.
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import { DAY_MS, HOUR_MS } from "../../ledger/windows.ts";
import type { FastifyReply, FastifyRequest } from "fastify";
import { bearerOf, createTokenCheck } from "../../service/admin-routes.ts";
import type { Secret } from "../../service/secret.ts";

export type Sessions = {
  /** A word that opens one session, once, within a day. */
  makeLink(): string;
  /** Whether it is such a word; it is used up by being asked. */
  takeLink(word: string): boolean;
  isToken(given: string): Promise<boolean>;
  /** Gives the browser a session. */
  begin(reply: FastifyReply): void;
  /** Ends it, also for a copy of its cookie; until this program starts anew, then by its time. */
  end(request: FastifyRequest, reply: FastifyReply): void;
  mayRead(request: FastifyRequest): Promise<boolean>;
};

const COOKIE = "keymeter_session";
const SESSION_MS = 12 * HOUR_MS;
const LINK_MS = DAY_MS;
/** Links that nobody opened; the oldest goes first. */
const MOST_LINKS = 100;

/** `isSecure`: readers come by https, whatever stands in between. */
export function createSessions(readToken: Secret, now: () => number, isSecure: boolean): Sessions {
  // Not the token itself: who steals a cookie cannot make others, and another token ends all sessions.
  const key = createHash("sha256").update(`keymeter session\n${readToken.reveal()}`).digest();
  const sign = (session: string): string => createHmac("sha256", key).update(session).digest("base64url");
  /** Sessions that were left before their end, by when that is. */
  const left = new Map<string, number>();
  /** The session of a request: its name and its end, if it is one of ours and has not ended. */
  const read = (request: FastifyRequest): { readonly name: string; readonly untilMs: number } | undefined => {
    const [until = "", word = "", signature = ""] = (request.cookies[COOKIE] ?? "").split(".");
    const name = `${until}.${word}`;
    const expected = Buffer.from(sign(name));
    const given = Buffer.from(signature);
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
    const untilMs = Number(until);
    return now() < untilMs && !left.has(name) ? { name, untilMs } : undefined;
  };
  const links = new Map<string, number>();
  const isToken = createTokenCheck(readToken);
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
    isToken,
    begin(reply) {
      const name = `${now() + SESSION_MS}.${randomBytes(12).toString("base64url")}`;
      void reply.setCookie(COOKIE, `${name}.${sign(name)}`, {
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
    async mayRead(request) {
      if (read(request)) return true;
      const token = bearerOf(request);
      return token !== "" && isToken(token);
    },
  };
}

function digest(word: string): string {
  return createHash("sha256").update(word).digest("base64url");
}
