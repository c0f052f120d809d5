// Azure OpenAI: an account has two keys, Key1 and Key2. A new one takes the place of the one that is not current, at once; the old
// one goes by being made anew. Source: Azure's management API (Microsoft.CognitiveServices accounts, 2025-09-01).
import { createHash } from "node:crypto";
import { azureTokens } from "../../../service/azure-credentials.ts";
import { MakerError, askMaker, inApi, probeWith } from "../maker.ts";
import type { Maker, MakerSettings } from "../maker.ts";

const VERSION = "2025-09-01";
const TIMEOUT_MS = 20_000;
const SLOTS = ["Key1", "Key2"] as const;
type Slot = (typeof SLOTS)[number];
type Keys = { readonly [slot in Slot]: string };

/** Ids are the slot and a digest of what is in it (`Key1@0a1b2c3d4e5f`): a slot that has another key by now is not that key. */
export function azureMaker({
  adminId,
  adminKey,
  adminUrl,
  url,
  tenant,
  authority,
  resource,
  probe,
}: MakerSettings): Maker {
  const tokenFor = azureTokens({
    application: adminId === "" ? undefined : { tenantId: tenant, clientId: adminId, secret: adminKey },
    authority: authority === "" ? undefined : authority,
  });
  const ask = async (verb: "listKeys" | "regenerateKey", body: object): Promise<Keys> => {
    const token = await tokenFor(adminUrl.origin, AbortSignal.timeout(TIMEOUT_MS));
    const answer = await askMaker(inApi(adminUrl, `${resource}/${verb}?api-version=${VERSION}`), {
      method: "POST",
      headers: { authorization: `Bearer ${token}` },
      body,
      means: { 403: ": the sign-in needs the role Cognitive Services Contributor on the account" },
    });
    const { key1, key2 } = answer.body as { key1?: unknown; key2?: unknown };
    if (typeof key1 !== "string" || typeof key2 !== "string") throw new MakerError("Azure answered without two keys");
    return { Key1: key1, Key2: key2 };
  };
  const keys = (): Promise<Keys> => ask("listKeys", {});
  return {
    async create(_name, currentId) {
      const slot = otherThan(slotOf(currentId));
      const value = (await ask("regenerateKey", { keyName: slot }))[slot];
      return { id: idOf(slot, value), value };
    },
    replaces: async (currentId) => (await keys())[otherThan(slotOf(currentId))],
    async identify(value) {
      const both = await keys();
      const slot = SLOTS.find((one) => both[one] === value);
      return slot && idOf(slot, value);
    },
    async revoke(id) {
      const slot = slotOf(id);
      if (idOf(slot, (await keys())[slot]) !== id) return false;
      await ask("regenerateKey", { keyName: slot });
      return true;
    },
    probe: (value) => probeWith(inApi(url, probe.list), probe.headers(value)),
  };
}

function slotOf(id: string): Slot {
  const found = SLOTS.find((slot) => slot === id.split("@")[0]);
  if (!found) throw new MakerError(`${id} is none of an account's two keys: write Key1@... or Key2@...`);
  return found;
}

function otherThan(slot: Slot): Slot {
  return slot === "Key1" ? "Key2" : "Key1";
}

function idOf(slot: Slot, value: string): string {
  return `${slot}@${createHash("sha256").update(value).digest("hex").slice(0, 12)}`;
}
