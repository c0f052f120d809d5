// xAI: keys of a team are made, switched off and on, and deleted with a management key, at an address of its own. It is the
// one provider that says when all of it knows a key. Source: its management API's documentation.
import { MakerError, askMaker, identifyBy, inApi, probeWith } from "../maker.ts";
import type { Maker, MakerSettings } from "../maker.ts";

type ApiKey = { readonly apiKeyId?: string; readonly name?: string; readonly redactedApiKey?: string } & Rights;
type Rights = {
  readonly acls?: readonly string[];
  readonly qps?: number;
  readonly qpm?: number;
  readonly tpm?: string;
};

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
    await askMaker(at(`api-keys/${encodeURIComponent(id)}`), { method: "PUT", headers: headers(), body, also: [404] });
  };
  return {
    async create(name, like) {
      // What the key that it follows may do, and how much.
      const old = (await list()).find(({ apiKeyId }) => apiKeyId === like);
      if (!old?.acls) throw new MakerError("xAI does not say what the current key may do: make the new one by hand");
      const body = { name, acls: old.acls, qps: old.qps, qpm: old.qpm, tpm: old.tpm };
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
      const place = at(`api-keys/${encodeURIComponent(id)}`);
      const { status } = await askMaker(place, { method: "DELETE", headers: headers(), also: [404] });
      return status !== 404;
    },
    probe: (value) => probeWith(inApi(url, "/v1/models"), { authorization: `Bearer ${value}` }),
  };
}
