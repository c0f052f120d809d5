// Signing in at an identity provider (OpenID Connect, code flow with PKCE): its groups say what somebody may do here. openid-client
// does the protocol; what is kept of a sign-in under way stands in a signed cookie of the browser that began it, for ten minutes.
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Holder } from "../../ledger/usage/tokens.ts";
import { isLoopback } from "../../service/network.ts";
import type { Secret } from "../../service/secret.ts";

/** Which groups have which role. Somebody in several has the most of them: admin, finance, lead, read. */
export const signInRoles = z.strictObject({
  admin: z.array(z.string().min(1)).optional(),
  finance: z.array(z.string().min(1)).optional(),
  read: z.array(z.string().min(1)).optional(),
  /** By group: the team that its members lead. */
  leads: z.record(z.string().min(1), z.string().min(1)).optional(),
});

export type SignInSettings = {
  readonly issuer: string;
  readonly clientId: string;
  readonly clientSecret: Secret | undefined;
  /** The claim that holds the groups. */
  readonly groupsClaim: string;
  /** What is asked for beside `openid`. */
  readonly scopes: string;
  readonly roles: z.infer<typeof signInRoles>;
};

/** It was not done; the words are for whoever tried. */
export class SignInRefused extends Error {}

export type SignIn = {
  /** Sends the browser to the provider. Rejects with SignInRefused where that is away. */
  begin(reply: FastifyReply): Promise<FastifyReply>;
  /** Who came back. Rejects with SignInRefused. */
  finish(request: FastifyRequest, reply: FastifyReply): Promise<Holder>;
};

const COOKIE = "keymeter_signing_in";
const PATH = "/login";
const LASTS_MS = 10 * 60_000;
/** `pagesUrl`: where readers find the pages; the provider sends them back there. */
export function createSignIn(
  settings: SignInSettings,
  pagesUrl: string,
  adminToken: Secret,
  now: () => number,
): SignIn {
  const key = createHash("sha256").update(`keymeter sign-in\n${adminToken.reveal()}`).digest();
  const sign = (text: string): string => createHmac("sha256", key).update(text).digest("base64url");
  const redirectUri = `${pagesUrl}${PATH}/callback`;
  /** Found once the provider answers; asked again until then. */
  let found: Promise<Provider> | undefined;
  const provider = async (): Promise<Provider> => {
    found ??= discover(settings);
    try {
      return await found;
    } catch (error) {
      found = undefined;
      throw new SignInRefused(`${settings.issuer} does not answer as an identity provider: ${wordsOf(error)}`);
    }
  };
  const cookieSettings = {
    path: PATH,
    httpOnly: true,
    sameSite: "lax" as const,
    secure: pagesUrl.startsWith("https:"),
  };
  return {
    async begin(reply) {
      const { client, config } = await provider();
      const [state, nonce, verifier] = [client.randomState(), client.randomNonce(), client.randomPKCECodeVerifier()];
      const begun: Begun = { state, nonce, verifier, untilMs: now() + LASTS_MS };
      const text = Buffer.from(JSON.stringify(begun)).toString("base64url");
      const address = client.buildAuthorizationUrl(config, {
        redirect_uri: redirectUri,
        scope: `openid ${settings.scopes}`,
        code_challenge: await client.calculatePKCECodeChallenge(verifier),
        code_challenge_method: "S256",
        state,
        nonce,
      });
      return reply
        .setCookie(COOKIE, `${text}.${sign(text)}`, { ...cookieSettings, maxAge: LASTS_MS / 1000 })
        .redirect(address.href);
    },
    async finish(request, reply) {
      const [text = "", signature = ""] = (request.cookies[COOKIE] ?? "").split(".");
      const isOurs = isSame(signature, sign(text));
      const begun = isOurs ? (JSON.parse(Buffer.from(text, "base64url").toString()) as Begun) : undefined;
      void reply.clearCookie(COOKIE, cookieSettings);
      if (!begun || begun.untilMs <= now())
        throw new SignInRefused("That sign-in was begun too long ago, or elsewhere.");
      const { client, config } = await provider();
      let claims: { readonly [claim: string]: unknown };
      try {
        const tokens = await client.authorizationCodeGrant(config, new URL(request.url, redirectUri), {
          pkceCodeVerifier: begun.verifier,
          expectedState: begun.state,
          expectedNonce: begun.nonce,
          idTokenExpected: true,
        });
        const own = tokens.claims();
        if (!own) throw new Error("it gave no ID token");
        const isWhole =
          own[settings.groupsClaim] !== undefined || config.serverMetadata().userinfo_endpoint === undefined;
        claims = isWhole ? own : { ...(await client.fetchUserInfo(config, tokens.access_token, own.sub)), ...own };
      } catch (error) {
        throw new SignInRefused(`The identity provider did not sign you in: ${wordsOf(error)}`);
      }
      return holderOf(claims, settings);
    },
  };
}

type Begun = {
  readonly state: string;
  readonly nonce: string;
  readonly verifier: string;
  readonly untilMs: number;
};

function isSame(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}

type Client = typeof import("openid-client");
type Provider = { readonly client: Client; readonly config: import("openid-client").Configuration };

async function discover({ issuer, clientId, clientSecret }: SignInSettings): Promise<Provider> {
  const client = await import("openid-client");
  const url = new URL(issuer);
  // On this machine alone nobody listens in between.
  const isNear = url.protocol === "http:" && isLoopback(url.hostname.replace(/^\[|\]$/g, ""));
  const config = await client.discovery(
    url,
    clientId,
    undefined,
    clientSecret === undefined ? client.None() : client.ClientSecretBasic(clientSecret.reveal()),
    isNear ? { execute: [client.allowInsecureRequests] } : {},
  );
  return { client, config };
}

/** What groups make of somebody. Throws SignInRefused for who is in none that has a role. */
function holderOf(claims: { readonly [claim: string]: unknown }, { groupsClaim, roles }: SignInSettings): Holder {
  const given = claims[groupsClaim];
  const groups = new Set((Array.isArray(given) ? given : [given]).filter((one) => typeof one === "string"));
  const name = nameOf(claims);
  const isIn = (some: readonly string[] = []): boolean => some.some((group) => groups.has(group));
  if (isIn(roles.admin)) return { name, role: "admin", isOfSso: true };
  if (isIn(roles.finance)) return { name, role: "finance", isOfSso: true };
  const [, team] = Object.entries(roles.leads ?? {}).find(([group]) => groups.has(group)) ?? [];
  if (team !== undefined) return { name, role: "lead", team, isOfSso: true };
  if (isIn(roles.read)) return { name, role: "read", isOfSso: true };
  throw new SignInRefused(
    `${name} is in no group that has a role here (collector.sign_in.roles); the claim ${groupsClaim} has ${groups.size === 0 ? "none" : [...groups].join(", ").slice(0, 200)}`,
  );
}

/** As the audit calls somebody: an address where the provider says that it is his, else what it knows him by, which is no address. */
function nameOf({
  email,
  email_verified: isVerified,
  preferred_username: username,
  sub,
}: {
  readonly [claim: string]: unknown;
}): string {
  const names = [isVerified === true ? email : undefined, username, sub];
  const name = names.find(
    (one, i): one is string =>
      typeof one === "string" && /^[\x21-\x7e]{1,100}$/.test(one) && (i === 0 || !one.includes("@")),
  );
  if (name === undefined) throw new SignInRefused("The identity provider gives you no name in plain characters.");
  return name;
}

function wordsOf(error: unknown): string {
  const { message, cause } = error instanceof Error ? error : new Error(String(error));
  return cause instanceof Error ? `${message} (${cause.message})` : message;
}
