// Named tokens: who asks at the admin API, the pages and the remote command, and as what. A token is shown once; the books
// hold its SHA-256. What a role may change is may-change.ts.
import { createHash } from "node:crypto";
import { askRows, ONE, tell, write } from "../asking.ts";
import type { Asking } from "../asking.ts";
import { and, asc, eq, getTableColumns, isNull } from "../drizzle.ts";
import type { SQL } from "../drizzle.ts";
import { tablesOf } from "../engine.ts";
import type { UsageBooks } from "../books.ts";
import { ChangeRefused } from "./change-refused.ts";
import { hasChecksum, newSecret } from "./keys.ts";
import { tokens } from "./schema.ts";

/** `read` sees everything; `lead` sees and changes a team's keys and what is inside its budget; `finance` sees everything, sets
 *  budgets and closes bills; `admin` may do everything. */
export const ROLES = ["read", "lead", "finance", "admin"] as const;
export type Role = (typeof ROLES)[number];

/** Who asks. */
export type Holder = {
  readonly name: string;
  readonly role: Role;
  /** Of a lead, and of nobody else. */
  readonly team?: string | undefined;
  /** By which token, where it was one of the books. */
  readonly tokenId?: string | undefined;
  /** An identity provider vouches for the name. */
  readonly isOfSso?: true | undefined;
};

export type Token = Omit<Holder, "tokenId" | "isOfSso"> & {
  readonly id: string;
  readonly createdAtMs: number;
  readonly expiresAtMs: number | undefined;
};

/** A token as the books have it. */
export type KnownToken = Token & { readonly revokedAtMs: number | undefined };

const PREFIX = "kmt";
const TOKEN = /^kmt_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}$/;

/** Makes a token: what the books get, and the token itself, which is shown once. */
export function issueToken(
  holder: Omit<Holder, "tokenId" | "isOfSso">,
  expiresAtMs: number | undefined,
  nowMs: number,
): { readonly token: Token; readonly digest: string; readonly secret: string } {
  const { id, secret } = newSecret(PREFIX);
  return {
    token: { ...holder, id: `tok_${id}`, createdAtMs: nowMs, expiresAtMs },
    digest: digestOfToken(secret),
    secret,
  };
}

/** Whether text has the form of a token at all: it may still be unknown. */
export function looksLikeToken(text: string): boolean {
  return text.startsWith(`${PREFIX}_`);
}

function digestOfToken(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}

/** Who holds a token; undefined for one that is unknown, ended or revoked. */
export async function findHolder(books: UsageBooks, secret: string, nowMs: number): Promise<Holder | undefined> {
  if (!TOKEN.test(secret) || !hasChecksum(secret)) return undefined;
  const digest = digestOfToken(secret);
  return holderOf(await readTokens(books, eq(tokens.digest, digest)), nowMs);
}

/** Who holds the token of an id; undefined for one that is unknown, ended or revoked. */
export async function findTokenHolder(books: UsageBooks, tokenId: string, nowMs: number): Promise<Holder | undefined> {
  return holderOf(await readTokens(books, eq(tokens.id, tokenId)), nowMs);
}

function holderOf(known: readonly KnownToken[], nowMs: number): Holder | undefined {
  const found = known.find(
    ({ revokedAtMs, expiresAtMs = Infinity }) => revokedAtMs === undefined && nowMs < expiresAtMs,
  );
  if (!found) return undefined;
  const { name, role, team, id } = found;
  return { name, role, ...(team === undefined ? {} : { team }), tokenId: id };
}

const { digest: _ofToken, ...columns } = getTableColumns(tokens);

/** All of them, or some. */
export async function readTokens(books: UsageBooks, where?: SQL): Promise<KnownToken[]> {
  const rows = await tablesOf(books)
    .select(columns)
    .from(tokens)
    .where(where)
    .orderBy(asc(tokens.createdAtMs), asc(tokens.id))
    .all();
  return rows.map(({ team, expiresAtMs, revokedAtMs, ...row }) => ({
    ...row,
    team: team === "" ? undefined : team,
    expiresAtMs: expiresAtMs ?? undefined,
    revokedAtMs: revokedAtMs ?? undefined,
  }));
}

/** Throws ChangeRefused for a name that another token has: the audit says who by it. */
export function* createToken(token: Token, digest: string): Asking<undefined> {
  const [other] = yield* askRows(tokens, and(eq(tokens.name, token.name), isNull(tokens.revokedAtMs)));
  if (other)
    throw new ChangeRefused(
      `a token named "${token.name}" exists already (${other.id}); revoke it, or choose another name`,
    );
  if ((token.role === "lead") === (token.team === undefined))
    throw new ChangeRefused("a lead is the lead of one team, and nobody else is");
  const { team = "", expiresAtMs = null, ...row } = token;
  yield* tell(write.insert(tokens).values({ ...row, team, expiresAtMs, digest, revokedAtMs: null }));
}

export function* revokeToken(tokenId: string, atMs: number): Asking<undefined> {
  const isInForce = and(eq(tokens.id, tokenId), isNull(tokens.revokedAtMs));
  if ((yield* tell(write.update(tokens).set({ revokedAtMs: atMs }).where(isInForce).returning(ONE))) === 0)
    throw new ChangeRefused(`there is no token ${tokenId}; \`keymeter tokens list\` shows them`);
}
