// Each receiver beside Slack, with the real program: a leak is one message there, updated, resolved, acknowledged where that can be;
// through 429, 500, a hang, an outage, an answer that gets lost, and kill -9 in the middle.
import type { AddressInfo } from "node:net";
import { SMTPServer } from "smtp-server";
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { loadAlertsConfig } from "../../alerts/config.ts";
import { HTML, MARKDOWN, PLAIN, writeMessage } from "../../alerts/receivers/words.ts";
import { readOutbox } from "../../ledger/notices/notices.ts";
import { openNotices } from "../../ledger/open.ts";
import { freePorts } from "../free-ports.ts";
import { CHANNEL, CHAT, DISCORD_TOKEN, startFakeReceivers, TELEGRAM_TOKEN, WEBHOOK_SECRET } from "../fake/receivers.ts";
import type { FakeReceivers, Kind, Standing } from "../fake/receivers.ts";
import { IS_CI, SEED } from "../seed.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { temporaryFolder, writeSettings } from "../start-proxy.ts";

const ENTRY = fileURLToPath(new URL("../../keymeter.ts", import.meta.url));
const KINDS = ["telegram", "discord", "webhook"] as const;
/** With small counts one of each, by the seed. */
const oneOf = <T>(all: readonly T[]): readonly T[] => (IS_CI ? all : all.slice(SEED % all.length).slice(0, 1));
const EVIL = "key_<b>@everyone*x*`";

let fake: FakeReceivers;
let dataDir: string;
let environment: { [name: string]: string };
let child: ChildProcess | undefined;
let url: string;
let mailPort: number;
let mail: SMTPServer;
/** What arrived, and what becomes of the next ones. */
let mails: string[];
let mailFailures: ("later" | "lost" | "hang")[];
/** Addresses that are not taken the next time, and to whom each mail went. */
let addressFailures: string[];
let recipients: string[][];

/** A real SMTP server. */
async function startMail(): Promise<void> {
  mails = [];
  mailFailures = [];
  addressFailures = [];
  recipients = [];
  mail = new SMTPServer({
    disabledCommands: ["STARTTLS"],
    authOptional: false,
    allowInsecureAuth: true,
    onAuth: ({ username, password }, _session, done) =>
      username === "keymeter" && password === "of-a-test" ? done(null, { user: username }) : done(new Error("wrong")),
    onRcptTo({ address }, _session, done) {
      const at = addressFailures.indexOf(address);
      if (at < 0) return done();
      addressFailures.splice(at, 1);
      done(Object.assign(new Error("greylisted"), { responseCode: 450 }));
    },
    onData(stream, session, done) {
      const chunks: Buffer[] = [];
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("end", () => {
        const failure = mailFailures.shift();
        if (failure === "later") return done(Object.assign(new Error("try again later"), { responseCode: 451 }));
        mails.push(Buffer.concat(chunks).toString());
        recipients.push(session.envelope.rcptTo.map(({ address }) => address));
        if (failure === "hang") return;
        if (failure === "lost") return mail.connections.forEach((one) => one.close());
        done();
      });
    },
  });
  mail.on("error", () => undefined);
  await new Promise<void>((resolve) => mail.listen(0, "127.0.0.1", resolve));
  mailPort = (mail.server.address() as AddressInfo).port;
}

function settingsOf(more = ""): string {
  return writeSettings(`
alerts:
  receivers:
    telegram: { kind: telegram, token: "${TELEGRAM_TOKEN}", chat: "${CHAT}", url: "${fake.url}" }
    discord: { kind: discord, token: "${DISCORD_TOKEN}", channel: "${CHANNEL}", url: "${fake.url}/api/v10" }
    webhook: { kind: webhook, url: "${fake.url}/hook", secret: "${WEBHOOK_SECRET}" }
    teams: { kind: teams, url: "${fake.url}/teams" }
    email: { kind: email, smtp: "smtp://keymeter:of-a-test@127.0.0.1:${mailPort}", from: "keymeter@example.com", to: ["finance@example.com"] }
  routes:
    - { team: discord, to: discord }
    - { team: webhook, topic: leak, to: webhook }
    - { team: teams, to: teams }
    - { team: email, to: email }
    - { to: telegram }
${more}`);
}

