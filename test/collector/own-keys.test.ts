// Keymeter's own keys that get another secret by a schedule: CI's key changes itself, with the proxy that makes it, a file and a
// stand-in of GitHub that it is written to.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { loadCollectorConfig } from "../../collector/config.ts";
import { changeRotation } from "../../collector/rotation/change.ts";
import { actionsOf } from "../../collector/rotation/own-keys.ts";
import type { OwnKeyRotation } from "../../collector/rotation/own-keys.ts";
import { rotateOn } from "../../collector/rotation/run.ts";
import { readRotations, readRotationSteps } from "../../ledger/billing/rotations.ts";
import type { Rotation } from "../../ledger/billing/rotations.ts";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import { createDigest, reissueSecret, UNTIL_TOLD_MS } from "../../ledger/usage/keys.ts";
import { openSecrets } from "../../service/secrets/index.ts";
import { GITHUB_TOKEN, startFakeGitHub } from "../fake/github.ts";
import type { FakeGitHub } from "../fake/github.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { startProxy, temporaryFolder, writeSettings } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";
import { SILENT } from "./rotating.ts";

const DAY_MS = 86_400_000;
const IN_GITHUB = "/repos/acme/app/actions/secrets/CI_KEY";

describe("a key of Keymeter's with a schedule", () => {
  let provider: FakeProvider;
  let running: RunningProxy;
  let github: FakeGitHub;
  let file: string;
  let usage: UsageBooks;
  let billing: BillingBooks;
  let first: { id: string; secret: string };
  let tick: (nowMs: number) => Promise<Rotation | undefined>;
  /** As settings name them. */
  let named: readonly OwnKeyRotation[];
  /** As after a restart: nothing is left in memory. */
  let restart: () => void;

  beforeEach(async () => {
    provider = await startFakeProvider(json(chatAnswer()));
    running = await startProxy(provider.url);
    github = await startFakeGitHub();
    first = await running.createKey({ name: "ci" });
    file = join(temporaryFolder(), "ci.json");
    writeFileSync(file, JSON.stringify({ key: first.secret, other: "stays" }));
    const config = loadCollectorConfig({
      KEYMETER_DATA_DIR: running.dataDir,
      ...(running.place === running.dataDir ? {} : { KEYMETER_LEDGER_URL: running.place }),
      KEYMETER_OPS_PORT: new URL(running.opsUrl).port,
      KEYMETER_SECRETS_GITHUB_URL: github.url,
      KEYMETER_SECRETS_GITHUB_TOKEN: GITHUB_TOKEN,
      KEYMETER_CONFIG: writeSettings(`
collector:
  key_rotation:
    ci: { to: ["github:acme/app/CI_KEY", "file:${file}#key"], every: 30d, grace: 24h }
`),
    });
    (await openSecrets(config, SILENT)).stop();
    billing = await openToWrite(running.place, "billing");
    const books = await openUsage(running.place);
    if (!books) throw new Error("no books");
    usage = books;
    named = config.ownKeyRotations;
    let actions = actionsOf(config);
    restart = () => (actions = actionsOf(config));
    tick = async (nowMs) => {
      await rotateOn({
        books: { usage, billing },
        rotations: [],
        ownKeys: { rotations: named, actions },
        audit: async () => undefined,
        log: SILENT,
        now: () => nowMs,
      });
      return (await readRotations(billing))[0];
    };
  });
  afterEach(async () => {
    await usage.close();
    await billing.close();
    await running.stop();
    await provider.close();
    await github.close();
  });

  const ask = async (secret: string): Promise<number> => {
    const answer = await fetch(`${running.url}/openai/v1/chat/completions`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
      body: JSON.stringify({ model: "gpt-4o-mini", max_tokens: 5, messages: [{ role: "user", content: "hi" }] }),
    });
    await answer.text();
    return answer.status;
  };
  const inFile = (): { key: string; other: string } => JSON.parse(readFileSync(file, "utf8")) as never;
  it("is replaced when its age is reached, everywhere, and the old secret works for its grace and no longer", async () => {
    const nowMs = Date.now();
    expect(await tick(nowMs + 29 * DAY_MS)).toBeUndefined();
    // Due, in the eyes of the schedule; the proxy's own clock says when the grace ends.
    const rotation = await tick(nowMs + 30 * DAY_MS + 60_000);
    expect(rotation).toMatchObject({ place: "key:ci", state: "draining", newKeyId: first.id });
    const made = github.secrets.get(IN_GITHUB) ?? "";
    expect(made).not.toBe(first.secret);
    expect(inFile()).toEqual({ key: made, other: "stays" });
    expect(rotation?.newHint).toBe(made.slice(-4));
    expect([await ask(made), await ask(first.secret)]).toEqual([200, 200]);
    const steps = await readRotationSteps(billing, rotation?.id ?? "");
    expect(steps.map(({ state }) => state)).toEqual(["planned", "stored", "switched", "draining"]);
    expect(JSON.stringify([steps, rotation])).not.toContain(made);
    expect(await tick(nowMs + 31 * DAY_MS)).toMatchObject({ state: "draining" });
    expect(await tick(nowMs + 31 * DAY_MS + 120_000)).toMatchObject({ state: "revoked" });
  });

  it("keeps the old secret while the new one cannot be written everywhere, over a restart too; then its grace begins", async () => {
    const dueMs = Date.now() + 31 * DAY_MS;
    github.isDown = true;
    expect(await tick(dueMs)).toMatchObject({ state: "planned", isTrouble: true });
    expect((await tick(dueMs))?.waitsFor).toContain("github:acme/app/CI_KEY: ");
    expect(inFile().key).toBe(first.secret);
    github.isDown = false;
    // It is made; then the file cannot be written, and the program ends.
    writeFileSync(file, "no JSON");
    const stuck = await tick(dueMs);
    expect(stuck).toMatchObject({ state: "stored", isTrouble: true });
    const lost = github.secrets.get(IN_GITHUB) ?? "";
    expect([await ask(lost), await ask(first.secret)]).toEqual([200, 200]);
    restart();
    writeFileSync(file, JSON.stringify({ key: first.secret, other: "stays" }));
    expect(await tick(dueMs)).toMatchObject({ state: "draining", isTrouble: false });
    const made = inFile().key;
    expect(github.secrets.get(IN_GITHUB)).toBe(made);
    expect([made === lost, await ask(made), await ask(first.secret)]).toEqual([false, 200, 200]);
    expect((await readRotations(billing)).length).toBe(1);
  });

  it("makes another one where somebody gave the key a secret by hand meanwhile: what is written is the newest", async () => {
    const dueMs = Date.now() + 31 * DAY_MS;
    writeFileSync(file, "no JSON");
    expect(await tick(dueMs)).toMatchObject({ state: "stored", isTrouble: true });
    const byHand = await fetch(`${running.opsUrl}/admin/keys/${first.id}/rotate`, {
      method: "POST",
      headers: { "content-type": "application/json", authorization: `Bearer ${running.adminToken}` },
      body: JSON.stringify({ graceUntilMs: Date.now() + DAY_MS }),
    });
    expect(byHand.status).toBe(200);
    writeFileSync(file, JSON.stringify({ key: first.secret }));
    await tick(dueMs);
    expect(await tick(dueMs)).toMatchObject({ state: "draining" });
    const made = inFile().key;
    expect(github.secrets.get(IN_GITHUB)).toBe(made);
    expect(await ask(made)).toBe(200);
  });

  it("is made by the proxy for holders of the admin token, and for a key that is there", async () => {
    const post = async (id: string, body: object, token = running.adminToken): Promise<number> => {
      const answer = await fetch(`${running.opsUrl}/admin/keys/${id}/rotate`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${token}` },
        body: JSON.stringify(body),
      });
      return answer.status;
    };
    const graceUntilMs = Date.now() + DAY_MS;
    expect(await post(first.id, { graceUntilMs }, "wrong-token-0123456789")).toBe(401);
    expect(await post(first.id, {})).toBe(400);
    expect(await post(first.id, { graceUntilMs: "soon" })).toBe(400);
    expect(await post("key_nobody", { graceUntilMs })).toBe(409);
    expect(await ask(first.secret)).toBe(200);
  });

  it("ends what is good until it is told at the time that is told, or with the next rotation by hand, and no other grace", async () => {
    const rotated = (secret: string, graceUntilMs: number) =>
      running.change({
        type: "rotateKey",
        keyId: first.id,
        digest: createDigest(readFileSync(join(running.dataDir, "pepper"), "utf8").trim())(secret),
        hint: secret.slice(-4),
        graceUntilMs,
      });
    const [second, third, fourth] = [reissueSecret("test"), reissueSecret("test"), reissueSecret("test")];
    expect(await rotated(second, Date.now() + DAY_MS)).toBe(200);
    expect(await rotated(third, UNTIL_TOLD_MS)).toBe(200);
    expect(await running.change({ type: "endOldSecrets", keyId: first.id, untilMs: Date.now() - 1 })).toBe(200);
    // The first by the grace that somebody gave.
    expect([await ask(first.secret), await ask(second), await ask(third)]).toEqual([200, 401, 200]);
    expect(await rotated(fourth, UNTIL_TOLD_MS)).toBe(200);
    const fifth = reissueSecret("test");
    // The third leaked while a schedule had it wait: by hand it ends now.
    expect(await rotated(fifth, Date.now() - 1)).toBe(200);
    expect([await ask(third), await ask(fourth), await ask(fifth), await ask(first.secret)]).toEqual([
      401, 401, 200, 200,
    ]);
    const { differences } = await running.proxy.writer.verify();
    expect(differences).toEqual([]);
  });

  it("that is no longer in the settings ends, and so does one that somebody ends", async () => {
    const books = { usage, billing };
    writeFileSync(file, "no JSON");
    expect(await tick(Date.now() + 31 * DAY_MS)).toMatchObject({ state: "stored", isTrouble: true });
    const done = { type: "rotateDone", place: "key:ci", by: "somebody" } as const;
    expect((await changeRotation(books, done, Date.now())).join()).toContain("The old secret of key:ci goes on");
    expect((await readRotations(billing))[0]).toMatchObject({ state: "failed" });
    expect(await ask(first.secret)).toBe(200);
    writeFileSync(file, JSON.stringify({ key: first.secret }));
    const begun = { type: "rotate", place: "key:ci", by: "somebody", why: "", isLeaked: false } as const;
    const laterMs = Date.now() + 32 * DAY_MS;
    await changeRotation(books, begun, laterMs);
    expect(await tick(laterMs)).toMatchObject({ state: "draining" });
    named = [];
    expect(await tick(laterMs)).toMatchObject({ state: "revoked" });
  });
});

describe("settings of such keys", () => {
  it.each([
    ['ci: { to: "env:KEY", every: 30d }', "Keymeter writes to"],
    ["ci: { to: [], every: 30d }", "to"],
    ['ci: { to: "github:acme/app/KEY", every: 5m }', "at least 1h"],
    [
      'ci: { to: "github:acme/app/KEY", every: 30d }\n    other: { to: ["file:/x", "github:acme/app/KEY"], every: 30d }',
      "github:acme/app/KEY is a target more than once (ci, other)",
    ],
    ['ci: { to: "github:acme/app/KEY" }', "every"],
    ['ci: { to: "github:acme/app/KEY", every: 1y }', "every"],
  ])("%s: what is wrong stops the start", (row, problem) => {
    const KEYMETER_CONFIG = writeSettings(`collector:\n  key_rotation:\n    ${row}\n`);
    expect(() => loadCollectorConfig({ KEYMETER_CONFIG, KEYMETER_DATA_DIR: temporaryFolder() })).toThrow(problem);
  });
});
