// xAI: keys of a team are made, switched off and on, and deleted with a management key, at an address of its own. It is the
// one provider that says when all of it knows a key. Source: its management API's documentation.
import { askMaker, identifyBy, MakerError, probeWith } from "../maker.ts";
import type { Maker, MakerSettings } from "../maker.ts";

type ApiKey = { readonly apiKeyId?: string; readonly name?: string; readonly redactedApiKey?: string };

export function xaiMaker({ adminKey, adminUrl, url, team }: MakerSettings): Maker {
  const at = (path: string): URL => new URL(`${adminUrl.href.replace(/\/$/, "")}/auth/${path}`);
  const headers = (): { authorization: string } => ({ authorization: `Bearer ${adminKey()}` });
  const ofTeam = `teams/${encodeURIComponent(team)}/api-keys`;
  const list = async (): Promise<ApiKey[]> => {
    const found: ApiKey[] = [];
    for (let token = ""; ;) {
      const place = at(`${ofTeam}?pageSize=100${token === "" ? "" : `&paginationToken=${encodeURIComponent(token)}`}`);
      const page = (await askMaker(place, { headers: headers() })).body as {
        apiKeys?: ApiKey[];
        paginationToken?: string;
      };
      found.push(...(page.apiKeys ?? []));
      token = page.paginationToken ?? "";
      if (token === "") return found;
    }
  };
  const set = async (id: string, disabled: boolean): Promise<void> => {
    const body = { apiKey: { disabled }, fieldMask: "disabled" };
    await askMaker(at(`api-keys/${encodeURIComponent(id)}`), { method: "PUT", headers: headers(), body });
  };
  return {
    async create(name) {
      const body = { name, acls: ["api-key:model:*", "api-key:endpoint:*"] };
      const made = (await askMaker(at(ofTeam), { method: "POST", headers: headers(), body })).body as {
        apiKey?: unknown;
        apiKeyId?: unknown;
      };
      if (typeof made.apiKey !== "string" || typeof made.apiKeyId !== "string")
        throw new MakerError("xAI made a key without its value");
      return { id: made.apiKeyId, value: made.apiKey };
    },
    find: async (name) =>
      (await list()).flatMap((one) => (one.name === name && one.apiKeyId !== undefined ? [one.apiKeyId] : [])),
    identify: async (value) =>
      identifyBy(
        value,
        (await list()).map(({ apiKeyId: id = "", redactedApiKey: shown }) => ({ id, shown })),
      ),
    disable: (id) => set(id, true),
    enable: (id) => set(id, false),
    async revoke(id) {
      await askMaker(at(`api-keys/${encodeURIComponent(id)}`), { method: "DELETE", headers: headers(), also: [404] });
    },
    probe: (value) => probeWith(new URL("/v1/models", url), { authorization: `Bearer ${value}` }),
  };
}