async function start(): Promise<void> {
  child = spawn(process.execPath, [ENTRY, "alerts"], { env: environment, stdio: "ignore" });
  await expect
    .poll(
      () =>
        fetch(`${url}/readyz`).then(
          ({ status }) => status,
          () => 0,
        ),
      { timeout: 30_000, interval: 100 },
    )
    .toBe(200);
}

async function stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
  const gone = new Promise((resolve) => child?.once("exit", resolve));
  if (!child?.kill(signal)) return;
  await gone;
  child = undefined;
}

const withProgram = (): void => {
  beforeEach(startAll, 60_000);
  afterEach(stopAll);
};

async function startAll(): Promise<void> {
  fake = await startFakeReceivers();
  await startMail();
  dataDir = temporaryFolder();
  const ports = await freePorts();
  url = `http://127.0.0.1:${ports["KEYMETER_ALERTS_PORT"]}`;
  environment = {
    PATH: process.env["PATH"] ?? "",
    ...ports,
    KEYMETER_DATA_DIR: dataDir,
    KEYMETER_CONFIG: settingsOf(),
    KEYMETER_OWN_RULES: "never",
    KEYMETER_LOG_LEVEL: "silent",
  };
  await start();
}

async function stopAll(): Promise<void> {
  await stop();
  await fake.close();
  await new Promise<void>((resolve) => mail.close(() => resolve()));
}

const STARTED = new Date(Date.now() - 60_000).toISOString();

/** The leak of a key, as Alertmanager delivers it; `kind` is the team, by which it is routed. */
async function deliver(
  kind: Kind | "email",
  status: "firing" | "resolved" = "firing",
  severity = "critical",
  group = "",
): Promise<void> {
  const labels = {
    alertname: "KeymeterKeyUsedElsewhere",
    provider: "openai",
    billed_key: EVIL,
    team: kind,
    topic: "leak",
    severity,
  };
  const answer = await fetch(`${url}/webhook`, {
    method: "POST",
    headers: {
      "content-type": "application/json",
      authorization: `Bearer ${readFileSync(join(dataDir, "webhook-token"), "utf8").trim()}`,
    },
    body: JSON.stringify({
      externalURL: "http://am-1:9093",
      groupKey: `{}:{team="${kind}", topic="leak"}${group}`,
      status,
      commonLabels: labels,
      commonAnnotations: {},
      alerts: [{ status, labels, annotations: {}, startsAt: STARTED, endsAt: "0001-01-01T00:00:00Z" }],
    }),
  });
  expect(answer.status).toBe(200);
}

const headerOf = (text: string, name: string): string =>
  new RegExp(`^${name}: (.*(?:\\r?\\n[ \\t].*)*)`, "im").exec(text)?.[1]?.replace(/\s+/g, " ") ?? "";
const messages = (kind: Kind): Standing[] => fake.standing[kind].filter(({ replyTo }) => replyTo === undefined);
const replies = (kind: Kind): Standing[] => fake.standing[kind].filter(({ replyTo }) => replyTo !== undefined);
async function allSaid(timeout = 60_000): Promise<void> {
  const notices = await openNotices(dataDir);
  if (!notices) throw new Error("no notices");
  try {
    await expect.poll(async () => (await readOutbox(notices)).length, { timeout, interval: 100 }).toBe(0);
  } finally {
    await notices.close();
  }
}

