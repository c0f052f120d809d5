// Keys, limits and freezes by the command, through the running proxy and without one.
import { describe, expect, it } from "vitest";
import { chatAnswer, json } from "../fake/provider.ts";
import { runKeymeter } from "../run-keymeter.ts";
import { withProxy } from "../with-proxy.ts";

const bench = withProxy(json(chatAnswer()), { KEYMETER_DURABILITY: "process" }, { each: true });

const keymeter = (...args: string[]): ReturnType<typeof runKeymeter> => runKeymeter(bench.running, ...args);

function ask(secret: string, model = "gpt-4o-mini", stream = false): Promise<Response> {
  return fetch(`${bench.running.url}/openai/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
    body: JSON.stringify({ model, max_tokens: 9, messages: [], stream }),
  });
}

describe("keymeter keys", () => {
  it("create and set say what a key may do; any takes one away", async () => {
    const made = await keymeter(
      "keys",
      "create",
      "--name",
      "ci",
      "--models",
      "gpt-4o*",
      "--tag",
      "feature=ci",
      "--json",
    );
    const { key } = JSON.parse(made.text) as { key: string };
    expect([(await ask(key)).status, (await ask(key, "o3")).status]).toEqual([200, 403]);
    expect((await bench.running.events())[0]?.tags).toEqual({ feature: "ci" });
    expect((await keymeter("keys", "set", "ci", "--models", "any", "--owner", "ann", "--purpose", "builds")).code).toBe(
      0,
    );
    expect((await ask(key, "o3")).status).toBe(200);
    const shown = JSON.parse((await keymeter("keys", "show", "ci")).text) as object;
    expect(shown).toMatchObject({ owner: "ann", purpose: "builds", policy: { tags: { feature: "ci" } } });
    const wrong = await keymeter("keys", "set", "ci", "--from", "10.0.0.0/99");
    expect([wrong.code, wrong.text]).toEqual([2, expect.stringContaining("such as 10.0.0.0/8")]);
  });

  it("set names a provider key that was seen in passing, and binds it", async () => {
    await ask("sk-test-somebody-elses-key");
    const [event] = await bench.running.events();
    const id = event?.keyId ?? "";
    expect((await keymeter("keys", "set", id, "--name", "old-script", "--team", "data", "--models", "o3")).code).toBe(
      0,
    );
    expect((await ask("sk-test-somebody-elses-key")).status).toBe(403);
    expect((await keymeter("keys", "list")).text).toMatch(/old-script .*fingerprint .*data/);
  });

  it("list says how old each is and when it was last used, by the hour in UTC", async () => {
    const { id, secret } = await bench.running.createKey({ name: "busy" });
    await bench.running.createKey({ name: "idle" });
    await (await ask(secret)).text();
    const hour = (await bench.running.events())[0]?.at.slice(0, 13) ?? "";
    const { text } = await keymeter("keys", "list");
    expect(text).toMatch(new RegExp(`busy .* 0 d +${hour}h`));
    expect(text).toMatch(/idle .* 0 d +never/);
    expect(JSON.parse((await keymeter("keys", "show", "busy")).text)).toMatchObject({
      id,
      lastUsedHourMs: Date.parse(`${hour}:00Z`),
    });
  });

  it("reach a proxy that is elsewhere, by its address", async () => {
    const { id, secret } = await bench.running.createKey();
    const elsewhere = { ...bench.running, opsUrl: "http://127.0.0.1:1" };
    const lost = await runKeymeter(elsewhere, "keys", "pause", id);
    // Of books in Postgres each may change them: there is nobody to be asked.
    if (bench.running.place === bench.running.dataDir)
      expect([lost.code, lost.text]).toEqual([1, expect.stringContaining("set KEYMETER_PROXY_OPS_URL")]);
    const environment = { KEYMETER_PROXY_OPS_URL: `${bench.running.opsUrl}/` };
    expect((await runKeymeter({ ...elsewhere, environment }, "keys", "pause", id, "--cut")).code).toBe(0);
    await expect.poll(async () => (await ask(secret)).status, { timeout: 10_000 }).toBe(403);
  });

  it("pause --cut ends what goes on with it", async () => {
    const { id, secret } = await bench.running.createKey();
    bench.provider.script = (_arrived, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write('data: {"id":"c","model":"gpt-4o-mini","choices":[{"delta":{"content":"hi"}}]}\n\n');
    };
    const answer = await ask(secret, "gpt-4o-mini", true);
    expect((await keymeter("keys", "pause", id, "--cut")).text).toContain("1 live requests ended");
    expect(await answer.text()).toContain("stopped this key");
    expect((await ask(secret)).status).toBe(403);
  });
});

describe("keymeter limits and budgets", () => {
  it("limits are set, listed, bind at once and are removed", async () => {
    const { id, secret } = await bench.running.createKey({ name: "limited" });
    expect((await keymeter("limits", "set", "--key", "limited", "--rpm", "1")).code).toBe(0);
    expect([(await ask(secret)).status, (await ask(secret)).status]).toEqual([200, 429]);
    expect((await keymeter("limits", "list")).text).toContain(`key limited (${id})`);
    expect((await keymeter("limits", "remove", "--key", "limited")).code).toBe(0);
    expect((await ask(secret)).status).toBe(200);
    for (const args of [
      ["set", "--rpm", "0"],
      ["set"],
      ["set", "--key", "limited", "--team", "x", "--rpm", "1"],
      ["fly"],
    ])
      expect([args, (await keymeter("limits", ...args)).code]).toEqual([args, 2]);
  });

  it("a freeze stands until it is lifted, also when it is set while no proxy runs", async () => {
    const { secret } = await bench.running.createKey();
    await bench.running.stop();
    const frozen = await keymeter("budgets", "freeze", "--team", "search", "--why", "a leak", "--cut");
    const id = /frz_[0-9a-f]+/.exec(frozen.text)?.[0] ?? "";
    expect(frozen.text).toContain("0 live requests ended");
    await bench.startAgain({ KEYMETER_DATA_DIR: bench.running.dataDir });
    expect((await ask(secret)).status).toBe(403);
    expect((await keymeter("budgets", "list")).text).toContain(`FROZEN ${id}: team search (a leak)`);
    expect((await keymeter("budgets", "lift", id)).code).toBe(0);
    expect((await ask(secret)).status).toBe(200);
    expect((await keymeter("budgets", "freeze", "--team", "search")).code).toBe(2);
  });

  it("replay says what a cap would have refused, when and whose, and sets nothing", async () => {
    const { id, secret } = await bench.running.createKey({ name: "eager" });
    for (let i = 0; i < 5; i++) await (await ask(secret)).text();
    const [event] = await bench.running.events();
    const each = Number(event?.costNanoUsd) / 1e9;
    const args = ["budgets", "replay", "--team", "search", "--amount", `${(each * 3.5).toFixed(9)}/day`];
    const said = JSON.parse((await keymeter(...args, "--json")).text) as { keys: object[]; windows: object[] };
    expect(said).toMatchObject({ requests: 5, refused: 2, unpriced: 0 });
    expect(said.keys).toMatchObject([{ keyId: id, name: "eager", refused: 2 }]);
    expect(said.windows).toHaveLength(1);
    expect((await keymeter(...args)).text).toMatch(/eager .* 2 /);
    expect((await ask(secret)).status).toBe(200);
    expect((await keymeter("budgets", "replay", "--team", "search")).code).toBe(2);
  });

  it("a budget on trial says so in the list", async () => {
    await keymeter("budgets", "set", "--amount", "1/day", "--team", "search", "--observe");
    expect((await keymeter("budgets", "list")).text).toContain("expected, observed");
  });
});
