// The command asked of a Keymeter elsewhere: a real proxy and a real collector program, tokens of each role, and what each may not.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { request } from "undici";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Change } from "../../ledger/usage/changes.ts";
import { issueToken, ROLES } from "../../ledger/usage/tokens.ts";
import type { Role } from "../../ledger/usage/tokens.ts";
import { FILES, RULES, rolesFor } from "../../command/remote/rules.ts";
import { VERBS } from "../../command/verbs.ts";
import { json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { temporaryFolder } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { startElsewhere } from "./elsewhere.ts";
import type { Elsewhere } from "./elsewhere.ts";

const NOW = Date.now();
const LATER = NOW + 86_400_000;
/** What runs at its own machine only. */
const LOCAL = [
  "up",
  "proxy",
  "collector",
  "alerts",
  "login",
  "logout",
  "connect",
  "disconnect",
  "run",
  "status",
  "ask",
];
const LOCAL_TOO = ["backup", "ledger", "completion", "demo"];

let elsewhere: Elsewhere;
let running: RunningProxy;
let server: string;
let tokens: Elsewhere["tokens"];
let keyOf: Elsewhere["keyOf"];
/** The home of whoever runs the collector, who has signed in at another Keymeter. */
const operatorsHome = temporaryFolder();
let caught: FakeProvider;
beforeAll(async () => {
  caught = await startFakeProvider(json({ name: "other", role: "admin" }));
  mkdirSync(join(operatorsHome, "keymeter"));
  const profiles = { current: "other", profiles: { other: { server: caught.url, token: "kmt_of-the-operator" } } };
  writeFileSync(join(operatorsHome, "keymeter", "profiles.yaml"), JSON.stringify(profiles), { mode: 0o600 });
  elsewhere = await startElsewhere(() => ({
    XDG_CONFIG_HOME: operatorsHome,
    KEYMETER_SERVER: caught.url,
    KEYMETER_TOKEN: "kmt_of-the-operator",
  }));
  ({ running, server, tokens, keyOf } = elsewhere);
}, 60_000);
afterAll(async () => {
  await elsewhere?.close();
  await caught?.close();
});

const NAME_OF: { readonly [role in Role]: string } = { read: "rob", lead: "lea", finance: "fin", admin: "ann" };
const there: Elsewhere["there"] = (who, ...words) => elsewhere.there(who, ...words);

/** The question without the command in front of it. */
async function question(
  token: string,
  args: readonly string[],
  more: object = {},
): Promise<{ status: number; text: string }> {
  const { statusCode, body } = await request(`${server}/command`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ args, files: {}, ...more }),
  });
  return { status: statusCode, text: await body.text() };
}

async function changeAs(token: string, change: object): Promise<{ status: number; text: string }> {
  const { statusCode, body } = await request(`${running.opsUrl}/admin/changes`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify(change, (_name, value: unknown) => (typeof value === "bigint" ? value.toString() : value)),
  });
  return { status: statusCode, text: await body.text() };
}

