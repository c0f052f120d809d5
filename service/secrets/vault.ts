// Vault and OpenBao, version 2 of their key-value store, over five calls of their HTTP API. Sign-in by token, AppRole, or a
// token of Kubernetes or another issuer; renewed at two thirds of its life, made anew when it is refused.
import { readFile } from "node:fs/promises";
import { askStore, inStore } from "./ask.ts";
import type { Reference } from "./reference.ts";
import { StoreError, textOf } from "./store.ts";
import type { Found, Staging, Store } from "./store.ts";

/** How to sign in. */
export type VaultLogin =
  | { readonly by: "token"; readonly token: () => string }
  | { readonly by: "approle"; readonly mount: string; readonly roleId: string; readonly secretId: () => string }
  /** With a JWT that somebody keeps fresh in a file. */
  | { readonly by: "kubernetes" | "jwt"; readonly mount: string; readonly role: string; readonly file: string };

export type VaultSettings = {
  /** Scheme, host and port. */
  readonly address: string;
  readonly namespace?: string | undefined;
  readonly login: VaultLogin;
};

type Session = {
  readonly token: string;
  readonly renewAtMs: number;
  readonly isRenewable: boolean;
  /** What it was refused though it was new: to sign in again would not help. */
  readonly refused: Set<string>;
};

/** What Vault answers, as far as it is looked at. */
type Answer = {
  readonly errors?: readonly unknown[];
  readonly data?: {
    readonly data?: { readonly [field: string]: unknown } | null;
    readonly metadata?: { readonly version?: unknown; readonly deletion_time?: unknown; readonly destroyed?: unknown };
  };
  readonly auth?: { readonly client_token?: unknown; readonly lease_duration?: unknown; readonly renewable?: unknown };
};

export function createVault({ address, namespace, login }: VaultSettings): Store {
  let session: Session | undefined;
  /** The one that is made or renewed now: many secrets sign in once. */
  let making: Promise<Session> | undefined;

  const call = async (
    method: "GET" | "POST",
    path: string,
    signal: AbortSignal,
    { token, body }: { readonly token?: string | undefined; readonly body?: object | undefined },
  ): Promise<{ readonly status: number; readonly answer: Answer }> => {
    const answered = await askStore(inStore(address, path), signal, {
      method,
      headers: {
        "x-vault-request": "true",
        ...(token === undefined ? {} : { "x-vault-token": token }),
        ...(namespace === undefined ? {} : { "x-vault-namespace": namespace }),
      },
      ...(body === undefined ? {} : { body }),
    });
    return { status: answered.status, answer: answered.body ?? {} };
  };

  const signIn = async (
    login: Exclude<VaultLogin, { readonly by: "token" }>,
    signal: AbortSignal,
  ): Promise<Session> => {
    const body =
      login.by === "approle"
        ? { role_id: login.roleId, secret_id: login.secretId() }
        : { role: login.role, jwt: await readToken(login.file) };
    const { status, answer } = await call("POST", `auth/${login.mount}/login`, signal, { body });
    if (status !== 200)
      throw new StoreError(
        "refused",
        `sign-in by ${login.by} at auth/${login.mount} was refused (${status}): look at its role and at what it signs in with`,
      );
    return sessionOf(answer, address);
  };

  /** A session, renewed or made where it has to be. */
  const sessionNow = async (
    login: Exclude<VaultLogin, { readonly by: "token" }>,
    signal: AbortSignal,
  ): Promise<Session> => {
    if (session && Date.now() < session.renewAtMs) return session;
    const make = async (): Promise<Session> => {
      const renewed = session?.isRenewable ? await renew(session, signal) : undefined;
      return (session = renewed ?? (await signIn(login, signal)));
    };
    return (making ??= make().finally(() => (making = undefined)));
  };

  /** Undefined: near the end of what a role allows, and beyond it, a token is not renewed any more; what it is told then
   *  differs, 500 among it. */
  const renew = async ({ token, refused }: Session, signal: AbortSignal): Promise<Session | undefined> => {
    try {
      const { status, answer } = await call("POST", "auth/token/renew-self", signal, { token, body: {} });
      return status === 200 ? { ...sessionOf(answer, address), token, refused } : undefined;
    } catch (error) {
      if (error instanceof StoreError) return undefined;
      throw error;
    }
  };

  /** A call with the token of now. */
  const signed: Signed = async (method, path, signal, body) => {
    const ask = (token: string) => call(method, path, signal, { token, body });
    // Whoever keeps a token fresh, in a file, may have another one by now.
    if (login.by === "token") return ask(login.token());
    const first = await sessionNow(login, signal);
    const answered = await ask(first.token);
    // A token that ended is refused as one without rights is.
    const name = `${method} ${path}`;
    if (answered.status !== 403 || first.refused.has(name)) return answered;
    if (session === first) session = undefined;
    const anew = await sessionNow(login, signal);
    const again = await ask(anew.token);
    if (again.status === 403) anew.refused.add(name);
    return again;
  };

  return {
    async read(reference, signal) {
      const { status, answer } = await signed("GET", pathOf(reference), signal);
      return foundIn(reference, status, answer);
    },
    staging: (reference) => stagingIn(reference, signed),
  };
}