describe.each(oneOf(KINDS))("%s", (kind) => {
  withProgram();

  it("has one message of a leak: posted, updated when it gets worse, resolved in place and beside it", async () => {
    await deliver(kind, "firing", "warning");
    await allSaid();
    expect(messages(kind)).toHaveLength(1);
    const [first] = messages(kind);
    expect(first?.text).toContain("A provider key is used past Keymeter");
    expect(first?.text).toContain("keymeter leaks");
    await deliver(kind, "firing", "critical");
    await allSaid();
    await expect.poll(() => messages(kind)[0]?.text).toContain("Critical");
    expect(
      replies(kind)
        .map(({ text }) => text)
        .join("\n"),
    ).toContain("Now critical");
    await deliver(kind, "resolved");
    await allSaid();
    expect(messages(kind)).toHaveLength(1);
    expect(messages(kind)[0]?.text).toContain("Resolved after ");
    expect(replies(kind).at(-1)).toMatchObject({
      replyTo: first?.id,
      text: expect.stringContaining("Resolved after "),
    });
    // Nothing of it went elsewhere.
    for (const other of KINDS) if (other !== kind) expect(fake.standing[other]).toEqual([]);
  });

  it.each([
    ["429", { status: 429, retryAfter: 1 }],
    ["500", { status: 500 }],
    ["an answer that gets lost", { isTaken: true }],
  ] as const)("through %s: counts as promised", async (what, failure) => {
    fake.failures.push(failure);
    await deliver(kind);
    await allSaid();
    // Telegram knows no message by a nonce, and no bot may look.
    expect(messages(kind).length).toBe(what.includes("lost") && kind === "telegram" ? 2 : 1);
    fake.failures.push(failure);
    await deliver(kind, "resolved");
    await allSaid();
    expect(messages(kind).at(-1)?.text).toContain("Resolved after ");
    expect(messages(kind).length).toBeLessThanOrEqual(2);
  });

  it("that hangs, and is gone for long: what is still so is said once, and others are not held up", async () => {
    const other = kind === "discord" ? "webhook" : "discord";
    fake.outage = { hang: true };
    await deliver(kind);
    await new Promise((resolve) => setTimeout(resolve, 300));
    fake.outage = { status: 503 };
    for (const severity of ["warning", "critical", "warning"]) await deliver(kind, "firing", severity);
    fake.outage = undefined;
    await deliver(other);
    await allSaid();
    expect([messages(kind).length, messages(other).length]).toEqual([1, 1]);
  }, 90_000);

  it("and kill -9 in the middle: the next start says it, once", async () => {
    // It is taken; this program dies before it knows.
    fake.failures.push({ hang: true, isTaken: true });
    await deliver(kind);
    await expect.poll(() => messages(kind).length, { timeout: 10_000 }).toBe(1);
    await stop("SIGKILL");
    await start();
    await allSaid();
    expect(messages(kind).length).toBe(kind === "telegram" ? 2 : 1);
  });

  it("with a message that somebody deleted: a new one is posted", async () => {
    await deliver(kind, "firing", "warning");
    await allSaid();
    fake.remove(kind, messages(kind)[0]?.id ?? "");
    await deliver(kind, "firing", "critical");
    await allSaid();
    // Of a webhook nobody can know it.
    expect(messages(kind).length).toBe(kind === "webhook" ? 0 : 1);
  });
});

describe("words that changed while nobody knew whether they were said", () => {
  withProgram();

  it.each(oneOf(KINDS))("%s ends with the newer ones", async (kind) => {
    fake.failures.push({ isTaken: true });
    await deliver(kind, "firing", "warning");
    await expect.poll(() => messages(kind).length, { interval: 20 }).toBe(1);
    await deliver(kind, "firing", "critical");
    await allSaid();
    expect(messages(kind).at(-1)?.text).toContain("Critical");
    expect(messages(kind)).toHaveLength(kind === "telegram" ? 2 : 1);
  });

  it.each(oneOf([...KINDS, "teams"] as const))("%s ends with that it is over", async (kind) => {
    fake.failures.push({ isTaken: true });
    await deliver(kind);
    await expect.poll(() => messages(kind).length, { interval: 20 }).toBe(1);
    await deliver(kind, "resolved");
    await allSaid();
    expect(messages(kind).at(-1)?.text).toContain("Resolved after ");
  });

  it("a group that ended before anything was sent is not said", async () => {
    fake.outage = { status: 429, retryAfter: 2 };
    await deliver("discord");
    await expect.poll(() => fake.calls.length).toBe(1);
    await deliver("discord", "resolved");
    fake.outage = undefined;
    await allSaid();
    expect(fake.standing.discord).toEqual([]);
  });
});

