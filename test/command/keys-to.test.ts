// keymeter keys rotate --to: a Keymeter key's new secret goes to where its readers read it, and to nobody's eyes. GitHub is a
// stand-in of ours, which opens what it gets as GitHub does.
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { targetProblem } from "../../service/secrets/target.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

const TOKEN = "ghp_of-a-test-0123456789";

type FakeGitHub = {
  readonly url: string;
  /** What was written, opened, by path. */
  readonly secrets: Map<string, string>;
  readonly bodies: object[];
  close(): Promise<void>;
};

async function startGitHub(): Promise<FakeGitHub> {
  const { default: sodium } = await import("libsodium-wrappers");
  await sodium.ready;
  const pair = sodium.crypto_box_keypair();
  const secrets = new Map<string, string>();
  const bodies: object[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const path = decodeURIComponent((request.url ?? "").split("?")[0] ?? "");
      const send = (status: number, body?: object): void =>
        void response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body ?? {}));
      if (request.headers.authorization !== `Bearer ${TOKEN}`) return send(401, { message: "Bad credentials" });
      if (path.includes("/unknown/")) return send(404, { message: "Not Found" });
      if (path.endsWith("/public-key"))
        return send(200, { key_id: "key-1", key: Buffer.from(pair.publicKey).toString("base64") });
      if (request.method === "GET" && path.endsWith("/repositories"))
        return send(200, { repositories: [{ id: 7 }, { id: 9 }] });
      if (request.method === "GET") return send(200, { name: "CI_KEY", visibility: "selected" });
      const body = JSON.parse(Buffer.concat(chunks).toString()) as { encrypted_value: string; key_id: string };
      const opened = sodium.crypto_box_seal_open(
        Buffer.from(body.encrypted_value, "base64"),
        pair.publicKey,
        pair.privateKey,
      );
      bodies.push(body);
      secrets.set(path, Buffer.from(opened).toString("utf8"));
      return send(secrets.size > 1 ? 201 : 204);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    secrets,
    bodies,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}

describe("a target", () => {
  it.each([
    "github:acme/app/CI_KEY",
    "github:acme/app/production/CI_KEY",
    "github:acme/CI_KEY",
    "file:/run/key",
    "vault:secret/ci#key",
  ])("%s", (target) => {
    expect(targetProblem(target)).toBeUndefined();
  });

  it.each([
    "github:CI_KEY",
    "github:acme/app/GITHUB_KEY",
    "github:acme/../x/KEY",
    "env:KEY",
    "sk-itself",
    "gcp-sm:projects/p/secrets/s",
  ])("%s is none", (target) => {
    expect(targetProblem(target)).toBeDefined();
  });
});

describe("keymeter keys rotate --to", () => {
  let provider: FakeProvider;
  let running: RunningProxy;
  let github: FakeGitHub;
  beforeEach(async () => {
    provider = await startFakeProvider(json(chatAnswer()));
    running = await startProxy(provider.url);
    github = await startGitHub();
  });
  afterEach(async () => {
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

  it(
    "writes it into a file and into secrets of GitHub Actions; both old and new work meanwhile",
    { timeout: 60_000 },
    async () => {
      const { id, secret: old } = await running.createKey({ name: "ci" });
      const file = join(running.dataDir, "ci.json");
      writeFileSync(file, JSON.stringify({ key: old, other: "stays" }));
      const environment = { KEYMETER_SECRETS_GITHUB_URL: github.url, KEYMETER_SECRETS_GITHUB_TOKEN: TOKEN };
      const targets = [
        `file:${file}#key`,
        "github:acme/app/CI_KEY",
        "github:acme/app/production/CI_KEY",
        "github:acme/CI_KEY",
      ];
      const run = (...args: string[]) => runKeymeter({ ...running, environment }, "keys", "rotate", ...args);
      const { code, text } = await run("ci", "--to", targets.join(","));
      expect(code, text).toBe(0);
      const { key: made, other } = JSON.parse(readFileSync(file, "utf8")) as { key: string; other: string };
      expect([made === old, other]).toEqual([false, "stays"]);
      expect(text).not.toContain(made);
      for (const target of targets) expect(text).toContain(`${target} has the new secret of ci (${id})`);
      expect(Object.fromEntries(github.secrets)).toEqual({
        "/repos/acme/app/actions/secrets/CI_KEY": made,
        "/repos/acme/app/environments/production/secrets/CI_KEY": made,
        "/orgs/acme/actions/secrets/CI_KEY": made,
      });
      // Who may use an organisation's secret stays as it is.
      expect(github.bodies.at(-1)).toMatchObject({ visibility: "selected", selected_repository_ids: [7, 9] });
      await expect.poll(() => ask(made), { timeout: 5_000 }).toBe(200);
      expect(await ask(old)).toBe(200);

      // One that fails keeps no other from it, and says what to do.
      const half = await run("ci", "--to", `github:acme/unknown/CI_KEY,file:${file}#key`);
      expect(half.code).toBe(1);
      expect(half.text).toContain(
        "github:acme/unknown/CI_KEY does not have the new secret: GitHub knows no repos/acme/unknown",
      );
      expect(half.text).toContain("has the new secret of ci");
      const refused = await runKeymeter(
        { ...running, environment: { ...environment, KEYMETER_SECRETS_GITHUB_TOKEN: "wrong" } },
        "keys",
        "rotate",
        "ci",
        "--to",
        "github:acme/app/CI_KEY",
      );
      expect(refused.text).toContain("GitHub does not let this token write acme/app/CI_KEY");
      // An empty variable of a script shows nothing to anybody.
      const empty = await run("ci", "--to", ",");
      expect([empty.code, empty.text]).toEqual([2, expect.stringContaining("--to names no place") as string]);
      const unset = await run("ci", "--to", "vault:secret/ci#key");
      expect([unset.code, unset.text]).toEqual([2, expect.stringContaining("secrets.vault.address") as string]);
      const wrong = await run("ci", "--to", "github:CI_KEY");
      expect([wrong.code, wrong.text]).toEqual([2, expect.stringContaining("write github:OWNER/REPO/NAME") as string]);
    },
  );
});
