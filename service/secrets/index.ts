// The one room where secrets are read: of every program's settings, by whichever store their references name. What stands in
// the settings themselves is a secret as ever.
import { HeldSecret } from "./held.ts";
import type { Refreshing, SecretState } from "./held.ts";
import { createEnvironmentStore, createFileStore } from "./local.ts";
import type { AzureSignIn } from "../azure-credentials.ts";
import type { Log } from "../log.ts";
import type { Reference, Scheme } from "./reference.ts";
import { createAwsStore } from "./aws.ts";
import type { AwsStoreSettings } from "./aws.ts";
import { createAzureStore } from "./azure.ts";
import { StoreError } from "./store.ts";
import type { Store } from "./store.ts";
import type { GitHubSettings } from "./github.ts";
import { createGoogleStore } from "./google.ts";
import type { GoogleStoreSettings } from "./google.ts";
import { createOnePassword } from "./onepassword.ts";
import type { OnePasswordSettings } from "./onepassword.ts";
import { createVault } from "./vault.ts";
import type { VaultSettings } from "./vault.ts";

export { HeldSecret, SecretUnavailable } from "./held.ts";
export type { SecretState } from "./held.ts";

/** What settings say of stores; as a text, what they lack to say it. */
type StoreSettings = {
  readonly vault: VaultSettings | string;
  readonly op: OnePasswordSettings | string;
  readonly "aws-sm": AwsStoreSettings | string;
  readonly "gcp-sm": GoogleStoreSettings | string;
  readonly "azure-kv": AzureSignIn | string;
};

/** The secrets of one reading of settings, and the stores behind them. */
export type SecretRoom = {
  readonly secrets: readonly HeldSecret[];
  /** `fault` says what is wrong with a text. */
  hold(place: string, reference: Reference, fault: (text: string) => string | undefined): HeldSecret;
  /** The store of a reference, for what is no program's own secret. */
  storeOf(reference: Reference): Store;
  /** Where the stores are. What is held may be made before that. */
  configure(settings: StoreSettings, refreshing: Refreshing, github?: GitHubSettings): void;
  /** Where secrets of GitHub Actions are written. */
  readonly github: GitHubSettings | undefined;
  /** References to stores that nobody has set up: a problem each. */
  problems(): string[];
};

/** Stores that open other stores' doors are asked first. */
const LOCAL: ReadonlySet<Scheme> = new Set(["env", "file"]);

export function createSecretRoom(environment: { readonly [name: string]: string | undefined }): SecretRoom {
  const secrets: HeldSecret[] = [];
  const stores = new Map<Scheme, Store>([
    ["env", createEnvironmentStore(environment)],
    ["file", createFileStore()],
  ]);
  const lacking = new Map<Scheme, string>();
  let github: GitHubSettings | undefined;
  const refreshing: { -readonly [part in keyof Refreshing]: Refreshing[part] } = {};
  const storeOf = (scheme: Scheme): Store => ({
    read(reference, signal) {
      const store = stores.get(scheme);
      if (!store) return Promise.reject(new StoreError("away", `it lacks ${lacking.get(scheme) ?? "a store"}`));
      return store.read(reference, signal);
    },
    staging(reference) {
      const store = stores.get(scheme);
      if (!store) throw new StoreError("away", `it lacks ${lacking.get(scheme) ?? "a store"}`);
      const staging = store.staging?.(reference);
      if (!staging) throw new StoreError("refused", `Keymeter does not write to ${scheme}: stores`);
      return staging;
    },
    get usualRefresh() {
      return stores.get(scheme)?.usualRefresh;
    },
  });
  return {
    secrets,
    hold(place, reference, fault) {
      const held = new HeldSecret(place, reference, storeOf(reference.scheme), fault, refreshing);
      const twin = shared.find((one) => one.reference.text === reference.text);
      if (twin) held.beginAs(twin);
      secrets.push(held);
      return held;
    },
    storeOf: ({ scheme }) => storeOf(scheme),
    get github() {
      return github;
    },
    configure(settings, given, its) {
      github = its;
      const set = <S extends keyof StoreSettings>(
        scheme: S,
        create: (of: Exclude<StoreSettings[S], string>) => Store,
      ): void => {
        const of = settings[scheme];
        if (typeof of === "string") lacking.set(scheme, of);
        else stores.set(scheme, create(of as Exclude<StoreSettings[S], string>));
      };
      set("vault", createVault);
      set("op", createOnePassword);
      set("aws-sm", createAwsStore);
      set("gcp-sm", createGoogleStore);
      set("azure-kv", createAzureStore);
      Object.assign(refreshing, given);
    },
    problems: () =>
      secrets.flatMap(({ place, reference }) =>
        stores.has(reference.scheme)
          ? []
          : [`${place}: ${reference.text} needs ${lacking.get(reference.scheme) ?? "a store"}`],
      ),
  };
}

