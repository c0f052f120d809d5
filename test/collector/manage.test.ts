// Pages that change things, as people have them: a real proxy, a real collector program and a headless Chromium; by keyboard, with
// nothing serious by axe, each role, and what each may not.
import { request } from "undici";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FORMS } from "../../collector/pages/forms/index.ts";
import { issueToken } from "../../ledger/usage/tokens.ts";
import { startElsewhere } from "../command/elsewhere.ts";
import type { Elsewhere } from "../command/elsewhere.ts";
import { findBarriers, HAS_BROWSER, openBrowser } from "../browser.ts";

let elsewhere: Elsewhere;
beforeAll(async () => {
  elsewhere = await startElsewhere();
}, 60_000);
afterAll(async () => {
  await elsewhere?.close();
});

/** A session without a browser: its cookie. */
async function signIn(who: string): Promise<string> {
  const answer = await request(`${elsewhere.server}/login`, {
    method: "POST",
    headers: { "content-type": "application/x-www-form-urlencoded" },
    body: new URLSearchParams({ token: elsewhere.tokens[who] ?? who }).toString(),
  });
  await answer.body.dump();
  return String(answer.headers["set-cookie"] ?? "").split(";")[0] ?? "";
}

async function ask(
  cookie: string,
  path: string,
  values?: { readonly [name: string]: string },
  headers: { readonly [name: string]: string } = {},
): Promise<{ status: number; text: string }> {
  const { statusCode, body } = await request(`${elsewhere.server}/${path}`, {
    method: values ? "POST" : "GET",
    headers: { cookie, ...(values ? { "content-type": "application/x-www-form-urlencoded" } : {}), ...headers },
    ...(values ? { body: new URLSearchParams(values).toString() } : {}),
  });
  return { status: statusCode, text: await body.text() };
}

const proofIn = (text: string): string => /name="proof" value="([^"]+)"/.exec(text)?.[1] ?? "";
async function proofOf(cookie: string): Promise<string> {
  return proofIn((await ask(cookie, "change?form=set-budget")).text);
}

