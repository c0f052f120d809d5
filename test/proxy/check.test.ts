// What `keymeter doctor` hears of a proxy's credentials: of each of each provider's, upstreams and Vertex too, where it is from and
// what its provider says of it.
import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { checkCredentials } from "../../proxy/check.ts";
import { loadProxyConfig } from "../../proxy/config.ts";
import { openSecrets } from "../../service/secrets/index.ts";
import { startFakeProvider } from "../fake/provider.ts";
import type { FakeProvider } from "../fake/provider.ts";
import { temporaryFolder, writeSettings } from "../start-proxy.ts";

const SILENT = { info: () => undefined, warn: () => undefined };

describe("a check of credentials", () => {
  let provider: FakeProvider;
  /** By the path that is asked. */
  let answers: { [path: string]: number };
  beforeEach(async () => {
    answers = {};
    provider = await startFakeProvider(({ url }, response) => {
      response.writeHead(answers[url] ?? 200, { "content-type": "application/json" }).end("{}");
    });
  });
  afterEach(() => provider.close());

  it("asks each upstream in its own way, and says where each key is from", async () => {
    const { url } = provider;
    const folder = temporaryFolder();
    const file = join(folder, "key");
    writeFileSync(file, "sk-of-a-file-0123456789");
    const account = join(folder, "account.json");
    const key = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ type: "pkcs8", format: "pem" });
    writeFileSync(account, JSON.stringify({ type: "service_account", client_email: "a@b.test", private_key: key }));
    const config = loadProxyConfig({
      KEYMETER_DATA_DIR: folder,
      KEYMETER_OPENAI_URL: `${url}/gateway`,
      OPENAI_API_KEY: "sk-of-openai-0123456789",
      GOOGLE_APPLICATION_CREDENTIALS: `file:${account}`,
      KEYMETER_CONFIG: writeSettings(`
proxy:
  upstreams:
    groq: { url: "${url}/groq", api_key: "file:${file}", credentials: { staging: { api_key: sk-staging-0123456789, env: staging } } }
    plain: { url: "${url}/plain", version: none, api_key: sk-plain-0123456789 }
    silent: { url: "${url}/silent", api_key: sk-silent-0123456789 }
    claude: { url: "${url}/claude", kind: anthropic, api_key: sk-claude-0123456789 }
    models: { url: "${url}/azure", kind: azure, api_key: azure-key-0123456789 }
    bedrock: { url: "${url}/bedrock", kind: bedrock, api_key: ABSK-0123456789 }
    gone: { url: "${url}/gone", api_key: "file:${folder}/nothing" }
`),
    });
    (await openSecrets(config, SILENT)).stop();
    answers = { "/silent/v1/models": 404, "/claude/v1/models": 401, "/bedrock/v1/models": 403, "/plain/models": 429 };
    const found = new Map((await checkCredentials(config, false)).map((one) => [one.what, one]));
    expect(Object.fromEntries([...found].map(([what, { state }]) => [what, state]))).toEqual({
      OpenAI: "ok",
      Anthropic: "off",
      "Google Gemini": "off",
      "Vertex AI": "ok",
      groq: "ok",
      'groq, credential "staging"': "ok",
      plain: "warn",
      silent: "off",
      claude: "fail",
      models: "ok",
      bedrock: "fail",
      gone: "fail",
    });
    expect(found.get("groq")?.said).toContain(`file:${file}, version `);
    expect(found.get("Vertex AI")?.said).toContain(`file:${account}`);
    expect(found.get("claude")?.said).toBe("401: the key is wrong or was revoked");
    expect(found.get("bedrock")?.mend).toContain("give it the right");
    expect(found.get("gone")?.said).toContain("there is no file");
    const sent = new Map(provider.journal.map((one) => [one.url, one.headers]));
    expect(sent.get("/gateway/v1/models")?.authorization).toBe("Bearer sk-of-openai-0123456789");
    expect(sent.get("/groq/v1/models")?.authorization).toBeDefined();
    expect(sent.get("/claude/v1/models")?.["x-api-key"]).toBe("sk-claude-0123456789");
    expect(sent.get("/azure/openai/models?api-version=2024-10-21")?.["api-key"]).toBe("azure-key-0123456789");
    expect([...sent.keys()].some((path) => path.startsWith("/gone"))).toBe(false);
  });
});