describe("a command from elsewhere", () => {
  it("does what the local one does, and the audit names who", async () => {
    const made = await there("ann", "keys", "create", "--name", "far", "--team", "search", "--user", "eve", "--json");
    expect(made.code).toBe(0);
    const { key, id } = JSON.parse(made.text) as { key: string; id: string };
    const asked = await fetch(`${running.url}/openai/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
      body: JSON.stringify({ model: "gpt-4o-mini", messages: [] }),
    });
    expect(asked.status).toBe(200);
    await asked.text();
    const turned = JSON.parse((await there("ann", "keys", "rotate", "far", "--json")).text) as { id: string };
    expect(turned.id).toBe(id);
    const list = await there("rob", "keys", "list", "--json");
    const here = await runKeymeter(running, "keys", "list", "--json");
    expect(JSON.parse(list.text)).toEqual(JSON.parse(here.text));
    expect((await there("rob", "spend", "--by", "key", "--json")).text).toBe(
      (await runKeymeter(running, "spend", "--by", "key", "--json")).text,
    );
    const audit = await runKeymeter(running, "verify");
    expect([audit.code, audit.text]).toEqual([0, expect.stringContaining("are what the audit says")]);
    expect(await actors()).toContain("createKey token:ann");
    expect((await there("rob", "tokens", "me")).text).toBe("rob, read\n");
  });

  it("gives back the exit code and what was wrong, as the local one", async () => {
    for (const words of [
      ["spend", "--by", "nothing"],
      ["keys", "show", "nobody"],
      ["spend", "--bye", "team"],
    ]) {
      const [far, near] = [await there("rob", ...words), await runKeymeter(running, ...words)];
      expect([far.code, far.text]).toEqual([near.code, near.text]);
      expect(far.code).toBe(2);
    }
  });

  it("takes files along and brings them back, and reads no other", async () => {
    const folder = temporaryFolder();
    const file = join(folder, "budgets.yaml");
    writeFileSync(file, "budgets:\n  - { amount: 70/month, team: search, hard: true }\n");
    const shown = await there("ann", "apply", "-f", file, "--dry-run");
    expect([shown.code, shown.text]).toEqual([0, expect.stringContaining("team search")]);
    const applied = await there("ann", "apply", `--file=${file}`, "--yes");
    expect([applied.code, applied.text]).toEqual([0, expect.stringContaining("1 changes made")]);
    const out = join(folder, "bill.parquet");
    expect((await there("rob", "export", "focus", "--out", out)).code).toBe(0);
    expect(readFileSync(out).subarray(0, 4).toString()).toBe("PAR1");
    // Words that the client would never send.
    for (const path of ["/etc/hostname", "../../etc/hostname", `${running.dataDir}/admin-token`, ".hidden"]) {
      const { status, text } = await question(tokens["ann"] ?? "", ["apply", "-f", path]);
      expect([status, said(text)]).toEqual([200, `${path} is not a file that was sent along\n`]);
      const written = await question(tokens["ann"] ?? "", ["export", "focus", "--out", path]);
      expect(said(written.text)).toContain("is not a file that was sent along");
    }
    expect((await question(tokens["ann"] ?? "", ["apply"], { files: { "../x": "" } })).status).toBe(400);
  });

  it("is for the holders of tokens that are good now", async () => {
    const { token, digest, secret } = issueToken({ name: "tim", role: "read" }, NOW + 3_000_000, NOW);
    const ended = issueToken({ name: "ron", role: "read" }, NOW - 1, NOW - 2);
    await running.change({ type: "createToken", token, digest });
    await running.change({ type: "createToken", token: ended.token, digest: ended.digest });
    expect((await question(secret, ["tokens", "me"])).status).toBe(200);
    await running.change({ type: "revokeToken", tokenId: token.id });
    for (const bad of [secret, ended.secret, `${secret.slice(0, -1)}x`, "", "kmt_", running.adminToken.slice(1)])
      expect((await question(bad, ["tokens", "me"])).status).toBe(401);
    expect((await there("kmt_wrong", "keys", "list")).text).toContain("does not know this token");
    // As whoever asks, wherever the collector's own user is signed in.
    expect(said((await question(tokens["lea"] ?? "", ["tokens", "me"])).text)).toBe("lea, lead of search\n");
    expect(caught.journal).toEqual([]);
    // What is no API key is not sent to a provider as one, whatever stands around it.
    const before = elsewhere.provider.journal.length;
    const { ann = "" } = tokens;
    const { secret: own } = await running.createKey({ name: "beside" });
    for (const headers of [
      { authorization: `Bearer ${ann}` },
      { authorization: `Bearer KEYMETER_TOKEN=${ann}` },
      { authorization: `Bearer sk-"${ann}"` },
      { "x-api-key": `(${ann})` },
      { authorization: `Bearer token:${ann}`, "x-keymeter-key": own },
    ]) {
      const asked = await fetch(`${running.url}/openai/v1/chat/completions`, {
        method: "POST",
        headers: { "content-type": "application/json", ...headers } as { [name: string]: string },
        body: JSON.stringify({ model: "gpt-4o-mini", messages: [] }),
      });
      expect([asked.status, await asked.text()]).toEqual([401, expect.stringContaining("kmt_")]);
    }
    expect(elsewhere.provider.journal.length).toBe(before);
    // No token stays on the disk.
    expect(readdirSync(join(running.dataDir, "commands"))).toEqual([]);
  });

  it("is told what went wrong when the other side is none, breaks off, or has no room", async () => {
    const ask = (url: string): ReturnType<typeof runKeymeter> =>
      runKeymeter(
        {
          dataDir: join(operatorsHome, "nothing"),
          opsUrl: "http://127.0.0.1:1",
          environment: { HOME: temporaryFolder() },
        },
        "--server",
        url,
        "--token",
        "kmt_x",
        "keys",
        "list",
      );
    const broken = await startFakeProvider((_arrived, response) => {
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      response.write(`${JSON.stringify({ out: "aGk=" })}\n`);
      setTimeout(() => response.destroy(), 50);
    });
    const bent = await startFakeProvider(
      (_arrived, response) => void response.writeHead(200).end('{"hello":1}\nnot json\n'),
    );
    for (const url of [broken.url, bent.url]) {
      const { code, text } = await ask(url);
      expect([code, text]).toEqual([1, expect.stringContaining("broke off before the command was over")]);
      expect(text).not.toMatch(/^ {4}at /m);
    }
    await broken.close();
    await bent.close();
    const lost = await there("rob", "export", "focus", "--out", "/no/such/folder/x.csv");
    expect([lost.code, lost.text]).toEqual([2, "there is no folder /no/such/folder\n"]);
    // A token of the environment goes to the server of the environment, and to no profile's.
    const profiled = await runKeymeter(
      {
        dataDir: join(operatorsHome, "nothing"),
        opsUrl: "http://127.0.0.1:1",
        environment: { XDG_CONFIG_HOME: operatorsHome, KEYMETER_SERVER: server, KEYMETER_TOKEN: tokens["ann"] ?? "" },
      },
      "--profile",
      "other",
      "keys",
      "list",
    );
    expect(profiled.code).toBe(1);
    expect(caught.journal.map(({ headers }) => headers.authorization)).toEqual(["Bearer kmt_of-the-operator"]);
  });

  it("takes no more than two of one holder at once, and ends what nobody waits for", async () => {
    // Somebody sends a body, a byte at a time, and holds a place by that.
    const open: ReturnType<typeof connect>[] = [];
    const hold = (): Promise<void> =>
      new Promise((resolve) => {
        const socket = connect(Number(new URL(server).port), "127.0.0.1", () => {
          socket.write(
            `POST /command HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${tokens["rob"]}\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{`,
            () => resolve(),
          );
        });
        socket.on("error", () => undefined);
        open.push(socket);
      });
    await hold();
    const asked = async (who: string): Promise<number> => (await question(tokens[who] ?? "", ["tokens", "me"])).status;
    const soon = { timeout: 30_000 };
    // A question that came first may have had the place of one: then another takes it.
    await expect.poll(() => hold().then(() => asked("rob")), soon).toBe(429);
    expect(await asked("ann")).toBe(200);
    for (const socket of open) socket.destroy();
    await expect.poll(() => asked("rob"), soon).toBe(200);
    expect((await question(tokens["rob"] ?? "", ["tokens", "me"], { input: "A".repeat(1_500_000) })).status).toBe(413);
  });

  it("is signed in to once, in a file that only its user can read", async () => {
    const own = temporaryFolder();
    const environment = { HOME: own, XDG_CONFIG_HOME: join(own, "config") };
    const file = join(own, "token");
    writeFileSync(file, `${tokens["rob"]}\n`);
    const beside = { dataDir: join(own, "nothing"), opsUrl: "http://127.0.0.1:1", environment };
    const signedIn = await runKeymeter({ ...beside, stdin: file }, "login", "--server", server);
    expect([signedIn.code, signedIn.text]).toEqual([0, expect.stringContaining("rob, read, at ")]);
    const profiles = join(own, "config", "keymeter", "profiles.yaml");
    expect(statSync(profiles).mode & 0o777).toBe(0o600);
    expect((await runKeymeter(beside, "tokens", "me")).text).toBe("rob, read\n");
    expect((await runKeymeter(beside, "--local", "keys", "list")).text).toContain("KEYMETER_DATA_DIR");
    expect((await runKeymeter(beside, "--profile", "other", "keys", "list")).text).toContain(
      "there is no profile other",
    );
    expect((await runKeymeter(beside, "logout")).code).toBe(0);
    expect(existsSync(profiles)).toBe(false);
    const plain = await runKeymeter(beside, "--server", "http://keymeter.example.com", "--token", "kmt_x", "spend");
    expect([plain.code, plain.text]).toEqual([2, expect.stringContaining("without encryption")]);
  });
});

describe("each role", () => {
  it("is told of each verb whether it may ask it: all others are refused before anything runs", async () => {
    let refused = 0;
    for (const verb of Object.keys(VERBS)) {
      const rule = RULES[verb];
      const isLocal = [...LOCAL, ...LOCAL_TOO].includes(verb);
      expect([verb, rule === undefined]).toEqual([verb, isLocal]);
      const words = rule && !Array.isArray(rule) ? Object.keys(rule).filter((word) => word !== "*") : [];
      for (const word of [...words, "anything"])
        for (const role of ROLES) {
          if (rolesFor(verb, word)?.includes(role)) continue;
          const { status, text } = await question(tokens[NAME_OF[role]] ?? "", [verb, word]);
          expect([verb, word, role, status]).toEqual([verb, word, role, 403]);
          expect(text).toMatch(/may not do that|on its own machine only/);
          refused += 1;
        }
    }
    for (const name of ["constructor", "__proto__", "toString", ""])
      expect((await question(tokens["ann"] ?? "", [name])).status).toBe(403);
    expect(refused).toBeGreaterThan(150);
    // A verb with files is one that somebody may ask.
    expect(Object.keys(FILES).filter((verb) => !RULES[verb])).toEqual([]);
  });

  it("changes nothing that it may not, by whichever door", async () => {
    const [own, other] = [keyOf["search"]?.id ?? "", keyOf["ads"]?.id ?? ""];
    const key = (team: string) => ({
      id: `key_${team}00000000`.slice(0, 14),
      kind: "virtual",
      name: `new-${team}`,
      team,
      project: "",
      env: "",
      user: "",
      state: "active",
      hint: "abcd",
      createdAtMs: NOW,
      purpose: "",
      policy: {},
    });
    const budget = (scope: object, more: object = {}) => ({
      type: "setBudget",
      budget: {
        id: `bud_${Math.random().toString(36).slice(2, 12)}`,
        scope,
        window: "month",
        amountNanoUsd: "7000000000",
        kind: "soft",
        mode: "expected",
        createdAtMs: NOW,
        ...more,
      },
    });
    const teams = await running.setBudget({ scope: { team: "search" }, amountNanoUsd: 50_000_000_000n });
    const provider = await running.setBudget({
      scope: { team: "search", provider: "openai" },
      amountNanoUsd: 50_000_000_000n,
    });
    const { id: _theirs } = await running.createKey({
      name: "of-anna",
      team: "ads",
      project: "of-ads-alone",
      userName: "Anna",
    });
    const users = JSON.parse((await there("ann", "users", "list", "--json")).text) as { id: string; name: string }[];
    const others = { user: users.find(({ name }) => name === "Anna")?.id ?? "" };
    const rule = await running.setBudget({
      scope: {},
      each: "key",
      window: "week",
      kind: "hard",
      amountNanoUsd: 1_000_000_000n,
    });
    const ofOther = await running.setBudget({ scope: { keyId: other }, amountNanoUsd: 50_000_000_000n });
    const raise = (budgetId: string) => ({
      type: "raiseBudget",
      raise: {
        id: `rai_${budgetId.replace("/", "-")}`,
        budgetId,
        amountNanoUsd: "1",
        reason: "r",
        createdAtMs: NOW,
        untilMs: LATER,
      },
    });
    // Ids are none of other things, and no options.
    for (const id of ["", "-h", "of-ads", "a/b"])
      expect(
        (
          await changeAs(tokens["lea"] ?? "", {
            type: "createKey",
            key: { ...key("search"), id },
            digest: "8".repeat(64),
          })
        ).status,
      ).toBeGreaterThan(399);
    expect(
      (
        await changeAs(tokens["rob"] ?? "", {
          type: "createKey",
          key: { ...key("search"), user: undefined, owner: "by-rob" },
          digest: "9".repeat(64),
        })
      ).status,
    ).toBe(400);
    expect((await there("ann", "users", "list")).text).not.toContain("by-rob");
    const frozen = {
      type: "freeze",
      freeze: { id: "frz_1", scope: { team: "search" }, reason: "r", createdAtMs: NOW },
    };
    await running.change(frozen as Change);
    const { token, digest } = issueToken({ name: "mallory", role: "admin" }, undefined, NOW);
    const seat = { type: "setSeatPrice", seat: { scope: `key:${own}`, month: "2026-11", priceNanoUsd: "1" } };
    const forLead: readonly object[] = [
      { type: "createKey", key: key("ads"), digest: "0".repeat(64) },
      { type: "createKey", key: { ...key("search"), policy: { users: "body" } }, digest: "1".repeat(64) },
      { type: "createKey", key: key("search"), digest: "2".repeat(64), budget: budget({ team: "search" }).budget },
      // Others' people, projects and names, and caps that others set for each.
      { type: "createKey", key: { ...key("search"), user: others.user }, digest: "6".repeat(64) },
      { type: "createKey", key: { ...key("search"), project: "of-ads-alone" }, digest: "7".repeat(64) },
      { type: "describeKey", keyId: own, fields: { user: others.user } },
      { type: "describeKey", keyId: own, fields: { name: "of-ads" } },
      { type: "nameUser", userId: "user_spare", name: "Spare" },
      budget({ keyId: own }, { window: "week", amountNanoUsd: "900000000000", kind: "hard" }),
      budget({ keyId: own }, { window: "week" }),
      budget({ team: "search", keyId: other }),
      raise(`${rule.id}/${own}`),
      { type: "setKeyState", keyId: other, state: "revoked" },
      { type: "rotateKey", keyId: other, digest: "3".repeat(64), hint: "abcd", graceUntilMs: LATER },
      { type: "describeKey", keyId: other, fields: { team: "search" } },
      { type: "describeKey", keyId: own, fields: { team: "ads" } },
      { type: "setPolicy", keyId: other, policy: {} },
      { type: "setPolicy", keyId: own, policy: { unpriced: "allow" } },
      { type: "setPolicy", keyId: own, policy: { tags: { customer: "acme" } } },
      budget({}),
      budget({ team: "search" }),
      budget({ team: "search", model: "gpt-5*" }),
      budget({ team: "ads", keyId: own }),
      budget({ keyId: other }),
      budget({ user: "user_abc" }),
      budget({}, { each: "user" }),
      { type: "removeBudget", budgetId: teams.id },
      { type: "removeBudget", budgetId: provider.id },
      { type: "removeBudget", budgetId: ofOther.id },
      raise(teams.id),
      raise(ofOther.id),
      raise("bud_nothing"),
      { type: "lift", freezeId: "frz_1" },
      { type: "freeze", freeze: { id: "frz_2", scope: {}, reason: "r", createdAtMs: NOW } },
      { type: "setLimits", limits: { scope: "org", requestsPerMinute: 1 } },
      { type: "setLimits", limits: { scope: "team:search", requestsPerMinute: 1 } },
      { type: "setLimits", limits: { scope: `key:${other}`, requestsPerMinute: 1 } },
      { type: "removeLimits", scope: "org" },
      seat,
    ];
    const forFinance: readonly object[] = [
      { type: "createKey", key: key("ads"), digest: "4".repeat(64) },
      { type: "setKeyState", keyId: own, state: "paused" },
      { type: "rotateKey", keyId: own, digest: "5".repeat(64), hint: "abcd", graceUntilMs: LATER },
      { type: "describeKey", keyId: own, fields: { name: "mine" } },
      { type: "setPolicy", keyId: own, policy: {} },
      { type: "setLimits", limits: { scope: "org", requestsPerMinute: 1 } },
      { type: "nameUser", userId: "user_abc", name: "Eve" },
    ];
    const forAll: readonly object[] = [
      { type: "forgetUser", userId: "user_abc" },
      { type: "createToken", token, digest },
      { type: "revokeToken", tokenId: token.id },
      { type: "closeWork", workId: "w" },
      { type: "acceptClock" },
      { type: "adjust", adjustments: [] },
      { type: "rotateCredential", rotationId: "r", step: 1, place: "openai", state: "planned", said: "x" },
      { type: "endOldSecrets", keyId: other, untilMs: NOW },
    ];
    const before = await actors();
    let refused = 0;
    for (const [who, changes] of [
      ["rob", [...forLead, ...forFinance, ...forAll]],
      ["lea", [...forLead, ...forAll]],
      ["fin", [...forFinance, ...forAll]],
    ] as const)
      for (const change of changes) {
        for (const made of [change, { type: "together", changes: [change] }]) {
          const { status, text } = await changeAs(tokens[who] ?? "", made);
          expect([who, change, status, text]).toEqual([who, change, 403, expect.stringContaining("may not do that")]);
          refused += 1;
        }
      }
    for (const who of ["rob", "lea", "fin"]) {
      const bearer = { authorization: `Bearer ${tokens[who]}` };
      const post = (path: string, body: object, headers = bearer): Promise<number> =>
        fetch(`${running.opsUrl}${path}`, {
          method: "POST",
          headers: { ...headers, "content-type": "application/json" },
          body: JSON.stringify(body),
        }).then(({ status }) => status);
      if (who !== "fin") expect(await post("/admin/cut", { team: "ads" })).toBe(403);
      expect(await post(`/admin/keys/${other}/rotate`, { graceUntilMs: LATER })).toBe(403);
      expect((await fetch(`${running.opsUrl}/admin/check`, { headers: bearer })).status).toBe(403);
      const task = { type: "rotate", place: "openai", by: "me", why: "", isLeaked: false };
      const told = await fetch(`${server}/admin/tasks`, {
        method: "POST",
        headers: { ...bearer, "content-type": "application/json" },
        body: JSON.stringify(task),
      });
      expect(told.status).toBe(403);
      refused += 3;
    }
    expect(refused).toBeGreaterThan(100);
    // Nothing of all that is in the audit, and nothing half of a change is there.
    expect(await actors()).toEqual(before);
    expect((await runKeymeter(running, "verify")).code).toBe(0);
  });

  it("a lead sees and changes the team, and what is inside its budget", async () => {
    const own = keyOf["search"]?.id ?? "";
    const list = JSON.parse((await there("lea", "keys", "list", "--json")).text) as { team: string }[];
    expect(new Set(list.map(({ team }) => team))).toEqual(new Set(["search"]));
    expect((await there("lea", "keys", "show", "of-ads")).text).toContain("there is no key of-ads");
    expect((await there("lea", "spend", "--team", "ads")).text).toContain("this token is of team search");
    expect(JSON.parse((await there("lea", "spend", "--json")).text)).toMatchObject({ within: { team: "search" } });
    expect(JSON.parse((await there("lea", "events", "--json")).text.split("\n")[0] ?? "{}")).toMatchObject({
      team: "search",
    });
    const capped = await there(
      "lea",
      "budgets",
      "set",
      "--key",
      "of-search",
      "--amount",
      "5/month",
      "--hard",
      "--json",
    );
    expect(capped.code).toBe(0);
    const { id } = JSON.parse(capped.text) as { id: string };
    expect(
      (await there("lea", "budgets", "raise", id, "--by", "5", "--until", "2027-01-01", "--why", "launch")).code,
    ).toBe(0);
    const budgets = JSON.parse((await there("lea", "budgets", "list", "--json")).text) as {
      scope: { team?: string; keyId?: string };
    }[];
    expect(budgets.length).toBeGreaterThan(1);
    expect(budgets.every(({ scope }) => scope.team === "search" || scope.keyId === own)).toBe(true);
    expect((await there("lea", "limits", "set", "--key", "of-search", "--rpm", "60")).code).toBe(0);
    expect((await there("lea", "budgets", "set", "--team", "search", "--amount", "900/month")).text).toContain(
      "is set by finance or an admin",
    );
    expect((await there("lea", "keys", "rotate", "of-search", "--to", "file:/tmp/x")).text).toContain(
      "an admin does that",
    );
    expect((await there("lea", "forecast")).code).toBe(0);
  });
});

/** What both outputs of a command said. */
function said(lines: string): string {
  return lines
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { out?: string; err?: string })
    .map(({ out = "", err = "" }) => Buffer.from(out + err, "base64").toString())
    .join("");
}

async function actors(): Promise<string[]> {
  const { openUsage } = await import("../../ledger/open.ts");
  const { rowsOf } = await import("../../ledger/engine.ts");
  const books = await openUsage(running.place);
  if (!books) throw new Error("no books");
  const rows = await rowsOf<[string, string]>(books, "SELECT action, actor FROM audit ORDER BY seq");
  await books.close();
  return rows.map(([action, actor]) => `${action} ${actor}`);
}