async function chat(secret: string): Promise<number> {
  const answer = await fetch(`${elsewhere.running.url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify({ model: "gpt-4o-mini", messages: [] }),
  });
  await answer.text();
  return answer.status;
}

describe.skipIf(!HAS_BROWSER)("in a browser", () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await openBrowser();
  });
  afterAll(async () => {
    await browser?.close();
  });

  async function reader(who: string): Promise<{ page: Page; complaints: string[] }> {
    const page = await (await browser.newContext()).newPage();
    const complaints: string[] = [];
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    await page.goto(`${elsewhere.server}/login`);
    await page.getByLabel("Token").fill(elsewhere.tokens[who] ?? "");
    await page.keyboard.press("Enter");
    await page.waitForURL(/overview|team/);
    return { page, complaints };
  }

  /** The step before does nothing; the one after does it. */
  async function lookAndDo(page: Page, does: string, effect: RegExp): Promise<void> {
    expect(await findBarriers(page)).toEqual([]);
    await page.getByRole("button", { name: "Show what this does" }).press("Enter");
    await page.getByRole("button", { name: does }).waitFor();
    expect(await page.locator("main").innerText()).toMatch(effect);
    expect(await findBarriers(page)).toEqual([]);
    await page.getByRole("button", { name: does }).press("Enter");
    await page.getByRole("heading", { name: "Done", exact: true }).waitFor();
    expect(await findBarriers(page)).toEqual([]);
  }

  it("a lead makes a key, pauses it, resumes it, rotates it and revokes it, by keyboard", async () => {
    const { page, complaints } = await reader("lea");
    expect(new URL(page.url()).search).toBe("?id=search");
    await page.getByRole("link", { name: "Manage" }).press("Enter");
    await page.getByRole("link", { name: "Make a key" }).press("Enter");
    await page.getByLabel("Name").fill("from-a-page");
    await page.getByLabel("Budget of its own, USD").fill("5");
    await lookAndDo(
      page,
      "Make the key",
      /A new key from-a-page of team search works at once[\s\S]*\$5 a month \(hard/,
    );
    const first = await page.locator(".secret code").innerText();
    expect(await chat(first)).toBe(200);
    // What is shown once is shown once.
    await page.getByRole("link", { name: "Keys" }).press("Enter");
    expect(await page.content()).not.toContain(first);
    await page.getByRole("link", { name: "from-a-page" }).press("Enter");
    await page.getByRole("link", { name: "Pause" }).press("Enter");
    await lookAndDo(page, "Pause it", /Requests with from-a-page are refused/);
    expect(await chat(first)).toBe(403);
    await page.getByRole("link", { name: "Keys" }).press("Enter");
    await page.getByRole("link", { name: "from-a-page" }).press("Enter");
    await page.getByRole("link", { name: "Resume" }).press("Enter");
    await lookAndDo(page, "Resume it", /works again at once/);
    expect(await chat(first)).toBe(200);
    await page.getByRole("link", { name: "Keys" }).press("Enter");
    await page.getByRole("link", { name: "from-a-page" }).press("Enter");
    await page.getByRole("link", { name: "Rotate" }).press("Enter");
    await page.getByLabel("The old secret works for").selectOption("0h");
    await lookAndDo(page, "Give it a new secret", /The old secret is refused from the next request on/);
    const second = await page.locator(".secret code").innerText();
    expect([await chat(first), await chat(second)]).toEqual([401, 200]);
    await page.getByRole("link", { name: "Keys" }).press("Enter");
    await page.getByRole("link", { name: "from-a-page" }).press("Enter");
    await page.getByRole("link", { name: "Revoke" }).press("Enter");
    await lookAndDo(page, "Revoke it for ever", /There is no way back/);
    expect(await chat(second)).toBe(401);
    expect(complaints).toEqual([]);
    await page.context().close();
  });

  it("finance sets a budget, raises it and removes it, approves what was asked, and the audit names who", async () => {
    const { running, keyOf } = elsewhere;
    const asked = await running.createKey({ name: "wants-more", team: "ads" });
    const cap = await running.setBudget({ scope: { keyId: asked.id }, amountNanoUsd: 1_000n, kind: "hard" });
    expect(await chat(asked.secret)).toBe(402);
    const told = await fetch(`${running.url}/keymeter/ask`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${asked.secret}` },
      body: JSON.stringify({ amount: "3", why: "the launch" }),
    });
    expect(told.status).toBe(201);
    const { page, complaints } = await reader("fin");
    await page.goto(`${elsewhere.server}/manage`);
    expect(await findBarriers(page)).toEqual([]);
    await page.getByRole("link", { name: "Approve" }).press("Enter");
    await lookAndDo(page, "Approve it", /the launch[\s\S]*may spend \$3/);
    expect(await chat(asked.secret)).toBe(200);
    expect(await (await page.goto(`${elsewhere.server}/manage`))?.text()).toContain("Nobody asks for more");
    await page.getByRole("link", { name: "Set a budget" }).press("Enter");
    await page.getByLabel("Amount, USD").fill("12.50");
    await page.getByLabel("Kind").selectOption("soft");
    await page.getByLabel("Team").fill("ads");
    await lookAndDo(page, "Set the budget", /A budget that tells only of \$12.50 a month holds for team ads/);
    await page.goto(`${elsewhere.server}/change?form=set-budget`);
    await page.getByLabel("Amount, USD").fill("0");
    await page.getByLabel("Key").fill("of-ads");
    await lookAndDo(page, "Set the budget", /That much is spent already: requests are refused/);
    expect(await chat(keyOf["ads"]?.secret ?? "")).toBe(402);
    await page.goto(`${elsewhere.server}/manage`);
    const row = page.getByRole("row", { name: /of-ads/ });
    await row.getByRole("link", { name: "Raise" }).press("Enter");
    await page.getByLabel("Raise by, USD").fill("4");
    await page.getByLabel("Until the start of").fill("2099-01-01");
    await page.getByLabel("Why").fill("until the new year");
    await lookAndDo(page, "Raise it", /may spend \$4[\s\S]*until 2099-01-01/);
    expect(await chat(keyOf["ads"]?.secret ?? "")).toBe(200);
    await page.goto(`${elsewhere.server}/manage`);
    await page
      .getByRole("row", { name: new RegExp(cap.id) })
      .getByRole("link", { name: "Remove" })
      .press("Enter");
    await lookAndDo(page, "Remove it", /holds no more/);
    await page.goto(`${elsewhere.server}/audit`);
    expect(await findBarriers(page)).toEqual([]);
    const audit = await page.locator("table").innerText();
    for (const action of ["setBudget", "raiseBudget", "removeBudget", "answerAsk"])
      expect(audit).toMatch(new RegExp(`token:fin\\s+${action}`));
    expect(complaints).toEqual([]);
    await page.context().close();
  });
});

