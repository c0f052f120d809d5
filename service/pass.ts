// A pass: who somebody is that signed in somewhere else than by a token of the books, for a minute or some. The programs of one
// Keymeter take it from each other: it is signed with what the admin token is made into.
import { createHmac, timingSafeEqual } from "node:crypto";
import { z } from "zod";
import { ROLES } from "../ledger/usage/tokens.ts";
import type { Holder } from "../ledger/usage/tokens.ts";
import type { Secret } from "./secret.ts";

const PREFIX = "kmp_";
const holder = z.strictObject({
  name: z.string().min(1).max(200),
  role: z.enum(ROLES),
  team: z.string().min(1).optional(),
  tokenId: z.string().optional(),
  isOfSso: z.literal(true).optional(),
});

export function looksLikePass(text: string): boolean {
  return text.startsWith(PREFIX);
}

export function makePass(adminToken: Secret, who: Holder, untilMs: number): string {
  const body = Buffer.from(JSON.stringify({ who, untilMs })).toString("base64url");
  return `${PREFIX}${body}.${sign(adminToken, body)}`;
}

/** Whose a pass is; undefined for one that is not ours, or over. */
export function readPass(adminToken: Secret, text: string, nowMs: number): Holder | undefined {
  const [body = "", signature = ""] = text.slice(PREFIX.length).split(".");
  const [given, expected] = [Buffer.from(signature), Buffer.from(sign(adminToken, body))];
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
  const { who, untilMs } = JSON.parse(Buffer.from(body, "base64url").toString()) as { who: unknown; untilMs: number };
  return nowMs < untilMs ? holder.parse(who) : undefined;
}

function sign(adminToken: Secret, body: string): string {
  return createHmac("sha256", `keymeter pass\n${adminToken.reveal()}`).update(body).digest("base64url");
}
