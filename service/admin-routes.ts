// Who may use what: holders of a token. Guessing is slow, the right token is not.
import { createHash, timingSafeEqual } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Secret } from "./secret.ts";

/** Wrong tokens are answered after this long, one after the other. */
const WRONG_TOKEN_MS = 250;

/** Tells whether a token is the right one, in a time that does not tell how wrong it is. */
export function createTokenCheck(token: Secret): (given: string) => Promise<boolean> {
  const expected = sha256(token.reveal());
  let lastWrong: Promise<unknown> = Promise.resolve();
  return async (given) => {
    if (timingSafeEqual(sha256(given), expected)) return true;
    lastWrong = lastWrong.then(() => sleep(WRONG_TOKEN_MS));
    await lastWrong;
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
