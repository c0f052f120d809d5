// 1Password, by its Connect server or as a service account: `op://VAULT/ITEM[/SECTION]/FIELD`, by names or ids, as its own
// programs write it.
import type { Client } from "@1password/sdk";
import { askStore, inStore } from "./ask.ts";
import { loadPackage } from "./package.ts";
import type { Reference } from "./reference.ts";
import { StoreError } from "./store.ts";
import type { Store } from "./store.ts";

export type OnePasswordSettings = ConnectSettings | { /** Its token. */ readonly account: () => string };

type ConnectSettings = {
  /** Scheme, host and port of the Connect server. */
  readonly address: string;
  readonly token: () => string;
};

type Named = { readonly id?: unknown; readonly name?: unknown; readonly title?: unknown };
type Item = {
  readonly version?: number;
  readonly sections?: readonly { readonly id?: unknown; readonly label?: unknown }[];
  readonly fields?: readonly {
    readonly id?: unknown;
    readonly label?: unknown;
    readonly value?: unknown;
    readonly section?: { readonly id?: unknown };
  }[];
};

export function createOnePassword(settings: OnePasswordSettings): Store {
  return "account" in settings ? createServiceAccount(settings.account) : createConnect(settings);
}

/** By 1Password's own package, which keeps the service's way of signing in. It tells no versions apart. */
function createServiceAccount(account: () => string): Store {
  let made: { readonly token: string; readonly client: Client } | undefined;
  return {
    async read({ text }) {
      const { createClient } = await loadPackage("@1password/sdk", () => import("@1password/sdk"));
      const token = account();
      try {
        if (made?.token !== token) {
          const client = await createClient({ auth: token, integrationName: "Keymeter", integrationVersion: "1" });
          made = { token, client };
        }
        return { text: await made.client.secrets.resolve(text) };
      } catch (error) {
        throw accountFailure(error, text);
      }
    },
    // A service account may ask a thousand times an hour.
    usualRefresh: 300,
  };
}

/** Its messages may repeat what was sent: only what they are about is kept. */
function accountFailure(error: unknown, text: string): StoreError {
  const said = error instanceof Error ? `${error.name} ${error.message}` : String(error);
  if (/rate ?limit/i.test(said)) return new StoreError("away", "1Password allows no more questions for now");
  if (/not found|no (vault|item|field)|could not be found|doesn't exist/i.test(said))
    return new StoreError("missing", `there is no ${text} that this service account sees`);
  if (/token|auth|permission|denied|unauthor/i.test(said))
    return new StoreError("refused", "1Password refuses this service account");
  return new StoreError("away", "1Password cannot be asked");
}

function createConnect({ address, token }: ConnectSettings): Store {
  /** Ids of vaults and items, by the path that names them. */
  const places = new Map<string, string>();

  const call = async (path: string, signal: AbortSignal): Promise<{ status: number; body: unknown }> => {
    const answered = await askStore(inStore(address, path), signal, {
      headers: { authorization: `Bearer ${token()}` },
    });
    if (answered.status === 401 || answered.status === 403)
      throw new StoreError("refused", `${address} does not let this token read there: give it the vault`);
    return answered;
  };

  /** The id of the one that a name means. An id is a name too. */
  const idOf = async (path: string, field: "name" | "title", wanted: string, signal: AbortSignal): Promise<string> => {
    const { status, body } = await call(`${path}?filter=${encodeURIComponent(`${field} eq "${wanted}"`)}`, signal);
    const found = (status === 200 && Array.isArray(body) ? (body as readonly Named[]) : []).filter(
      (one) => one[field] === wanted && typeof one.id === "string",
    );
    if (found.length > 1) throw new StoreError("unusable", `${found.length} are named ${wanted}: write its id`);
    if (found[0]) return String(found[0].id);
    if (IS_ID.test(wanted)) return wanted;
    throw new StoreError(
      "missing",
      `there is no ${field === "name" ? "vault" : "item"} ${wanted} that this token sees`,
    );
  };

  const find = async ({ path }: Reference, signal: AbortSignal): Promise<string> => {
    const [vault = "", item = ""] = partsOf(path);
    const vaultId = await idOf("vaults", "name", vault, signal);
    return `vaults/${vaultId}/items/${await idOf(`vaults/${vaultId}/items`, "title", item, signal)}`;
  };

  return {
    async read(reference, signal) {
      const name = partsOf(reference.path).slice(0, 2).join("/");
      const known = places.get(name);
      let place = known ?? (await find(reference, signal));
      let answered = await call(place, signal);
      // Another item has that name by now.
      if (answered.status !== 200 && known !== undefined) {
        place = await find(reference, signal);
        answered = await call(place, signal);
      }
      if (answered.status !== 200) {
        places.delete(name);
        throw new StoreError("missing", `there is no item ${name} any more`);
      }
      places.set(name, place);
      const item = (answered.body ?? {}) as Item;
      return {
        text: fieldIn(item, reference),
        version: item.version === undefined ? undefined : String(item.version),
      };
    },
  };
}

/** `//VAULT/ITEM/FIELD` */
function partsOf(path: string): string[] {
  return path.slice("//".length).split("/");
}

const IS_ID = /^[a-z0-9]{26}$/;

function fieldIn({ fields = [], sections = [] }: Item, { path }: Reference): string {
  const [, , ...rest] = partsOf(path);
  const [field = "", section] = rest.toReversed();
  const is = (one: { readonly id?: unknown; readonly label?: unknown } | undefined, wanted: string): boolean =>
    one !== undefined && (one.id === wanted || one.label === wanted);
  const found = fields.filter(
    (one) =>
      is(one, field) &&
      (section === undefined ||
        is(
          sections.find(({ id }) => id === one.section?.id),
          section,
        )),
  );
  if (found.length > 1) throw new StoreError("unusable", `${found.length} fields are named ${field}: name its section`);
  const value = found[0]?.value;
  if (typeof value !== "string") throw new StoreError("missing", `the item has no field ${field}`);
  return value;
}