/** Of a command, which reads its settings again and again: what was read of stores already. */
let shared: readonly HeldSecret[] = [];

/** What these have read is known to all settings that this process reads from now on. */
export function shareSecrets(config: object): void {
  shared = secretsOf(config);
}

/** Where a config has the room of its secrets: a copy of it has the same. */
const ROOM = Symbol("secrets");

/** Notes whose secrets these are. */
export function keepRoom(config: object, room: SecretRoom): void {
  Object.assign(config, { [ROOM]: room });
}

/** The secrets of a config that references name. */
export function secretsOf(config: object): readonly HeldSecret[] {
  return (config as { readonly [ROOM]?: SecretRoom })[ROOM]?.secrets ?? [];
}

/** The room in which the secrets of a config are. Throws an Error where nobody made one. */
export function roomOf(config: object): SecretRoom {
  const room = (config as { readonly [ROOM]?: SecretRoom })[ROOM];
  if (!room) throw new Error("these settings have no room of secrets");
  return room;
}

/** How it stands with each that may change. */
export function secretStates(config: object): SecretState[] {
  return secretsOf(config)
    .filter(({ isFixed }) => !isFixed)
    .map(({ state }) => state);
}

/** How long a start waits for what it cannot do without. */
const NEEDED_MS = 30_000;

/** Reads them all, and keeps them fresh from then on, but for those of `needed`: a program stays what it began as. Rejects with
 *  an Error that names what is missing where one of these cannot be read; what else is missing is asked for again and
 *  again. */
export async function openSecrets(
  config: object,
  log: Pick<Log, "warn" | "info">,
  needed: readonly unknown[] = [],
): Promise<{ stop(): void }> {
  const all = secretsOf(config);
  for (const secret of all)
    secret.onTrouble((state) => {
      if (!state.failure) log.info(`a secret is read again: ${wordsOf(state)}`);
      else
        log.warn(
          `a secret cannot be read: ${wordsOf(state)}${state.readAtMs === undefined ? "" : "; the last good one goes on"}`,
        );
    });
  const isNeeded = (secret: HeldSecret): boolean => needed.includes(secret);
  const load = async (some: readonly HeldSecret[]): Promise<void> => {
    await Promise.all(some.map((secret) => (isNeeded(secret) ? secret.load(NEEDED_MS) : secret.refresh())));
  };
  // A token in a file opens the store of the others.
  await load(all.filter(({ reference }) => LOCAL.has(reference.scheme)));
  await load(all.filter(({ reference }) => !LOCAL.has(reference.scheme)));
  const missing = all.filter((secret) => isNeeded(secret) && secret.state.readAtMs === undefined);
  if (missing.length > 0)
    throw new Error(
      `This cannot start without its secrets:\n${missing.map(({ state }) => `  - ${wordsOf(state)}`).join("\n")}`,
      { cause: "secrets" },
    );
  for (const secret of all)
    if (isNeeded(secret)) secret.fix();
    else secret.start();
  return {
    stop() {
      for (const secret of all) secret.stop();
    },
  };
}

/** "proxy.openai.api_key (vault:secret/openai#api_key): http://... cannot be reached (ECONNREFUSED)". */
function wordsOf({ place, reference, failure, readAtMs }: SecretState): string {
  const said = failure?.message ?? (readAtMs === undefined ? "it was not read yet" : "it was read");
  return `${place} (${reference}): ${said}`;
}
