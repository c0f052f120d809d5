// OpenAI: keys of a service account, each made and deleted alone. It cannot switch a key off and on again; it says when each
// was last used. Source: the admin resources of its SDK (openai 7.57).
import { MakerError, askMaker, identifyBy, inApi, probeWith } from "../maker.ts";
import type { MadeKey, Maker, MakerSettings } from "../maker.ts";

type ApiKey = {
  readonly id?: string;
  readonly name?: string | null;
  readonly redacted_value?: string;
  readonly last_used_at?: number | null;
};

export function openaiMaker({ adminKey, adminUrl, url, project, serviceAccount }: MakerSettings): Maker {
  const base = `organization/projects/${encodeURIComponent(project)}`;
  const at = (path: string): URL => new URL(`${adminUrl.href.replace(/\/$/, "")}/v1/${path}`);
  const headers = (): { authorization: string } => ({ authorization: `Bearer ${adminKey()}` });
  const list = async (): Promise<ApiKey[]> => {
    const found: ApiKey[] = [];
    for (let after = ""; ;) {
      const place = at(`${base}/api_keys?limit=100${after === "" ? "" : `&after=${encodeURIComponent(after)}`}`);
      const { body } = await askMaker(place, { headers: headers() });
      const { data = [], has_more: hasMore } = body as { data?: ApiKey[]; has_more?: boolean };
      found.push(...data);
      after = data.at(-1)?.id ?? "";
      if (hasMore !== true || after === "") return found;
    }
  };
  return {
    async create(name): Promise<MadeKey> {
      const place = at(`${base}/service_accounts/${encodeURIComponent(serviceAccount)}/api_keys`);
      const { body } = await askMaker(place, { method: "POST", headers: headers(), body: { name } });
      const { id, value } = body as { id?: unknown; value?: unknown };
      if (typeof id !== "string" || typeof value !== "string")
        throw new MakerError("OpenAI made a key without its value");
      return { id, value };
    },
    find: async (name) => (await list()).flatMap((one) => (one.name === name && one.id !== undefined ? [one.id] : [])),
    identify: async (value) =>
      identifyBy(
        value,
        (await list()).map(({ id = "", redacted_value: shown }) => ({ id, shown })),
      ),
    async revoke(id) {
      const { status } = await askMaker(at(`${base}/api_keys/${encodeURIComponent(id)}`), {
        method: "DELETE",
        headers: headers(),
        also: [404],
      });
      return status !== 404;
    },
    async lastUsedMs(id) {
      // A key that somebody deleted is used no more.
      const { body } = await askMaker(at(`${base}/api_keys/${encodeURIComponent(id)}`), {
        headers: headers(),
        also: [404],
      });
      const { last_used_at: seconds } = body as ApiKey;
      return typeof seconds === "number" ? seconds * 1000 : undefined;
    },
    probe: (value) => probeWith(inApi(url, "/v1/models"), { authorization: `Bearer ${value}` }),
  };
}
