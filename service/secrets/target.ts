// Where a secret is written to: a store, by the reference with which its readers read it, or GitHub Actions.
import { MalformedReference, readReference } from "./reference.ts";
import type { Reference, Scheme } from "./reference.ts";
import { checkGitHub, githubPlace, writeToGitHub } from "./github.ts";
import { StoreError } from "./store.ts";
import type { GitHubSettings } from "./github.ts";
import { roomOf } from "./index.ts";
import type { SecretRoom } from "./index.ts";

const GITHUB = "github:";
const READ_MS = 10_000;
const WRITTEN: ReadonlySet<Scheme> = new Set(["vault", "aws-sm", "gcp-sm", "azure-kv", "op", "file"]);
/** For people. */
export const WRITTEN_PLACES =
  "Keymeter writes to vault:MOUNT/PATH#FIELD, aws-sm:NAME, gcp-sm:projects/P/secrets/NAME, azure-kv:https://VAULT.vault.azure.net/NAME, op://VAULT/ITEM/FIELD (by a Connect server) and file:/path";

/** Whether Keymeter writes to a reference's store. */
export function isWritten({ scheme }: Reference): boolean {
  return WRITTEN.has(scheme);
}

/** What is wrong with a target; undefined: nothing. */
export function targetProblem(target: string): string | undefined {
  if (target.startsWith(GITHUB))
    return githubPlace(target.slice(GITHUB.length))
      ? undefined
      : "write github:OWNER/REPO/NAME, github:OWNER/REPO/ENVIRONMENT/NAME or github:ORG/NAME";
  try {
    const reference = readReference(target);
    return reference && isWritten(reference) ? undefined : `${WRITTEN_PLACES}, and to github:OWNER/REPO/NAME`;
  } catch (error) {
    if (error instanceof MalformedReference) return error.message;
    throw error;
  }
}

/** Whether a target can be written to, as far as that shows before. Rejects with an Error that says what is missing. */
export async function checkTarget(config: object, target: string): Promise<void> {
  const room = roomOf(config);
  const reference = target.startsWith(GITHUB) ? undefined : readReference(target);
  if (!reference) return checkGitHub(githubOf(room), target.slice(GITHUB.length), AbortSignal.timeout(READ_MS));
  const store = room.storeOf(reference);
  store.staging?.(reference);
  try {
    await store.read(reference, AbortSignal.timeout(READ_MS));
  } catch (error) {
    // A file with nothing in it yet takes a secret all the same.
    if (!(error instanceof StoreError) || error.why !== "unusable") throw error;
  }
}

/** Writes a secret; other fields of the same one stay. `config` says where stores are. Rejects with a StoreError. */
export async function writeSecret(config: object, target: string, value: string, signal: AbortSignal): Promise<void> {
  const room = roomOf(config);
  const reference = target.startsWith(GITHUB) ? undefined : readReference(target);
  if (!reference) return writeToGitHub(githubOf(room), target.slice(GITHUB.length), value, signal);
  const staging = room.storeOf(reference).staging?.(reference);
  if (!staging) throw new StoreError("refused", `Keymeter does not write to ${reference.scheme}: stores`);
  if (staging.write) return staging.write(value, signal);
  await staging.stage(value, signal);
  await staging.promote(signal);
  await staging.clear(signal);
}

function githubOf({ github }: SecretRoom): GitHubSettings {
  if (!github) throw new Error("these settings do not say where GitHub is");
  return github;
}
