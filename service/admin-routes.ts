// Who may use an admin route: holders of the admin token. Guessing is slow, the right token is not.
import { createHash, timingSafeEqual } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Secret } from "./secret.ts";

/** Wrong tokens are answered after this long, one after the other. */
const WRONG_TOKEN_MS = 250;

/** A preHandler that answers 401 to everybody else. */
export function requireToken(adminToken: Secret): (request: FastifyRequest, reply: FastifyReply) => Promise<void> {
  const expected = sha256(adminToken.reveal());
  let lastWrong: Promise<unknown> = Promise.resolve();
  return async (request, reply) => {
    const given = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
    if (timingSafeEqual(sha256(given), expected)) return;
    lastWrong = lastWrong.then(() => sleep(WRONG_TOKEN_MS));
    await lastWrong;
    await reply
      .code(401)
      .send({ error: "the admin token is missing or wrong; it stands in the data folder, in the file admin-token" });
  };
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
