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
import { actionsOf } from "../../collector/rotation/own-keys.ts";
import { rotateOn } from "../../collector/rotation/run.ts";
import type { Rotating } from "../../collector/rotation/run.ts";
import { openSecrets } from "../../service/secrets/index.ts";
import {
  AZURE_RESOURCE,
  bedrockKey,
  IAM_KEY_ID,
  machineOfAzure,
  serviceAccountFile,
} from "../fake/cloud-key-makers.ts";
import { ADMIN_KEY, startFakeMakers } from "../fake/key-makers.ts";
import type { FakeMakers } from "../fake/key-makers.ts";
import type { FakeKey } from "../fake/made-keys.ts";
import { startFakeSecretManager } from "../fake/secret-stores.ts";
import type { FakeStore, GoogleVersion } from "../fake/secret-stores.ts";
import { slowChat, slowMessage } from "../fake/slow-chat.ts";
import { startProxy, temporaryFolder, writeSettings } from "../start-proxy.ts";
import type { RunningProxy } from "../start-proxy.ts";

const IN_GOOGLE = "projects/p-1/secrets/key";
export const SILENT = { info: () => undefined, warn: () => undefined, error: () => undefined };

type Place = "openai" | "anthropic" | "openrouter" | "xai" | "vendor" | "vertex" | "bedrock" | "azure";

/** Of a place: where chats go, and what a rotation's row says beside its secret. */
const PLACES: {
  readonly [place in Place]: { readonly path: string; readonly row: (url: string, folder: string) => string };
} = {
  openai: {
    path: "openai/v1/chat/completions",
    row: (url) => `${ADMIN} admin_url: ${url}, maker: openai, project: proj_1, service_account: user-1`,
  },
  anthropic: { path: "anthropic/v1/messages", row: (url) => `${ADMIN} admin_url: ${url}, maker: anthropic` },
  openrouter: { path: "openrouter/v1/chat/completions", row: (url) => `${ADMIN} admin_url: ${url}, maker: openrouter` },
  xai: { path: "xai/v1/chat/completions", row: (url) => `${ADMIN} admin_url: ${url}, maker: xai, team: team-1` },
  vendor: { path: "vendor/v1/chat/completions", row: () => "" },
  vertex: {
    path: "vertex/v1/projects/a-test/locations/global/endpoints/openapi/chat/completions",
    row: (url, folder) => `admin_key: "file:${folder}/admin.json", admin_url: ${url}`,
  },
  bedrock: {
    path: "bedrock/openai/v1/chat/completions",
    row: (url) => `${ADMIN} admin_url: ${url}, maker: bedrock, user: keymeter, admin_id: ${IAM_KEY_ID}`,
  },
  azure: {
    path: "azure/openai/deployments/chat/chat/completions?api-version=2024-10-21",
    row: (url) => `admin_url: ${url}, maker: azure, resource: ${AZURE_RESOURCE}`,
  },
};
const ADMIN = `admin_key: ${ADMIN_KEY},`;

/** The key that is there before, as each makes it. */
function firstKey(place: Place, makers: FakeMakers): FakeKey {
  if (place === "vertex") {
    const { id, text } = serviceAccountFile();
    return makers.add("", text, id);
  }
  if (place === "bedrock") return makers.add("", bedrockKey("keymeter").value, "ACCAOLD0123456789012");
  if (place !== "azure") return makers.add("by hand", "sk-old-0123456789abcdef");
  makers.add("", "fedcba9876543210fedcba9876543210", "Key2");
  return makers.add("", "0123456789abcdef0123456789abcdef", "Key1");
}

export function noOwnKeys(config: CollectorConfig): Rotating["ownKeys"] {
  return { rotations: [], actions: actionsOf(config) };
}

/** Google's ids are long, Azure's name a slot and what is in it: what a key has of them. */
export function shortId(id: string | null): string | undefined {
  return id?.split("/").at(-1)?.split("@")[0];
}

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
  /** Where the key is, but for a file. */
  readonly store: FakeStore | undefined;
  /** At a time so far ahead of this machine's clock. The bench's clock stays there: it never goes back. */
  tick(aheadMs?: number): Promise<Rotation | undefined>;
  /** Until it is there. */
  reach(state: Rotation["state"], timeoutMs?: number): Promise<Rotation>;
  ask(n: number, stream?: boolean): Promise<number>;
  stored(): string;
  close(): Promise<void>;
};

