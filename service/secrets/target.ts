// Where a secret is written to: a store, by the reference with which its readers read it, or GitHub Actions.
import { MalformedReference, readReference } from "./reference.ts";
import { githubPlace, loadSodium, NO_TOKEN, writeToGitHub } from "./github.ts";
import { StoreError } from "./store.ts";
import { roomOf } from "./index.ts";

const GITHUB = "github:";
const WRITTEN: ReadonlySet<string> = new Set(["vault", "aws-sm", "file"]);

/** What is wrong with a target; undefined: nothing. */
export function targetProblem(target: string): string | undefined {
  if (target.startsWith(GITHUB))
    return githubPlace(target.slice(GITHUB.length))
      ? undefined
      : "write github:OWNER/REPO/NAME, github:OWNER/REPO/ENVIRONMENT/NAME or github:ORG/NAME";
  try {
    const reference = readReference(target);
    return reference && WRITTEN.has(reference.scheme)
      ? undefined
      : "Keymeter writes to vault:MOUNT/PATH#FIELD, aws-sm:NAME#FIELD, file:/path and github:OWNER/REPO/NAME";
  } catch (error) {
    if (error instanceof MalformedReference) return error.message;
    throw error;
  }
}

/** Whether a target can be written to, as far as that shows before. Rejects with an Error that says what is missing. */
export async function checkTarget(config: object, target: string): Promise<void> {
  const room = roomOf(config);
  const reference = target.startsWith(GITHUB) ? undefined : readReference(target);
  if (!reference) {
    if (!room.github?.token) throw new StoreError("refused", NO_TOKEN);
    return void (await loadSodium());
  }
  const held = room.hold("the target", reference, () => undefined);
  held.staging();
  await held.refresh();
  const { failure } = held.state;
  // A file with nothing in it yet takes a secret all the same.
  if (failure && failure.why !== "unusable") throw new StoreError(failure.why, failure.message);
}

/** Writes a secret; other fields of the same one stay. `config` says where stores are. Rejects with a StoreError. */
export async function writeSecret(config: object, target: string, value: string, signal: AbortSignal): Promise<void> {
  const room = roomOf(config);
  const reference = target.startsWith(GITHUB) ? undefined : readReference(target);
  if (!reference) {
    const { github } = room;
    if (!github) throw new Error("these settings do not say where GitHub is");
    return writeToGitHub(github, target.slice(GITHUB.length), value, signal);
  }
  const staging = room.hold("the target", reference, () => undefined).staging();
  await staging.stage(value, signal);
  await staging.promote(signal);
  await staging.clear(signal);
}
