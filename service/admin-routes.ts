// Who may use what: holders of a token, by their role. Guessing is slow, the right token is not.
import { createHash, timingSafeEqual } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { UsageBooks } from "../ledger/books.ts";
import { findHolder, findTokenHolder, looksLikeToken, ROLES } from "../ledger/usage/tokens.ts";
import type { Holder, Role } from "../ledger/usage/tokens.ts";
import { looksLikePass, readPass } from "./pass.ts";
import type { Secret } from "./secret.ts";

/** Wrong tokens are answered after this long, one after the other; beyond so many that wait, at once. */
const WRONG_TOKEN_MS = 250;
const MOST_WAITING = 8;

/** Tells whether a token is the right one, in a time that does not tell how wrong it is. */
export function createTokenCheck(token: Secret, mostWaiting = MOST_WAITING): (given: string) => Promise<boolean> {
  const expected = sha256(token.reveal());
  const beSlow = createSlowness(mostWaiting);
  return async (given) => {
    if (timingSafeEqual(sha256(given), expected)) return true;
    await beSlow();
    return false;
  };
}

/** Wrong ones one after the other. A crowd of guesses is not made to wait: nobody's typing mistake waits behind it, and 256 bits
 *  are not guessed at any speed. */
function createSlowness(mostWaiting: number): () => Promise<void> {
  let lastWrong: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  return async () => {
    if (waiting >= mostWaiting) return;
    waiting += 1;
    lastWrong = lastWrong.then(() => sleep(WRONG_TOKEN_MS));
    await lastWrong;
    waiting -= 1;
  };
}

/** What a request brings as `Authorization: Bearer`. */
export function bearerOf(request: FastifyRequest): string {
  return /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1] ?? "";
}

/** Roles that see all teams. */
export const SEE_ALL = ["read", "finance", "admin"] as const satisfies readonly Role[];

/** Whose a token is; undefined: nobody's. */
export type Access = (given: string) => Promise<Holder | undefined>;

/** The holder of the admin token, under whose name programs and the command of this machine ask. */
const OF_THIS_MACHINE: Holder = { name: "admin-api", role: "admin" };

/** The holder of a token that the books have: by the token, or by its id. Undefined: it is none that is good now. */
export type TokenBooks = { readonly bySecret: Access; readonly byId: Access };

export function tokenBooks(books: UsageBooks): TokenBooks {
  return {
    bySecret: (secret) => findHolder(books, secret, Date.now()),
    byId: (id) => findTokenHolder(books, id, Date.now()),
  };
}

/** By the admin token, a token of the books, or a pass, which is good as long as the token is that it was made for. */
export function createAccess(adminToken: Secret, books: TokenBooks, mostWaiting = MOST_WAITING): Access {
  const expected = sha256(adminToken.reveal());
  const beSlow = createSlowness(mostWaiting);
  return async (given) => {
    if (timingSafeEqual(sha256(given), expected)) return OF_THIS_MACHINE;
    const passed = looksLikePass(given) ? readPass(adminToken, given, Date.now()) : undefined;
    const holder = passed ?? (looksLikeToken(given) ? await books.bySecret(given) : undefined);
    if (!holder) await beSlow();
    return passed?.tokenId === undefined ? holder : books.byId(passed.tokenId);
  };
}

const holders = new WeakMap<FastifyRequest, Holder>();

/** Answers 401 to who brings no token that is known, and 403 to whose role is none of these. */
export function requireRole(
  access: Access,
  roles: readonly Role[] = ROLES,
): (request: FastifyRequest, reply: FastifyReply) => Promise<void> {
  return async (request, reply) => {
    let holder: Holder | undefined;
    try {
      holder = await access(bearerOf(request));
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      return void (await reply.code(503).send({ error: `whose token this is cannot be read in the books: ${why}` }));
    }
    if (!holder)
      await reply.code(401).send({
        error: looksLikeToken(bearerOf(request))
          ? "this token is unknown, has ended or was revoked; ask an admin for another"
          : "the admin token is missing or wrong; it stands in the data folder, in the file admin-token, and `keymeter tokens create` makes named ones",
      });
    else if (roles.includes(holder.role)) holders.set(request, holder);
    else
      await reply.code(403).send({
        error: `${holder.name} may not do that: it takes the role ${roles.join(" or ")}, and this token has ${holder.role}`,
      });
  };
}

/** Who asks; on routes behind `requireRole`. */
export function holderOf(request: FastifyRequest): Holder {
  const holder = holders.get(request);
  if (!holder) throw new Error("this route does not ask who asks");
  return holder;
}

/** How the audit names who asked: the holder of a token, who signed in at an identity provider, or a program of this machine and for
 *  whom it asks. */
export function actorOf(request: FastifyRequest): string {
  const { name, tokenId, isOfSso } = holderOf(request);
  if (tokenId !== undefined) return `token:${name}`;
  if (isOfSso) return `sso:${name}`;
  const given = request.headers["x-keymeter-actor"];
  return typeof given === "string" && /^[\x21-\x7e]{1,100}$/.test(given) ? `${name}:${given}` : name;
}

/** Whose role has to allow a change; undefined: the admin token, which may. */
export function namedHolderOf(request: FastifyRequest): Holder | undefined {
  const holder = holderOf(request);
  return holder === OF_THIS_MACHINE ? undefined : holder;
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
