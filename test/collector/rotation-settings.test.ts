// What settings of rotations may say, and what is wrong with others.
import { describe, expect, it } from "vitest";
import { loadCollectorConfig } from "../../collector/config.ts";
import { byHand } from "../../collector/rotation/makers/hand.ts";
import { AZURE_RESOURCE } from "../fake/cloud-key-makers.ts";
import { startFakeMakers } from "../fake/key-makers.ts";
import { temporaryFolder, writeSettings } from "../start-proxy.ts";

describe("settings of rotations", () => {
  const load = (rows: string): unknown =>
    loadCollectorConfig({
      KEYMETER_DATA_DIR: temporaryFolder(),
      KEYMETER_CONFIG: writeSettings(`proxy:
  upstreams: { groq: { url: https://api.groq.com/openai, api_key: gsk-one-0123456789, price_list: groq } }
collector:
  rotation:
${rows}`),
    });
  const twice = (secret: string): string =>
    ["a", "b"]
      .map(
        (name) => `    openai/${name}: { secret: "${secret}#${name}", maker: openrouter, admin_key: sk-or-0123456789 }`,
      )
      .join("\n");

  it.each([
    [
      '    openai: { secret: "env:KEY", admin_key: sk-admin-0123456789, project: p, service_account: s }',
      "not env:KEY",
    ],
    ["    anthropic: { secret: sk-ant-itself-0123456789, admin_key: sk-admin-0123456789 }", "not the key itself"],
    [
      '    anthropic: { secret: "file:/x", admin_key: sk-admin-0123456789, team: t }',
      "maker anthropic has no use for it",
    ],
    [
      '    openai: { secret: "file:/x", admin_key: sk-admin-0123456789 }',
      "collector.rotation.openai.project: maker openai needs it",
    ],
    ['    xai: { secret: "file:/x" }', "there is no provider xai"],
    ['    groq: { secret: "file:/x" }', "collector.rotation.groq.url: maker hand needs it"],
    ['    google: { secret: "file:/g" }\n    gcp.gemini: { secret: "file:/h" }', "gcp.gemini is there twice"],
    [twice("file:/keys"), "openai/a and openai/b are in the same secret (/keys)"],
    [twice("aws-sm:keys"), "are in the same secret (keys)"],
    ['    openai: { secret: "file:/x", every: 60 }', "every"],
    ['    openai: { secret: "file:/x", every: 10m }', "at least 1h"],
    [
      `    openai: { maker: azure, secret: "file:/x", url: "https://a.test", resource: "${AZURE_RESOURCE}" }
    anthropic: { maker: azure, secret: "file:/y", url: "https://a.test", resource: "${AZURE_RESOURCE}" }`,
      "openai and anthropic are of the same resource",
    ],
    ['    openai: { maker: bedrock, secret: "file:/x", url: "https://b.test" }', "user: maker bedrock needs it"],
    [
      '    openai: { maker: bedrock, secret: "file:/x", url: "https://b.test", user: u, admin_id: AKIA }',
      "admin_id and admin_key belong together",
    ],
    [
      `    openai: { maker: azure, secret: "file:/x", url: "https://a.test", resource: "${AZURE_RESOURCE}", tenant: t }`,
      "tenant and admin_id belong together",
    ],
    ['    openai: { maker: azure, secret: "file:/x", url: "https://a.test", resource: /x }', "/subscriptions/ID/"],
    ['    vertex: { secret: "file:/x", admin_id: a }', "maker vertex has no use for it"],
    [
      '    vertex: { secret: "file:/x", admin_key: /etc/admin.json }',
      "admin_key: write a reference to a service account",
    ],
    ['    openai: { maker: hand, secret: "env:X" }', "not env:X"],
  ])("%s: %s", (rows, problem) => {
    expect(() => load(rows)).toThrow(problem);
  });

  it("may name fields of one secret in Vault", () => {
    expect(() => load(twice("vault:secret/keys"))).toThrow(/needs secrets.vault.address/);
  });

  it("of a vendor whose API has a path are tried there", async () => {
    const makers = await startFakeMakers();
    const key = makers.add("one");
    const maker = byHand({
      url: new URL(`${makers.url}/openai`),
      probe: { list: "/v1/models", headers: (value) => ({ authorization: `Bearer ${value}` }) },
    });
    expect(await maker.probe(key.value)).toBe(200);
    expect(makers.provider.journal.at(-1)?.url).toBe("/openai/v1/models");
    await makers.close();
  });
});
