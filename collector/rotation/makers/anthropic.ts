// Anthropic: no API makes a key. It can be switched off and on, and archived, with an admin key. Source: the organization
// resources of its SDK (@anthropic-ai/sdk 1.12).
import { askMaker, identifyBy, inApi, probeWith } from "../maker.ts";
import type { Maker, MakerSettings } from "../maker.ts";

type ApiKey = { readonly id?: string; readonly name?: string; readonly partial_key_hint?: string | null };
const VERSION = { "anthropic-version": "2023-06-01" };

export function anthropicMaker({ adminKey, adminUrl, url }: MakerSettings): Maker {
  const at = (path: string): URL => new URL(`${adminUrl.href.replace(/\/$/, "")}/v1/organizations/${path}`);
  const headers = (): { [name: string]: string } => ({ "x-api-key": adminKey(), ...VERSION });
  const list = async (): Promise<ApiKey[]> => {
    const found: ApiKey[] = [];
    for (let after = ""; ;) {
      const place = at(`api_keys?limit=1000${after === "" ? "" : `&after_id=${encodeURIComponent(after)}`}`);
      const { body } = await askMaker(place, { headers: headers() });
      const page = body as { data?: ApiKey[]; has_more?: boolean; last_id?: string | null };
      found.push(...(page.data ?? []));
      after = page.last_id ?? "";
      if (page.has_more !== true || after === "") return found;
    }
  };
  const set = async (id: string, status: "active" | "inactive" | "archived"): Promise<boolean> => {
    const answer = await askMaker(at(`api_keys/${encodeURIComponent(id)}`), {
      method: "POST",
      headers: headers(),
      body: { status },
      also: [404],
    });
    return answer.status !== 404;
  };
  return {
    find: async (name) => (await list()).flatMap((one) => (one.name === name && one.id !== undefined ? [one.id] : [])),
    identify: async (value) =>
      identifyBy(
        value,
        (await list()).map(({ id = "", partial_key_hint: shown }) => ({ id, shown: shown ?? undefined })),
      ),
    disable: async (id) => void (await set(id, "inactive")),
    enable: async (id) => void (await set(id, "active")),
    revoke: (id) => set(id, "archived"),
    probe: (value) => probeWith(inApi(url, "/v1/models"), { "x-api-key": value, ...VERSION }),
  };
}
