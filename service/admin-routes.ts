// Who may use what: holders of a token. Guessing is slow, the right token is not.
import { createHash, timingSafeEqual } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Secret } from "./secret.ts";

/** Wrong tokens are answered after this long, one after the other; beyond so many that wait, at once. */
const WRONG_TOKEN_MS = 250;
const MOST_WAITING = 8;

/** Tells whether a token is the right one, in a time that does not tell how wrong it is. */
export function createTokenCheck(token: Secret, mostWaiting = MOST_WAITING): (given: string) => Promise<boolean> {
  const expected = sha256(token.reveal());
  let lastWrong: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  return async (given) => {
    if (timingSafeEqual(sha256(given), expected)) return true;
    // A crowd of guesses is not made to wait: nobody's typing mistake waits behind it, and 256 bits are not guessed at
    // any speed.
    if (waiting >= mostWaiting) return false;
    waiting += 1;
    lastWrong = lastWrong.then(() => sleep(WRONG_TOKEN_MS));
    await lastWrong;
    waiting -= 1;
    return false;
  };
}

/** What a request brings as `Authorization: Bearer`. */
export function bearerOf(request: FastifyRequest): string {
  return /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
}

/** A preHandler that answers 401 to everybody without the admin token. */
export function requireToken(adminToken: Secret): (request: FastifyRequest, reply: FastifyReply) => Promise<void> {
  const isRight = createTokenCheck(adminToken);
  return async (request, reply) => {
    if (await isRight(bearerOf(request))) return;
    await reply
      .code(401)
      .send({ error: "the admin token is missing or wrong; it stands in the data folder, in the file admin-token" });
  };
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
