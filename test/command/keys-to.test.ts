// keymeter keys rotate --to: a Keymeter key's new secret goes to where its readers read it, and to nobody's eyes. GitHub is a
// stand-in of ours.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { targetProblem } from "../../service/secrets/target.ts";
import { GITHUB_TOKEN, startFakeGitHub } from "../fake/github.ts";
import type { FakeGitHub } from "../fake/github.ts";
import { chatAnswer, json, startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { startProxy } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

describe("a target", () => {
  it.each([
    "github:acme/app/CI_KEY",
    "github:acme/app/production/CI_KEY",
    "github:acme/CI_KEY",
    "file:/run/key",
    "vault:secret/ci#key",
    "gcp-sm:projects/p/secrets/s",
    "op://Vault/Item/field",
  ])("%s", (target) => {
    expect(targetProblem(target)).toBeUndefined();
  });

  it.each(["github:CI_KEY", "github:acme/app/GITHUB_KEY", "github:acme/../x/KEY", "env:KEY", "sk-itself"])(
    "%s is none",
    (target) => {
      expect(targetProblem(target)).toBeDefined();
    },
  );
});

describe("keymeter keys rotate --to", () => {
  let provider: FakeProvider;
  let running: RunningProxy;
  let github: FakeGitHub;
  beforeEach(async () => {
    provider = await startFakeProvider(json(chatAnswer()));
    running = await startProxy(provider.url);
    github = await startFakeGitHub();
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
      const environment = { KEYMETER_SECRETS_GITHUB_URL: github.url, KEYMETER_SECRETS_GITHUB_TOKEN: GITHUB_TOKEN };
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
      const half = await run("ci", "--to", `github:acme/frozen/CI_KEY,file:${file}#key`);
      expect(half.code).toBe(1);
      expect(half.text).toContain(
        "github:acme/frozen/CI_KEY does not have the new secret: GitHub answered 422 to the new secret",
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
      // What can be told before is told before anything changes.
      const before = readFileSync(file, "utf8");
      const unknown = await run("ci", "--to", `file:${file}#key,github:acme/unknown/CI_KEY`);
      expect([unknown.code, unknown.text]).toEqual([
        2,
        expect.stringContaining("GitHub knows no repos/acme/unknown") as string,
      ]);
      expect(readFileSync(file, "utf8")).toBe(before);
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
