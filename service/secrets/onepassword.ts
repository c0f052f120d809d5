// 1Password, by its Connect server or as a service account: `op://VAULT/ITEM[/SECTION]/FIELD`, by names or ids, as its own
// programs write it.
import type { Client } from "@1password/sdk";
import { askStore, inStore } from "./ask.ts";
import type { Answered } from "./ask.ts";
import { loadPackage } from "./package.ts";
import type { Reference } from "./reference.ts";
import { StoreError } from "./store.ts";
import type { Staging, Store } from "./store.ts";

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
  readonly fields?: readonly Field[];
};
type Field = {
  readonly id?: unknown;
  readonly label?: unknown;
  readonly value?: unknown;
  readonly section?: { readonly id?: unknown };
};
/** A change of an item, as JSON Patch has it; a list of them is made whole or not at all. */
type Change = { readonly op: "add" | "replace" | "remove"; readonly path: string; readonly value?: unknown };

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
    staging() {
      throw new StoreError("refused", "as a service account 1Password is only read: a Connect server writes there");
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

  const call = async (path: string, signal: AbortSignal, changes?: readonly Change[]): Promise<Answered> => {
    const how = changes === undefined ? {} : ({ method: "PATCH", body: changes } as const);
    const headers = { authorization: `Bearer ${token()}` };
    const answered = await askStore(inStore(address, path), signal, { ...how, headers });
    if (answered.status === 401 || answered.status === 403)
      throw new StoreError(
        "refused",
        `${address} does not let this token ${changes ? "write" : "read"} there: give it the vault`,
      );
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

  const itemOf = async (reference: Reference, signal: AbortSignal): Promise<{ place: string; item: Item }> => {
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
    return { place, item: answered.body ?? {} };
  };

  return {
    async read(reference, signal) {
      const { item } = await itemOf(reference, signal);
      return {
        text: valueOf(fieldIn(item, reference)),
        version: item.version === undefined ? undefined : String(item.version),
      };
    },
    staging: (reference) =>
      stagingIn(reference, {
        read: (signal) => itemOf(reference, signal),
        async change(place, changes, signal) {
          const { status } = await call(place, signal, changes);
          if (status !== 200) throw new StoreError("away", `${address} answered ${status} to a change of the item`);
        },
      }),
  };
}

type Items = {
  read(signal: AbortSignal): Promise<{ readonly place: string; readonly item: Item }>;
  change(place: string, changes: readonly Change[], signal: AbortSignal): Promise<void>;
};

/** Fields beside it in the same item, FIELD.next and FIELD.previous. */
function stagingIn(reference: Reference, items: Items): Staging {
  const fieldsOf = async (signal: AbortSignal) => {
    const { place, item } = await items.read(signal);
    const field = fieldIn(item, reference);
    const beside = (word: string): Field | undefined =>
      item.fields?.find(
        ({ label, section }) => label === `${String(field.label)}.${word}` && section?.id === field.section?.id,
      );
    return { place, field, next: beside("next"), previous: beside("previous") };
  };
  const at = ({ id }: Field): string => `/fields/${String(id).replaceAll("~", "~0").replaceAll("/", "~1")}`;
  const put = (found: Field | undefined, like: Field, word: string, value: string): Change =>
    found
      ? { op: "replace", path: `${at(found)}/value`, value }
      : {
          op: "add",
          path: "/fields",
          value: {
            label: `${String(like.label)}.${word}`,
            type: "CONCEALED",
            value,
            ...(like.section ? { section: like.section } : {}),
          },
        };
  const drop = (found: Field | undefined): Change[] => (found ? [{ op: "remove", path: at(found) }] : []);
  const textOf = (found: Field | undefined): string | undefined =>
    typeof found?.value === "string" && found.value !== "" ? found.value : undefined;
  return {
    async stage(text, signal) {
      const { place, field, next } = await fieldsOf(signal);
      await items.change(place, [put(next, field, "next", text)], signal);
    },
    staged: async (signal) => textOf((await fieldsOf(signal)).next),
    previous: async (signal) => textOf((await fieldsOf(signal)).previous),
    async promote(signal) {
      const { place, field, next, previous } = await fieldsOf(signal);
      const value = textOf(next);
      if (value === undefined) return;
      const isCurrent = value === field.value;
      const swap = [put(previous, field, "previous", valueOf(field)), put(field, field, "", value)];
      await items.change(place, [...(isCurrent ? [] : swap), ...drop(next)], signal);
    },
    async restore(signal) {
      const { place, field, previous } = await fieldsOf(signal);
      const value = textOf(previous);
      if (value !== undefined) await items.change(place, [put(field, field, "", value)], signal);
    },
    async clear(signal) {
      const { place, next, previous } = await fieldsOf(signal);
      const changes = [...drop(next), ...drop(previous)];
      if (changes.length > 0) await items.change(place, changes, signal);
    },
  };
}

/** `//VAULT/ITEM/FIELD` */
function partsOf(path: string): string[] {
  return path.slice("//".length).split("/");
}

const IS_ID = /^[a-z0-9]{26}$/;

function fieldIn({ fields = [], sections = [] }: Item, { path }: Reference): Field {
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
  if (!found[0]) throw new StoreError("missing", `the item has no field ${field}`);
  return found[0];
}

function valueOf({ value, label }: Field): string {
  if (typeof value !== "string") throw new StoreError("missing", `the item has nothing in its field ${String(label)}`);
  return value;
}