type Signed = (
  method: "GET" | "POST",
  path: string,
  signal: AbortSignal,
  body?: object,
) => Promise<{ readonly status: number; readonly answer: Answer }>;

/** Fields of the same secret, so that each step is one version of it. */
function stagingIn(reference: Reference, signed: Signed): Staging {
  /** Writes all fields of a secret anew, if nobody else did so meanwhile. `change` returns what they are to be; undefined:
   *  as they are. */
  const rewrite = async (
    signal: AbortSignal,
    change: (fields: Fields, field: string) => Fields | undefined,
  ): Promise<void> => {
    const { field = "" } = reference;
    for (let left = 3; left > 0; left--) {
      const { status, answer } = await signed("GET", pathOf(reference), signal);
      const { version } = foundIn(reference, status, answer);
      const changed = change(answer.data?.data ?? {}, field);
      if (!changed) return;
      const body = { options: { cas: Number(version) }, data: changed };
      const written = await signed("POST", pathOf(reference), signal, body);
      if (written.status === 200 || written.status === 204) return;
      if (written.status === 403)
        throw new StoreError(
          "refused",
          `${reference.path} may not be written: the policy lacks "update" on ${pathOf(reference)}`,
        );
      if (written.status !== 400) throw new StoreError("away", `it answered ${written.status} to a new version`);
    }
    throw new StoreError("away", `others write ${reference.path} at the same time`);
  };

  return {
    stage: (text, signal) => rewrite(signal, (fields, field) => ({ ...fields, [`${field}.next`]: text })),
    async staged(signal) {
      const { status, answer } = await signed("GET", pathOf(reference), signal);
      foundIn(reference, status, answer);
      const next = answer.data?.data?.[`${reference.field ?? ""}.next`];
      return typeof next === "string" ? next : undefined;
    },
    async previous(signal) {
      const { status, answer } = await signed("GET", pathOf(reference), signal);
      foundIn(reference, status, answer);
      const previous = answer.data?.data?.[`${reference.field ?? ""}.previous`];
      return typeof previous === "string" ? previous : undefined;
    },
    promote: (signal) =>
      rewrite(signal, (fields, field) => {
        const { [`${field}.next`]: next, ...rest } = fields;
        return next === undefined ? undefined : { ...rest, [field]: next, [`${field}.previous`]: fields[field] };
      }),
    restore: (signal) =>
      rewrite(signal, (fields, field) => {
        const { [`${field}.previous`]: previous, ...rest } = fields;
        return previous === undefined ? undefined : { ...rest, [field]: previous };
      }),
    clear: (signal) =>
      rewrite(signal, (fields, field) => {
        const { [`${field}.next`]: next, [`${field}.previous`]: previous, ...rest } = fields;
        return next === undefined && previous === undefined ? undefined : rest;
      }),
  };
}

type Fields = { readonly [field: string]: unknown };

function pathOf({ path }: Reference): string {
  const [mount = "", ...rest] = path.split("/");
  return `${mount}/data/${rest.map(encodeURIComponent).join("/")}`;
}

function foundIn(reference: Reference, status: number, { data, errors }: Answer): Found {
  if (status === 403)
    throw new StoreError(
      "refused",
      `${reference.path} may not be read: the token ended, or its policy lacks "read" there`,
    );
  if (status === 404)
    throw new StoreError(
      "missing",
      data?.metadata ? `the newest version of ${reference.path} was deleted` : `there is nothing at ${reference.path}`,
    );
  if (status !== 200)
    throw new StoreError(
      "away",
      `it answered ${status}${errors?.length ? `: ${String(errors[0]).slice(0, 120)}` : ""}`,
    );
  if (!data?.data) throw new StoreError("unusable", `${reference.path} is in no key-value store of version 2`);
  const { version } = data.metadata ?? {};
  return {
    text: textOf(data.data[reference.field ?? ""], reference.field ?? ""),
    version: typeof version === "number" ? String(version) : undefined,
  };
}

function sessionOf({ auth }: Answer, address: string): Session {
  const { client_token: token, lease_duration: lease, renewable } = auth ?? {};
  if (typeof token !== "string" || token === "") throw new StoreError("away", `${address} gave no token at sign-in`);
  const seconds = typeof lease === "number" && lease > 0 ? lease : Infinity;
  const renewAtMs = Date.now() + (seconds * 1000 * 2) / 3;
  return { token, renewAtMs, isRenewable: renewable === true, refused: new Set() };
}

async function readToken(file: string): Promise<string> {
  const text = await readFile(file, "utf8").catch(() => {
    throw new StoreError("refused", `the token that signs in, ${file}, cannot be read`);
  });
  return text.trim();
}