describe("each role", () => {
  it("sees its own pages only", async () => {
    const [lea, rob] = [await signIn("lea"), await signIn("rob")];
    const other = elsewhere.keyOf["ads"]?.id ?? "";
    const hidden = [
      "overview",
      "teams",
      "team?id=ads",
      "team?id=",
      `key?id=${other}`,
      "users",
      "bills",
      "audit",
      "changes",
    ];
    const more = [
      "models",
      "refused",
      "chargeback?month=2026-11",
      "repositories",
      "overview.json",
      `key.json?id=${other}`,
    ];
    for (const path of [...hidden, ...more]) expect([path, (await ask(lea, path)).status]).toEqual([path, 403]);
    for (const path of ["team?id=search", "keys", "manage", `key?id=${elsewhere.keyOf["search"]?.id}`, "keys.json"]) {
      const { status, text } = await ask(lea, path);
      expect([path, status]).toEqual([path, 200]);
      expect(text).not.toContain("of-ads");
    }
    const day = new Date().toISOString().slice(0, 10);
    const focus = `focus.csv?since=2026-11-01&until=${new Date(Date.parse(day) + 86_400_000).toISOString().slice(0, 10)}`;
    await chat(elsewhere.keyOf["ads"]?.secret ?? "");
    expect((await ask(lea, `${focus}&team=ads`)).text).not.toContain("of-ads");
    for (const path of ["overview", "audit", "manage", "keys"]) expect((await ask(rob, path)).status).toBe(200);
    // The read token, whose holder has no name, sees all and changes nothing.
    const plain = await signIn(elsewhere.readToken);
    expect((await ask(plain, "manage")).text).toContain("reads, and changes nothing");
  });

  it("gets no form that it may not, and none does what it may not", async () => {
    const sessions = Object.fromEntries(
      await Promise.all(["rob", "lea", "fin"].map(async (who) => [who, await signIn(who)] as const)),
    );
    const may: { readonly [who: string]: RegExp } = { rob: /^$/, lea: /./, fin: /budget|ask/ };
    const plain = await signIn(elsewhere.readToken);
    const values = {
      key: elsewhere.keyOf["ads"]?.id ?? "",
      name: "x",
      amount: "1",
      budget: "bud_x",
      ask: "ask_x",
      why: "y",
      until: "2099-01-01",
    };
    let refused = 0;
    for (const form of [...FORMS.keys(), "nothing", "constructor"])
      for (const [who, cookie] of [...Object.entries(sessions), ["reader", plain] as const]) {
        if (FORMS.has(form) && may[who]?.test(form)) continue;
        for (const step of ["fill", "look", "do"]) {
          const { status, text } = await ask(cookie, "change", { form, step, proof: "x", once: "1", ...values });
          // For the role, before anybody looks whose form it is.
          expect([form, who, step, status, text]).toEqual([
            form,
            who,
            step,
            403,
            expect.stringContaining("This sign-in may not do that"),
          ]);
          refused += 1;
        }
      }
    expect(refused).toBeGreaterThan(60);
    // What a lead's forms name beyond the team is not there, and the books refuse the rest.
    const { lea = "" } = sessions;
    const proof = await proofOf(lea);
    const teams = await elsewhere.running.setBudget({ scope: { team: "search" }, amountNanoUsd: 9_000_000_000n });
    for (const [form, given, why] of [
      ["pause-key", { key: "of-ads" }, "There is no key of-ads"],
      ["rotate-key", { key: values.key, grace: "24h" }, "There is no key"],
      ["revoke-key", { key: values.key }, "There is no key"],
      ["set-budget", { amount: "1", window: "month", kind: "hard", each: "", key: values.key }, "There is no key"],
      [
        "set-budget",
        { amount: "1", window: "month", kind: "hard", each: "", team: "ads" },
        "is set by finance or an admin",
      ],
      [
        "raise-budget",
        { budget: teams.id, amount: "1", until: "2099-01-01", why: "x" },
        "is set by finance or an admin",
      ],
      ["remove-budget", { budget: teams.id }, "is set by finance or an admin"],
      ["approve-ask", { ask: "ask_none" }, "Nobody asks ask_none"],
      ["rotate-key", { key: "of-search", grace: "--to=file:/tmp/x" }, "none of the choices"],
      ["make-key", { name: "a\u0007b", window: "month", kind: "hard" }, "no text"],
    ] as const) {
      for (const step of ["look", "do"]) {
        const { status, text } = await ask(lea, "change", { form, step, proof, once: `${form} ${why}`, ...given });
        expect([form, step, status, text.replaceAll("&#39;", "'")]).toEqual([
          form,
          step,
          422,
          expect.stringContaining(why),
        ]);
      }
    }
    // Words that look like options are values.
    const made = await ask(lea, "change", {
      form: "make-key",
      step: "do",
      once: "option",
      proof,
      name: "--team=ads",
      window: "month",
      kind: "hard",
    });
    expect([made.status, made.text]).toEqual([200, expect.stringContaining("km_")]);
    expect((await elsewhere.there("ann", "keys", "list", "--json")).text).toContain('"name":"--team=ads"');
  });

  it("changes nothing from another site, or with another session's form", async () => {
    const [fin, other] = [await signIn("fin"), await signIn("fin")];
    const proof = await proofOf(fin);
    const values = {
      form: "set-budget",
      step: "do",
      once: "csrf",
      amount: "1",
      window: "day",
      kind: "soft",
      each: "",
      env: "forged",
    };
    for (const [cookie, given, headers] of [
      [fin, {}, {}],
      [fin, { proof: "x" }, {}],
      [fin, { proof: await proofOf(other) }, {}],
      [fin, { proof }, { "sec-fetch-site": "cross-site" }],
      [fin, { proof }, { "sec-fetch-site": "same-site" }],
    ] as const)
      expect((await ask(cookie, "change", { ...values, ...given }, headers)).status).toBe(403);
    expect((await ask("", "change", { ...values, proof })).status).toBe(401);
    // A bearer has no session, and no form.
    const bearer = { authorization: `Bearer ${elsewhere.tokens["fin"]}` };
    expect((await ask("", "change", { ...values, proof }, bearer)).status).toBe(403);
    expect((await ask(fin, `change?${new URLSearchParams({ ...values, proof }).toString()}`)).text).toContain(
      "Show what this does",
    );
    expect((await elsewhere.there("ann", "budgets", "list", "--json")).text).not.toContain("forged");
    expect((await ask(fin, "change", { ...values, proof }, { "sec-fetch-site": "same-origin" })).status).toBe(200);
  });

  it("does it once, however often it is sent", async () => {
    const fin = await signIn("fin");
    const proof = await proofOf(fin);
    const budget = await elsewhere.running.setBudget({ scope: { env: "twice" }, amountNanoUsd: 1_000_000_000n });
    const values = { form: "raise-budget", budget: budget.id, amount: "4", until: "2099-01-01", why: "x", proof };
    const look = await ask(fin, "change", { ...values, step: "look" });
    const once = /name="once" value="([^"]+)"/.exec(look.text)?.[1] ?? "";
    const sent = await Promise.all([1, 2, 3].map(() => ask(fin, "change", { ...values, step: "do", once })));
    expect(sent.map(({ status }) => status).toSorted()).toEqual([200, 422, 422]);
    const { text } = await elsewhere.there("ann", "budgets", "list", "--json");
    const found = (JSON.parse(text) as { id: string; raises?: object[] }[]).find(({ id }) => id === budget.id);
    expect(found?.raises).toHaveLength(1);
  });

  it("is signed out when the token ends, and no cookie makes itself more", async () => {
    const { token, digest, secret } = issueToken({ name: "tom", role: "finance" }, undefined, Date.now());
    await elsewhere.running.change({ type: "createToken", token, digest });
    elsewhere.tokens["tom"] = secret;
    const cookie = await signIn("tom");
    expect((await ask(cookie, "manage")).status).toBe(200);
    const [until, word, who = "", signature] = cookie.replace("keymeter_session=", "").split(".");
    const holder = JSON.parse(Buffer.from(who, "base64url").toString()) as object;
    const better = Buffer.from(JSON.stringify({ ...holder, role: "admin" })).toString("base64url");
    expect((await ask(`keymeter_session=${until}.${word}.${better}.${signature}`, "manage")).status).toBe(401);
    // What a form brings back is no session, and a session that was left stays left.
    const proof = await proofOf(cookie);
    const forged = encodeURIComponent(`form\n${until}.${word}.${who}.${proof}`);
    for (const made of [forged, `${until}.${word}.${who}.${proof}`, `Infinity.${word}.${who}.${signature}`])
      expect((await ask(`keymeter_session=${made}`, "manage")).status).toBe(401);
    const other = await signIn("tom");
    await ask(other, "logout", {});
    expect((await ask(other, "manage")).status).toBe(401);
    await elsewhere.running.change({ type: "revokeToken", tokenId: token.id });
    expect((await ask(cookie, "manage")).status).toBe(401);
    expect((await ask(await signIn(elsewhere.running.adminToken), "overview")).status).toBe(401);
  });
});