/** A proxy that reads the key of a place in a file, and the rotation of it. */
export async function startRotating(
  place: Place,
  more = "",
  where: "file" | "google" = "file",
  refreshSeconds = 1,
): Promise<Bench> {
  const makers = await startFakeMakers();
  const folder = temporaryFolder();
  const file = join(folder, "key");
  const old = firstKey(place, makers);
  writeFileSync(file, `${old.value.trim()}\n`, { mode: 0o600 });
  const versions: GoogleVersion[] = [{ data: old.value, state: "ENABLED" }];
  const store = where === "file" ? undefined : await startFakeSecretManager({ [IN_GOOGLE]: versions }, () => undefined);
  const reference = store ? `gcp-sm:${IN_GOOGLE}` : `file:${file}`;
  if (place === "vertex" || store) writeFileSync(join(folder, "admin.json"), makers.adminFile, { mode: 0o600 });
  const { path, row } = PLACES[place];
  const key = `api_key: "${reference}"`;
  const yaml = writeSettings(`
proxy:
  openai: { url: ${makers.url}, ${key} }
  anthropic: { url: ${makers.url}, ${key} }
${place === "vertex" ? `  vertex: { url: ${makers.url}, credentials: "${reference}" }` : ""}
  upstreams:
    openrouter: { url: ${makers.url}/api, ${key}, price_list: openai }
    xai: { url: ${makers.url}, ${key}, price_list: openai }
    vendor: { url: ${makers.url}, ${key}, price_list: openai }
    bedrock: { url: ${makers.url}, ${key}, kind: bedrock }
    azure: { url: ${makers.url}, ${key}, kind: azure }
collector:
  rotation:
    ${place}: { secret: "${reference}", url: ${makers.url}, quiet: 1s, grace: 1s, ${row(makers.url, folder)}${more} }
${store ? `secrets: { google: { url: ${store.url}, credentials: ${join(folder, "admin.json")} } }` : ""}
`);
  // As a machine of Azure's is signed in.
  const machine = place === "azure" ? await machineOfAzure(ADMIN_KEY) : {};
  Object.assign(process.env, machine);
  const environment = {
    KEYMETER_CONFIG: yaml,
    KEYMETER_SECRETS_REFRESH: String(refreshSeconds),
    ...machine,
  };
  const running = await startProxy(makers.url, { ...environment, OPENAI_API_KEY: "", ANTHROPIC_API_KEY: "" });
  const config = loadCollectorConfig({ ...environment, KEYMETER_DATA_DIR: running.dataDir });
  await openSecrets(config, SILENT);
  const billing = await openToWrite(running.place, "billing");
  const usage = await openUsage(running.place);
  if (!usage) throw new Error("no books");
  const { secret } = await running.createKey();
  const audited: string[] = [];
  const name = config.rotations[0]?.place ?? "";
  let furthestMs = 0;
  const tick = async (aheadMs = 0): Promise<Rotation | undefined> => {
    furthestMs = Math.max(furthestMs, aheadMs);
    await rotateOn({
      now: () => Date.now() + furthestMs,
      books: { usage, billing },
      rotations: config.rotations,
      ownKeys: noOwnKeys(config),
      audit: async ({ said }) => void audited.push(said),
      log: SILENT,
      patience: { probePauseMs: 10, settleMs: 500 },
    });
    return (await readRotations(billing, { place: name }))[0];
  };
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
        headers: {
          "content-type": "application/json",
          authorization: `Bearer ${secret}`,
          ...(place === "anthropic" ? { "anthropic-version": "2023-06-01", "x-keymeter-tags": `n=${n}` } : {}),
        },
        body: place === "anthropic" ? slowMessage(n, stream) : slowChat(n, stream),
      });
      const text = await answer.text();
      return answer.status === 200 && stream && !/\[DONE\]|message_stop/.test(text) ? 0 : answer.status;
    },
    stored: () => (store ? (versions.at(-1)?.data ?? "") : readFileSync(file, "utf8").trim()),
    store,
    async close() {
      await running.stop();
      await usage.close();
      await billing.close();
      await makers.close();
      await store?.close();
      for (const name of Object.keys(machine)) delete process.env[name];
    },
  };
}