describe("a receiver that does not answer", () => {
  withProgram();

  it("keeps no other from speaking, however many groups wait for it", async () => {
    fake.outage = { hang: true };
    for (let group = 0; group < 5; group += 1) await deliver("webhook", "firing", "critical", `${group}`);
    await expect.poll(() => fake.calls.length).toBe(1);
    await deliver("email");
    // One call waits for its end; not five.
    await expect.poll(() => mails.length, { timeout: 25_000 }).toBeGreaterThan(0);
    expect(fake.calls.length).toBeLessThan(4);
    fake.outage = undefined;
    await allSaid();
    expect(messages("webhook")).toHaveLength(5);
  }, 120_000);
});

describe("what is not over after all", () => {
  withProgram();

  it.each(oneOf(["teams", "email"] as const))("is told by %s, which changes nothing that it said", async (kind) => {
    for (const status of ["firing", "resolved", "firing", "resolved"] as const) {
      await deliver(kind, status);
      await allSaid();
    }
    if (kind === "teams") {
      const said = messages("teams").map(({ text }) => text.split(" ")[0]);
      expect(said).toEqual([expect.any(String), "Resolved", "Not", "Resolved"]);
    } else {
      expect(mails.map((mail) => headerOf(mail, "Subject").split(" ")[0])).toEqual([
        expect.any(String),
        "Resolved",
        "Not",
        "Resolved",
      ]);
      expect(new Set(mails.map((mail) => headerOf(mail, "Message-ID"))).size).toBe(4);
    }
  });
});

describe("Telegram", () => {
  withProgram();

  it("is not asked without end by a bot whose token is wrong, or who has another listener", async () => {
    await stop();
    const wrong = readFileSync(settingsOf(), "utf8").replace(TELEGRAM_TOKEN, "1:wrong");
    environment["KEYMETER_CONFIG"] = writeSettings(wrong);
    const before = fake.polled;
    await start();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect(fake.polled - before).toBe(1);
  });

  it("acknowledges by a press: the message says who, and nothing more comes of it", async () => {
    await deliver("telegram");
    await allSaid();
    fake.press(messages("telegram")[0]?.id ?? "", "anna");
    await expect.poll(() => messages("telegram")[0]?.text, { timeout: 20_000 }).toContain("Acknowledged by @anna");
    expect(fake.answers).toEqual(["Acknowledged until the day ends."]);
    fake.press("1", "anna");
    await expect.poll(() => fake.answers).toHaveLength(2);
    expect(fake.answers[1]).toBe("This is over already.");
  });
});

describe("Teams", () => {
  withProgram();

  it("has a card of a leak, one when it gets worse, and one when it is over; through trouble", async () => {
    fake.failures.push({ status: 429, retryAfter: 1 }, { status: 502 });
    await deliver("teams", "firing", "warning");
    await allSaid();
    await deliver("teams", "firing", "warning");
    await deliver("teams", "firing", "critical");
    await allSaid();
    await deliver("teams", "resolved");
    await allSaid();
    const cards = messages("teams").map(({ text }) => text);
    expect(cards).toEqual([
      expect.stringContaining("A provider key is used past Keymeter"),
      expect.stringMatching(/^Now critical: /),
      expect.stringMatching(/^Resolved after /),
    ]);
    expect(cards[0]).toContain("keymeter leaks");
    expect(cards[0]).toContain("key_<b>@everyone");
  });

  it("has a card twice where this program was killed before it knew of the first; no more", async () => {
    fake.failures.push({ hang: true, isTaken: true });
    await deliver("teams");
    await expect.poll(() => messages("teams").length, { timeout: 10_000 }).toBe(1);
    await stop("SIGKILL");
    await start();
    await allSaid();
    expect(messages("teams").length).toBe(2);
  });
});

