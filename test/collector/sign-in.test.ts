// Signing in at an identity provider: a real one (oidc-provider, certified), whose groups give roles; and what a bent sign-in comes to.
import { createServer } from "node:http";
import type { Server } from "node:http";
import { Provider } from "oidc-provider";
import { request } from "undici";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startElsewhere } from "../command/elsewhere.ts";
import type { Elsewhere } from "../command/elsewhere.ts";
import { freePorts } from "../free-ports.ts";
import { writeSettings } from "../start-proxy.ts";

const PEOPLE: { readonly [sub: string]: object } = {
  ada: { email: "ada@example.com", email_verified: true, groups: ["platform", "finance"] },
  flo: { email: "flo@example.com", email_verified: true, groups: ["finance"] },
  sam: { email: "sam@example.com", email_verified: true, groups: ["search-leads", "engineering"] },
  eve: { email: "ada@example.com", email_verified: false, preferred_username: "eve", groups: ["finance"] },
  ivy: { email: "ada@example.com", preferred_username: "ada@example.com", groups: ["finance"] },
  "no name": { groups: ["finance"] },
  out: { email: "out@example.com", email_verified: true, groups: ["others"] },
  bad: { groups: "platform\u0000" },
};

let elsewhere: Elsewhere;
let identity: Server;
let issuer: string;
/** What is said while there is no provider yet. */
let away: Answer;

beforeAll(async () => {
  const { KEYMETER_ALERTS_PORT: port = "" } = await freePorts();
  issuer = `http://127.0.0.1:${port}`;
  elsewhere = await startElsewhere((server) => ({
    KEYMETER_PAGES_URL: server,
    KEYMETER_SIGN_IN_ISSUER: issuer,
    KEYMETER_SIGN_IN_CLIENT: "keymeter",
    KEYMETER_SIGN_IN_SECRET: "a-secret-of-the-client",
    KEYMETER_CONFIG: writeSettings(`
collector:
  sign_in:
    scopes: profile email groups
    roles: { admin: [platform], finance: [finance], read: [engineering], leads: { search-leads: search } }
`),
  }));
  // The collector runs already: a provider that comes later is asked when somebody signs in.
  away = await ask("/login/begin");
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "keymeter",
        client_secret: "a-secret-of-the-client",
        redirect_uris: [`${elsewhere.server}/login/callback`],
      },
    ],
    claims: {
      openid: ["sub"],
      email: ["email", "email_verified"],
      profile: ["preferred_username"],
      groups: ["groups"],
    },
    findAccount: (_context, sub) => ({ accountId: sub, claims: async () => ({ sub, ...PEOPLE[sub] }) }),
    pkce: { required: () => true },
    cookies: { keys: ["a-key-of-this-test"] },
  });
  identity = createServer(provider.callback());
  await new Promise<void>((resolve) => identity.listen(Number(port), "127.0.0.1", resolve));
}, 60_000);
afterAll(async () => {
  identity?.close();
  await elsewhere?.close();
});

type Answer = { status: number; text: string; location: string; cookies: string[] };

async function ask(
  address: string,
  cookies: readonly string[] = [],
  form?: { [name: string]: string },
): Promise<Answer> {
  const url = new URL(address, address.startsWith("/") ? elsewhere.server : undefined);
  const { statusCode, headers, body } = await request(url, {
    method: form ? "POST" : "GET",
    headers: { cookie: cookies.join("; "), ...(form ? { "content-type": "application/x-www-form-urlencoded" } : {}) },
    ...(form ? { body: new URLSearchParams(form).toString() } : {}),
  });
  return {
    status: statusCode,
    text: await body.text(),
    location: headers.location === undefined ? "" : new URL(String(headers.location), url).href,
    cookies: [headers["set-cookie"] ?? []].flat().map((one) => one.split(";")[0] ?? ""),
  };
}

