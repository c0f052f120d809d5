// The command: finds the verb, and nothing else. Each verb is a file in command/.
import { readFileSync } from "node:fs";
import { didYouMean } from "./service/closest.ts";
import { ChangeRefused } from "./ledger/usage/change-refused.ts";
import { isDoneElsewhere } from "./command/remote/elsewhere.ts";
import { RemoteError } from "./command/remote/remote-error.ts";
import { splitWhere } from "./command/remote/split.ts";
import { UsageError } from "./command/usage-error.ts";
import { VERBS } from "./command/verbs.ts";
import { LedgerError } from "./ledger/books.ts";
import { SecretUnavailable } from "./service/secrets/index.ts";
import { SettingsError } from "./service/settings.ts";

const USAGE = `keymeter VERB ...
keymeter --server https://... --token-file FILE VERB ...     at a Keymeter elsewhere; --profile NAME: where you signed in; --local: here

  up                         proxy, collector and alerts under one supervisor (npm start)
  proxy | collector | alerts one program by itself
  login | logout             a Keymeter elsewhere, where commands run from then on
  tokens                     named tokens with a role: create, list, revoke; me
  keys                       create, list, show, set, pause, resume, rotate, revoke
  users                      who spends: list; forget takes a name away
  connect | disconnect       a coding agent's settings, pointed here and taken back: claude, codex, gemini, opencode, aider, continue, cursor
  run                        a coding agent, with repository, branch and ticket in its requests
  status                     what a key has spent and has left, in one line
  ask                        for more money, by the holder of a key
  asks                       what was asked for: list, approve, refuse
  report                     pr: what the work on a branch cost, as a comment
  budgets                    set, list, remove, raise for a while; freeze and lift a scope; replay a cap on the past
  apply                      budgets and limits as a file says, after showing the difference
  limits                     requests and tokens a minute, requests at once, tokens of subscriptions: set, list, remove
  seats                      what subscriptions cost a month, and what they paid for
  spend                      metered spend by team, key, model, day
  events                     single usage events
  clock                      accept: says that the machine's clock is right, when a jump stopped admission
  work                       batches and the like whose result has not passed yet: list, close
  reconcile                  metered against billed, and why they differ
  close                      sign a day's bill off
  import                     bills from files: FOCUS, provider downloads
  export                     FOCUS (CSV, Parquet) and chargeback, for finance
  leaks                      provider keys that are used past the proxy, and what to do
  leak                       the playbook for a provider key that leaked, and the note on it
  rotate                     another provider key in the place of one, while it is used; how that goes
  keyless                    no provider keys: what to register at Anthropic and OpenAI
  forecast                   what this day, week, month will cost; events that are planned; how good forecasts were
  pages                      a link to the report pages: spend, what changed, bills, chargeback
  prices                     what a model costs, and where the price comes from
  doctor                     what is set up, what works, and how to mend what does not; \`doctor slack\` sends a test message
  backup                     books and secrets into a folder, while everything runs
  ledger                     books in Postgres: migrate makes them or brings them up to date; move copies books there and back
  verify                     do sums fold, do costs recompute, are audit, sealed days and register whole
  completion                 of these words in a shell: bash, zsh, fish
  demo                       all of it with a demo provider, on a data folder of its own

Settings: keymeter.yaml (see keymeter.example.yaml) and KEYMETER_... in the environment.`;

/** Verbs that read no books, and programs, which open their own secrets. */
const WITHOUT_SECRETS = new Set([
  "proxy",
  "collector",
  "alerts",
  "connect",
  "disconnect",
  "run",
  "status",
  "ask",
  "login",
  "logout",
  "completion",
]);

// Who reads has seen enough (`| head`).
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

const { given, rest: words } = splitWhere(process.argv.slice(2));
const [name = "help", ...args] = words;
const verb = VERBS[name];
if (["--version", "-V", "version"].includes(name)) {
  const { version } = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8")) as { version: string };
  process.stdout.write(`keymeter ${version} (Node ${process.versions.node})\n`);
} else if (!verb) {
  const asked = ["help", "--help", "-h"].includes(name);
  const complaint = `there is no verb "${name}"${didYouMean(name, Object.keys(VERBS))}`;
  (asked ? process.stdout : process.stderr).write(`${asked ? "" : `${complaint}\n\n`}${USAGE}\n`);
  process.exitCode = asked ? 0 : 2;
} else {
  let usage: string | undefined;
  try {
    const { run, USAGE: ofVerb, help } = await verb();
    usage = ofVerb;
    if (args.includes("--help") || args.includes("-h"))
      process.stdout.write(`${usage ?? USAGE}\n${help ? `\n${await help()}\n` : ""}`);
    else if (!(await isDoneElsewhere(given, words))) {
      if (!WITHOUT_SECRETS.has(name)) await (await import("./command/config.ts")).openCommandSecrets();
      await run(args);
    }
  } catch (error) {
    const isUsage =
      error instanceof UsageError ||
      (error instanceof TypeError && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS"));
    const isExpected =
      isUsage ||
      error instanceof SettingsError ||
      error instanceof LedgerError ||
      error instanceof ChangeRefused ||
      error instanceof SecretUnavailable ||
      error instanceof RemoteError;
    process.stderr.write(
      `${isExpected ? (noSuchOption(error, usage) ?? (error as Error).message) : error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
    process.exitCode = isUsage ? 2 : 1;
  }
}

/** A mistyped option, with what was probably meant and what there is; undefined for another error. */
function noSuchOption(error: unknown, usage = USAGE): string | undefined {
  const typed = /^Unknown option '(--?[\w-]+)'/.exec(error instanceof Error ? error.message : "")?.[1];
  if (typed === undefined) return undefined;
  const known = [...new Set(usage.match(/--[a-z][\w-]*/g))];
  return `there is no option "${typed}"${didYouMean(typed, known)}\n\n${usage}`;
}
