// Secrets of GitHub Actions: of a repository, of an environment of it, of an organisation. They can be written and never
// read; each is sealed for a key that GitHub says.
import { askStore } from "./ask.ts";
import type { Answered } from "./ask.ts";
import { loadPackage } from "./package.ts";
import { StoreError } from "./store.ts";
import type { Secret } from "../secret.ts";

export type GitHubSettings = { readonly address: string; readonly token: Secret | undefined };

const NO_TOKEN = "secrets.github.token (KEYMETER_SECRETS_GITHUB_TOKEN) is not set";
const NAME = /^[A-Z_][A-Z0-9_]*$/i;
const PART = /^(?!\.+$)[\w.-]+$/;

/** The API's folder of a target: `OWNER/REPO/NAME`, `OWNER/REPO/ENVIRONMENT/NAME`, or `ORG/NAME`; undefined: it is none. */
export function githubPlace(path: string): { readonly folder: string; readonly name: string } | undefined {
  const parts = path.split("/");
  const name = parts.pop() ?? "";
  if (!NAME.test(name) || /^github_/i.test(name) || parts.length === 0 || parts.length > 3) return undefined;
  const [owner = "", repository = "", environment] = parts;
  if (!PART.test(owner) || (parts.length > 1 && !PART.test(repository)) || environment === "") return undefined;
  if (parts.length === 1) return { folder: `orgs/${owner}/actions/secrets`, name };
  const repo = `repos/${owner}/${repository}`;
  return environment === undefined
    ? { folder: `${repo}/actions/secrets`, name }
    : { folder: `${repo}/environments/${encodeURIComponent(environment)}/secrets`, name };
}

/** Writes a secret. Rejects with a StoreError. */
export async function writeToGitHub(
  settings: GitHubSettings,
  path: string,
  value: string,
  signal: AbortSignal,
): Promise<void> {
  const { call, name, key, keyId, scope } = await openPlace(settings, path, signal);
  const sealed = { encrypted_value: await seal(key, value), key_id: keyId };
  const { status } = await call("PUT", name, { ...sealed, ...scope });
  if (status !== 201 && status !== 204) throw new StoreError("away", `GitHub answered ${status} to the new secret`);
}

/** Whether a secret could be written there now. Rejects with a StoreError where not. */
export async function checkGitHub(settings: GitHubSettings, path: string, signal: AbortSignal): Promise<void> {
  if (!settings.token) throw new StoreError("refused", NO_TOKEN);
  await loadSodium();
  await openPlace(settings, path, signal);
}

type Call = (method: "GET" | "PUT", of: string, body?: object) => Promise<Answered>;

/** What GitHub says before it takes a secret. */
async function openPlace({ address, token }: GitHubSettings, path: string, signal: AbortSignal) {
  const place = githubPlace(path);
  if (!place)
    throw new StoreError(
      "unusable",
      "write github:OWNER/REPO/NAME, github:OWNER/REPO/ENVIRONMENT/NAME or github:ORG/NAME",
    );
  if (!token) throw new StoreError("refused", NO_TOKEN);
  const { folder, name } = place;
  const call: Call = async (method, of, body) => {
    const answered = await askStore(new URL(`${address.replace(/\/+$/, "")}/${folder}/${of}`), signal, {
      method,
      headers: {
        authorization: `Bearer ${token.reveal().trim()}`,
        accept: "application/vnd.github+json",
        "x-github-api-version": "2022-11-28",
        "user-agent": "keymeter",
      },
      ...(body === undefined ? {} : { body }),
    });
    if (answered.status === 403 && /rate limit|abuse/i.test((answered.body as { message?: string })?.message ?? ""))
      throw new StoreError("away", "GitHub takes no more requests of this token for now");
    if (answered.status === 401 || answered.status === 403)
      throw new StoreError("refused", `GitHub does not let this token write ${path}: it needs write access to secrets`);
    return answered;
  };
  const found = await call("GET", "public-key");
  const { key, key_id: keyId } = (found.body ?? {}) as { key?: unknown; key_id?: unknown };
  if (found.status !== 200 || typeof key !== "string" || typeof keyId !== "string")
    throw new StoreError("missing", `GitHub knows no ${folder}, or does not show it to this token`);
  // Who may use an organisation's secret stays as it is.
  const scope = folder.startsWith("orgs/") ? await visibilityOf(call, name, path) : {};
  return { call, name, key, keyId, scope };
}

async function visibilityOf(call: Call, name: string, path: string): Promise<object> {
  const { status, body } = await call("GET", name);
  if (status !== 200)
    throw new StoreError(
      "missing",
      `there is no ${path} yet: make it once at GitHub, and say there which repositories get it`,
    );
  const { visibility } = body as { visibility?: unknown };
  if (visibility !== "selected") return { visibility };
  const ids: number[] = [];
  for (let page = 1; ; page++) {
    const answered = await call("GET", `${name}/repositories?per_page=100&page=${page}`);
    const { repositories } = (answered.body ?? {}) as { repositories?: { id: number }[] };
    // Half a list would take the secret from the others.
    if (answered.status !== 200 || !repositories)
      throw new StoreError("away", `GitHub answered ${answered.status} to which repositories have ${path}`);
    ids.push(...repositories.map(({ id }) => id));
    if (repositories.length < 100) return { visibility, selected_repository_ids: ids };
  }
}

/** Rejects with a StoreError where its package is not installed. */
async function loadSodium() {
  const { default: sodium } = await loadPackage("libsodium-wrappers", () => import("libsodium-wrappers"));
  await sodium.ready;
  return sodium;
}

/** A sealed box of libsodium, as GitHub opens it. */
async function seal(key: string, value: string): Promise<string> {
  const sodium = await loadSodium();
  const box = sodium.crypto_box_seal(Buffer.from(value, "utf8"), Buffer.from(key, "base64"));
  return Buffer.from(box).toString("base64");
}