/** As a browser does it: to the provider, through its pages for signing in and consent, and back. */
async function come(who: string): Promise<{ back: string; begun: string[] }> {
  const begun = await ask("/login/begin");
  expect(begun.status).toBe(302);
  const jar = new Map<string, string>();
  const keep = ({ cookies }: Answer): void => {
    for (const one of cookies) jar.set(one.split("=")[0] ?? "", one);
  };
  let { location } = begun;
  for (let step = 0; step < 12 && location.startsWith(issuer); step++) {
    const page = await ask(location, [...jar.values()]);
    keep(page);
    if (page.status < 400 && page.location !== "") location = page.location;
    else {
      const action = /action="([^"]+)"/.exec(page.text)?.[1] ?? "";
      const prompt = /name="prompt" value="([^"]+)"/.exec(page.text)?.[1] ?? "";
      const sent = await ask(new URL(action, issuer).href, [...jar.values()], { prompt, login: who, password: "any" });
      keep(sent);
      location = sent.location;
    }
  }
  return { back: location, begun: begun.cookies };
}

async function signedIn(who: string): Promise<{ answer: Answer; session: string }> {
  const { back, begun } = await come(who);
  const answer = await ask(back, begun);
  return { answer, session: answer.cookies.find((one) => one.startsWith("keymeter_session=")) ?? "" };
}

describe("signing in with an organisation", () => {
  it("is offered, and gives the role of the groups: the most of them", async () => {
    expect([away.status, away.text]).toEqual([403, expect.stringContaining("does not answer as an identity provider")]);
    expect((await ask("/login")).text).toContain('href="/login/begin"');
    for (const [who, words, home] of [
      ["ada", "ada@example.com (admin)", "/overview"],
      ["flo", "flo@example.com (finance)", "/overview"],
      ["sam", "sam@example.com (lead)", "/team?id=search"],
    ] as const) {
      const { answer, session } = await signedIn(who);
      expect([answer.status, answer.text.replaceAll("&#61;", "=")]).toEqual([
        200,
        expect.stringContaining(`url=${home}`),
      ]);
      expect((await ask(home, [session])).text).toContain(words);
    }
    // An address that the provider does not say is his is no name of anybody.
    for (const who of ["eve", "ivy"]) {
      const { session } = await signedIn(who);
      expect((await ask("/manage", [session])).text).toContain(`Signed in as ${who} (finance)`);
    }
  });

  it("changes what the role may, and the audit names who", async () => {
    const { session } = await signedIn("flo");
    const page = await ask("/change?form=set-budget", [session]);
    const proof = /name="proof" value="([^"]+)"/.exec(page.text)?.[1] ?? "";
    const values = {
      form: "set-budget",
      step: "do",
      once: "sso",
      proof,
      amount: "3",
      window: "day",
      kind: "soft",
      each: "",
      team: "ads",
    };
    expect((await ask("/change", [session], values)).text).toContain("Done");
    expect((await ask("/change?form=make-key", [session])).status).toBe(403);
    const { session: own } = await signedIn("ada");
    expect((await ask("/audit", [own])).text).toContain("sso:flo@example.com");
  });

  it("is refused to who is in no group with a role, or has no name", async () => {
    const { answer, session } = await signedIn("out");
    expect([answer.status, session]).toEqual([403, ""]);
    expect(answer.text).toContain("out@example.com is in no group that has a role here");
    expect(answer.text).toContain("others");
    expect((await signedIn("bad")).answer.text).toContain("bad is in no group");
    expect((await signedIn("no name")).answer.text).toContain("gives you no name in plain characters");
  });

  it("works once, in the browser that began it, with what the provider said", async () => {
    const { back, begun } = await come("ada");
    const { begun: others } = await come("flo");
    expect((await ask(back, others)).status).toBe(403);
    expect((await ask(back)).status).toBe(403);
    // Many that begin keep nobody from it.
    for (let i = 0; i < 1_200; i += 100) await Promise.all(Array.from({ length: 100 }, () => ask("/login/begin")));
    expect((await ask(back, begun)).status).toBe(200);
    expect((await ask(back, begun)).status).toBe(403);
    for (const [name, value] of [
      ["code", "another"],
      ["state", "another"],
      ["iss", "https://login.example.org"],
    ] as const) {
      const came = await come("ada");
      const bent = new URL(came.back);
      bent.searchParams.set(name, value);
      const answer = await ask(bent.href, came.begun);
      expect([
        name,
        answer.status,
        answer.cookies.some((one) => one.startsWith("keymeter_session=") && one.length > 30),
      ]).toEqual([name, 403, false]);
    }
  });
});