describe("e-mail", () => {
  withProgram();

  it("has a mail of a leak, and answers to it when it gets worse and when it is over; through trouble", async () => {
    mailFailures.push("later", "lost");
    await deliver("email", "firing", "warning");
    await allSaid();
    await deliver("email", "firing", "critical");
    await allSaid();
    await deliver("email", "resolved");
    await allSaid();
    // One whose answer got lost is there twice, under one id: mail programs show it once.
    const byId = new Map(mails.map((text) => [headerOf(text, "Message-ID"), text]));
    expect([mails.length, byId.size]).toEqual([4, 3]);
    const [first = "", worse = "", over = ""] = byId.values();
    expect(headerOf(first, "Subject")).toContain("A provider key is used past Keymeter");
    expect(headerOf(worse, "Subject")).toContain("Now critical");
    expect(headerOf(over, "Subject")).toContain("Resolved after");
    for (const answer of [worse, over]) expect(headerOf(answer, "In-Reply-To")).toBe(headerOf(first, "Message-ID"));
    expect(headerOf(first, "Auto-Submitted")).toBe("auto-generated");
    expect(first.slice(first.indexOf("text/html"))).toMatch(/&lt;b&gt;@everyone/);
    expect(first.slice(first.indexOf("text/html"))).not.toMatch(/<b>@everyone/);
  });

  it("is there twice under one id where this program was killed before it knew of the first", async () => {
    mailFailures.push("hang");
    await deliver("email");
    await expect.poll(() => mails.length, { timeout: 10_000 }).toBe(1);
    await stop("SIGKILL");
    await start();
    await allSaid();
    expect(mails.length).toBe(2);
    expect(new Set(mails.map((text) => headerOf(text, "Message-ID"))).size).toBe(1);
  });

  it("that one of its addresses does not take yet goes to that one later, and not to the others again", async () => {
    await stop();
    const two = readFileSync(settingsOf(), "utf8").replace(
      'to: ["finance@example.com"]',
      'to: ["finance@example.com", "later@example.com"]',
    );
    environment["KEYMETER_CONFIG"] = writeSettings(two);
    await start();
    addressFailures.push("later@example.com");
    await deliver("email");
    await expect.poll(() => recipients.length, { timeout: 10_000 }).toBe(1);
    await allSaid(90_000);
    expect(recipients).toEqual([["finance@example.com"], ["later@example.com"]]);
  }, 120_000);

  it("says by doctor that the password is wrong", async () => {
    await stop();
    const file = settingsOf();
    environment["KEYMETER_CONFIG"] = writeSettings(readFileSync(file, "utf8").replace("of-a-test@127", "another@127"));
    await start();
    const { text } = await runKeymeter({ dataDir, opsUrl: "http://127.0.0.1:1", environment }, "doctor", "slack");
    expect(text).toContain("look at user and password");
    expect(text).not.toContain("another@127");
  });
});

describe("the week", () => {
  it("is told where settings say, once", async () => {
    await startAll();
    onTestFinished(stopAll);
    await stop();
    environment["KEYMETER_DIGEST_TO"] = "discord";
    environment["KEYMETER_DIGEST_CRON"] = "* * * * * *";
    await start();
    await expect.poll(() => messages("discord").length, { timeout: 20_000 }).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    expect(messages("discord")).toHaveLength(1);
    expect(messages("discord")[0]?.text).toMatch(/week/i);
    expect(fake.standing.telegram).toEqual([]);
  });
});

