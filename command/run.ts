// keymeter run COMMAND ...: a coding agent, with what it works on in the headers of its requests: repository, branch, ticket.
import { spawn, spawnSync } from "node:child_process";
import { constants } from "node:os";
import { commandEnvironment } from "./config.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter run COMMAND ...      such as: keymeter run claude
  Starts it with the repository, the branch and the ticket of this folder for the headers of its requests (x-keymeter-repo, -branch, -ticket):
  in ANTHROPIC_CUSTOM_HEADERS, GEMINI_CLI_CUSTOM_HEADERS, and in KEYMETER_REPO, KEYMETER_BRANCH, KEYMETER_TICKET for the settings of others.`;

/** "ABC-123" */
const TICKET = /\b[A-Z][A-Z0-9]{1,9}-\d{1,7}\b/;
const LONGEST = 200;

export async function run(args: string[]): Promise<void> {
  const [command, ...rest] = args[0] === "--" ? args.slice(1) : args;
  if (command === undefined) throw new UsageError(`which command?\n${USAGE}`);
  const work = readWork();
  const env = commandEnvironment();
  const headers = Object.entries(work).map(([name, value]) => `x-keymeter-${name}: ${value}`);
  const joined = (own: string | undefined, between: string): string =>
    [...(own ? [own] : []), ...headers].join(between);
  const child = spawn(command, rest, {
    stdio: "inherit",
    env: {
      ...env,
      ANTHROPIC_CUSTOM_HEADERS: joined(env["ANTHROPIC_CUSTOM_HEADERS"], "\n"),
      GEMINI_CLI_CUSTOM_HEADERS: joined(env["GEMINI_CLI_CUSTOM_HEADERS"], ", "),
      ...Object.fromEntries(Object.entries(work).map(([name, value]) => [`KEYMETER_${name.toUpperCase()}`, value])),
    },
  });
  // The terminal sends them to both: the child decides what they mean.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});
  process.exitCode = await new Promise<number>((resolve, reject) => {
    child.once("error", (error: NodeJS.ErrnoException) =>
      reject(error.code === "ENOENT" ? new UsageError(`there is no command ${command}`) : error),
    );
    child.once("exit", (code, signal) => resolve(code ?? 128 + (signal ? constants.signals[signal] : 0)));
  });
}

/** What is worked on here, as far as git and CI know; each as a header can hold it. */
export function readWork(): { readonly [name in "repo" | "branch" | "ticket"]?: string } {
  const git = (...words: string[]): string => {
    const { status, stdout } = spawnSync("git", words, { encoding: "utf8" });
    return status === 0 ? stdout.trim() : "";
  };
  const repo =
    repoOf(git("config", "--get", "remote.origin.url")) || git("rev-parse", "--show-toplevel").split("/").at(-1);
  const env = commandEnvironment();
  // In CI a commit is checked out, not a branch.
  const branch = git("symbolic-ref", "--short", "-q", "HEAD") || env["GITHUB_HEAD_REF"] || env["CI_COMMIT_REF_NAME"];
  const ticket = TICKET.exec(branch ?? "")?.[0];
  return Object.fromEntries(
    Object.entries({ repo, branch, ticket })
      .map(([name, value = ""]) => [name, value.replace(/[^\x21-\x7e]/g, "_").slice(0, LONGEST)])
      .filter(([, value]) => value !== ""),
  );
}

/** "owner/name" of a remote's URL, without what may be a credential in it. */
function repoOf(url: string): string {
  return /[/:]([^/:@]+\/[^/:@]+?)(\.git)?\/?$/.exec(url)?.[1] ?? "";
}
