// A proxy that reads a provider's key in a file, and the rotation of that key, against a stand-in that makes keys.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openToWrite, openUsage } from "../../ledger/open.ts";
import type { BillingBooks, UsageBooks } from "../../ledger/books.ts";
import { readRotations } from "../../ledger/billing/rotations.ts";
import type { Rotation } from "../../ledger/billing/rotations.ts";
import { loadCollectorConfig } from "../../collector/config.ts";
import type { CollectorConfig } from "../../collector/config.ts";
import { rotateOn } from "../../collector/rotation/run.ts";
import { openSecrets } from "../../service/secrets/index.ts";
import { ADMIN_KEY, startFakeMakers } from "../fake/key-makers.ts";
import type { FakeKey, FakeMakers } from "../fake/key-makers.ts";
import { slowChat } from "../fake/slow-chat.ts";
import { startProxy, temporaryFolder, writeSettings } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

export const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

type Place = "openai" | "anthropic" | "openrouter" | "xai" | "vendor";

export type Bench = {
  readonly folder: string;
  /** What a program beside it reads its settings from. */
  readonly environment: { readonly [name: string]: string };
  readonly makers: FakeMakers;
  readonly old: FakeKey;
  readonly running: RunningProxy;
  readonly billing: BillingBooks;
  readonly usage: UsageBooks;
  readonly config: CollectorConfig;
  readonly audited: string[];
  readonly secret: string;
  tick(): Promise<Rotation | undefined>;
  /** Until it is there. */
  reach(state: Rotation["state"], timeoutMs?: number): Promise<Rotation>;
  ask(n: number, stream?: boolean): Promise<number>;
  stored(): string;
  close(): Promise<void>;
};

/** A proxy that reads the key of a place in a file, and the rotation of it. */
export async function startRotating(place: Place, more = ""): Promise<Bench> {
  const makers = await startFakeMakers();
  const folder = temporaryFolder();
  const file = join(folder, "key");
  const old = makers.add("by hand", "sk-old-0123456789abcdef");
  writeFileSync(file, `${old.value}\n`, { mode: 0o600 });
  const upstream = { openai: "", anthropic: "", openrouter: "/api", xai: "", vendor: "" }[place];
  const yaml = writeSettings(`
proxy:
  openai: { url: ${makers.url}, api_key: "file:${file}" }
  anthropic: { url: ${makers.url}, api_key: "file:${file}" }
  upstreams:
    openrouter: { url: ${makers.url}${upstream}, api_key: "file:${file}", price_list: openai }
    xai: { url: ${makers.url}, api_key: "file:${file}", price_list: openai }
    vendor: { url: ${makers.url}, api_key: "file:${file}", price_list: openai }
collector:
  rotation:
    ${place}: { secret: "file:${file}", url: ${makers.url}, quiet: 1s, grace: 1s${
      place === "vendor" ? "" : `, maker: ${place}, admin_key: ${ADMIN_KEY}, admin_url: ${makers.url}`
    }${place === "openai" ? ", project: proj_1, service_account: user-1" : ""}${place === "xai" ? ", team: team-1" : ""}${more} }
`);
  const environment = { KEYMETER_CONFIG: yaml, KEYMETER_SECRETS_REFRESH: "1" };
  const running = await startProxy(makers.url, { ...environment, OPENAI_API_KEY: "", ANTHROPIC_API_KEY: "" });
  const config = loadCollectorConfig({ ...environment, KEYMETER_DATA_DIR: running.dataDir });
  await openSecrets(config, SILENT);
  const billing = await openToWrite(running.place, "billing");
  const usage = await openUsage(running.place);
  if (!usage) throw new Error("no books");
  const { secret } = await running.createKey();
  const audited: string[] = [];
  const name = config.rotations[0]?.place ?? "";
  const tick = async (): Promise<Rotation | undefined> => {
    await rotateOn({
      books: { usage, billing },
      rotations: config.rotations,
      audit: async ({ said }) => void audited.push(said),
      log: SILENT,
      patience: { probePauseMs: 10, settleMs: 500 },
    });
    return (await readRotations(billing, { place: name }))[0];
  };
  const path = place === "anthropic" ? "anthropic/v1/messages" : `${place}/v1/chat/completions`;
  return {
    folder,
    environment: { ...environment, KEYMETER_DATA_DIR: running.dataDir },
    makers,
    old,
    running,
    billing,
    usage,
    config,
    audited,
    secret,
    tick,
    async reach(state, timeoutMs = 30_000) {
      const deadline = Date.now() + timeoutMs;
      for (;;) {
        const rotation = await tick();
        if (rotation?.state === state) return rotation;
        if (Date.now() > deadline) throw new Error(`it is ${rotation?.state}, and waits for: ${rotation?.waitsFor}`);
        await sleep(50);
      }
    },
    async ask(n, stream = false) {
      const answer = await fetch(`${running.url}/${path}`, {
        method: "POST",
        headers: { "content-type": "application/json", authorization: `Bearer ${secret}` },
        body: slowChat(n, stream),
      });
      const text = await answer.text();
      return answer.status === 200 && stream && !text.includes("[DONE]") ? 0 : answer.status;
    },
    stored: () => readFileSync(file, "utf8").trim(),
    async close() {
      await running.stop();
      await usage.close();
      await billing.close();
      await makers.close();
    },
  };
}