describe("settings of receivers", () => {
  it("are asked by doctor whether each works, which says what is wrong", async () => {
    await startAll();
    onTestFinished(stopAll);
    const beside = { dataDir, opsUrl: "http://127.0.0.1:1", environment };
    const well = JSON.parse((await runKeymeter(beside, "doctor", "slack", "--json")).text) as {
      findings?: { what: string; state: string }[];
    } & { what: string; state: string }[];
    const found = (well.findings ?? well).map(({ what, state }) => `${what} ${state}`);
    expect(found).toEqual([
      "telegram (telegram) ok",
      "discord (discord) ok",
      "webhook (webhook) ok",
      "teams (teams) ok",
      "email (email) ok",
    ]);
    await stop();
    const broken = readFileSync(settingsOf(), "utf8")
      .replace("topic: leak", "topic: leaks")
      .replace(TELEGRAM_TOKEN, "1:wrong")
      .replace(CHANNEL, "999999999999999999");
    environment["KEYMETER_CONFIG"] = writeSettings(broken);
    await start();
    const { text } = await runKeymeter({ ...beside, environment }, "doctor", "slack");
    expect(text).toContain("401: Unauthorized");
    expect(text).toContain("let the bot see the channel");
    expect(text).toMatch(/no alert of Keymeter's has the topic leaks[^]*budget, cap, forecast/);
    expect(text).not.toContain(DISCORD_TOKEN);
  });

  it.each([
    ["routes: [{ to: nobody }]", "alerts.routes names nobody"],
    ["receivers: { a: { kind: discord, token: t, channel: 12 } }", "channel"],
    ["receivers: { a: { kind: fax } }", "alerts.receivers"],
    ['receivers: { a: { kind: telegram, token: t, chat: "-1" } }', "has to take what no other does"],
    ['receivers: { a: { kind: telegram, token: "a b", chat: "-1" } }', "alerts.receivers.a.token"],
    ["receivers: { a: { kind: webhook, url: hooks.example.com, secret: long-enough } }", "alerts.receivers.a.url"],
    [
      "receivers: { a: { kind: email, smtp: mail, from: a@example.com, to: [b@example.com] } }",
      "alerts.receivers.a.smtp",
    ],
  ])("refuse %s", (row, words) => {
    const file = writeSettings(`alerts: { ${row} }\n`);
    expect(() => loadAlertsConfig({ KEYMETER_CONFIG: file, KEYMETER_DATA_DIR: temporaryFolder() })).toThrow(words);
  });
});

describe("words", () => {
  const mrkdwn = (text: string) => ({ type: "section", text: { type: "mrkdwn", text } }) as const;
  const message = {
    headline: "Team <b>search</b> & *ads*",
    text: "",
    blocks: [
      mrkdwn("*Spent* $5 by `key_<x>` of &lt;script&gt; @everyone\n<https://pages.example.com/key?id=1|Key>"),
      mrkdwn("last"),
    ],
  };

  it("have the marks of each place, and what a name holds is none", () => {
    expect(writeMessage(message, HTML, 4_096)).toBe(
      '<b>Team &lt;b&gt;search&lt;/b&gt; &amp; *ads*</b>\n<b>Spent</b> $5 by <code>key_&lt;x&gt;</code> of &lt;script&gt; @everyone\n<a href="https://pages.example.com/key?id=1">Key</a>\nlast',
    );
    expect(writeMessage(message, MARKDOWN, 2_000)).toBe(
      "**Team \\<b\\>search\\</b\\> & \\*ads\\***\n**Spent** $5 by `key_<x>` of \\<script\\> \\@everyone\n[Key](<https://pages.example.com/key?id=1>)\nlast",
    );
    expect(writeMessage(message, PLAIN, 2_000)).toContain("Key: https://pages.example.com/key?id=1");
  });

  it("are as many lines as fit, whole ones, and the last", () => {
    const long = {
      ...message,
      blocks: [mrkdwn(Array.from({ length: 500 }, (_, i) => `*line* ${i}`).join("\n")), mrkdwn("since then")],
    };
    for (const [dialect, most] of [
      [HTML, 4_096],
      [MARKDOWN, 2_000],
    ] as const) {
      const text = writeMessage(long, dialect, most);
      expect(text.length).toBeLessThanOrEqual(most);
      expect(text).toMatch(/\n…\nsince then$/);
      expect((text.match(/<b>/g) ?? []).length).toBe((text.match(/<\/b>/g) ?? []).length);
    }
  });
});
