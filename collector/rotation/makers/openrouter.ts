// OpenRouter: keys are made, switched off and on, and deleted with a management key; each is known by its hash. Source: its
// SDK (@openrouter/sdk 1.3).
import { MakerError, askMaker, identifyBy, inApi, probeWith } from "../maker.ts";
import type { Maker, MakerSettings } from "../maker.ts";

type ApiKey = { readonly hash?: string; readonly name?: string; readonly label?: string };
type Limits = { readonly [name in "limit" | "limit_reset" | "include_byok_in_limit"]?: unknown };
const MOST_PAGES = 1_000;

export function openrouterMaker({ adminKey, adminUrl, url }: MakerSettings): Maker {
  const at = (path: string): URL => new URL(`${adminUrl.href.replace(/\/$/, "")}/api/v1/${path}`);
  const headers = (): { authorization: string } => ({ authorization: `Bearer ${adminKey()}` });
  const list = async (): Promise<ApiKey[]> => {
    const found: ApiKey[] = [];
    for (let page = 0; page < MOST_PAGES; page++) {
      const place = at(`keys?include_disabled=true&offset=${found.length}`);
      const { data = [] } = (await askMaker(place, { headers: headers() })).body as { data?: ApiKey[] };
      found.push(...data);
      if (data.length === 0) break;
    }
    return found;
  };
  const set = async (hash: string, disabled: boolean): Promise<void> => {
    const place = at(`keys/${encodeURIComponent(hash)}`);
    await askMaker(place, { method: "PATCH", headers: headers(), body: { disabled }, also: [404] });
  };
  return {
    async create(name, like) {
      // The limits of the key that it follows are its own.
      const { body: old } = await askMaker(at(`keys/${encodeURIComponent(like)}`), { headers: headers() });
      const { limit, limit_reset: reset, include_byok_in_limit: byok } = (old as { data?: Limits }).data ?? {};
      const given = { name, limit, limit_reset: reset, include_byok_in_limit: byok };
      const { body } = await askMaker(at("keys"), { method: "POST", headers: headers(), body: given });
      const { key, data } = body as { key?: unknown; data?: ApiKey };
      if (typeof key !== "string" || typeof data?.hash !== "string")
        throw new MakerError("OpenRouter made a key without its value");
      return { id: data.hash, value: key };
    },
    find: async (name) =>
      (await list()).flatMap((one) => (one.name === name && one.hash !== undefined ? [one.hash] : [])),
    identify: async (value) =>
      identifyBy(
        value,
        (await list()).map(({ hash: id = "", label: shown }) => ({ id, shown })),
      ),
    disable: (hash) => set(hash, true),
    enable: (hash) => set(hash, false),
    async revoke(hash) {
      const place = at(`keys/${encodeURIComponent(hash)}`);
      const { status } = await askMaker(place, { method: "DELETE", headers: headers(), also: [404] });
      return status !== 404;
    },
    probe: (value) => probeWith(inApi(url, "/api/v1/key"), { authorization: `Bearer ${value}` }),
  };
}
