// Who may read the pages: holders of the read token, by header or by signing in with it, and whoever opens a one-time link first. A session is a signed
// cookie that ends by itself; it can read and nothing else. The admin token is not taken here.
import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto";
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
  end(reply: FastifyReply): void;
  mayRead(request: FastifyRequest): Promise<boolean>;
};

const COOKIE = "keymeter_session";
const SESSION_MS = 12 * 3_600_000;
const LINK_MS = 24 * 3_600_000;
/** Links that nobody opened; the oldest goes first. */
const MOST_LINKS = 100;

export function createSessions(readToken: Secret, now: () => number): Sessions {
  // Not the token itself: who steals a cookie cannot make others, and another token ends all sessions.
  const key = createHash("sha256").update(`keymeter session\n${readToken.reveal()}`).digest();
  const sign = (until: string): string => createHmac("sha256", key).update(until).digest("base64url");
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
      const until = String(now() + SESSION_MS);
      void reply.setCookie(COOKIE, `${until}.${sign(until)}`, {
        path: "/",
        httpOnly: true,
        sameSite: "strict",
        secure: "auto",
        maxAge: SESSION_MS / 1000,
      });
    },
    end(reply) {
      void reply.clearCookie(COOKIE, { path: "/" });
    },
    async mayRead(request) {
      const [until = "", signature = ""] = (request.cookies[COOKIE] ?? "").split(".");
      const expected = Buffer.from(sign(until));
      const given = Buffer.from(signature);
      if (given.length === expected.length && timingSafeEqual(given, expected)) return now() < Number(until);
      const token = bearerOf(request);
      return token !== "" && isToken(token);
    },
  };
}

function digest(word: string): string {
  return createHash("sha256").update(word).digest("base64url");
}
