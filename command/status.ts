// keymeter status: one line of what is spent and left, for a terminal or the status line of Claude Code.
import { request } from "undici";
import { formatUsd, formatUsdDown, parseUsd } from "../ledger/money.ts";
import { commandEnvironment } from "./config.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter status [--json]
  What a key has spent today and this month, and what is left, in one line. The key: KEYMETER_KEY, else ANTHROPIC_AUTH_TOKEN, ANTHROPIC_API_KEY, or
  x-keymeter-key in ANTHROPIC_CUSTOM_HEADERS; the proxy: KEYMETER_URL, else where ANTHROPIC_BASE_URL leads, else http://127.0.0.1:4000.
  For Claude Code, in ~/.claude/settings.json: "statusLine": { "type": "command", "command": "keymeter status" }`;

const ANSWER_MS = 2_000;

type Told = {
  readonly spent: { readonly todayUsd: string; readonly monthUsd: string };
  readonly budgets: readonly { readonly kind: string; readonly window: string; readonly leftUsd?: string }[];
};

export async function run(args: string[]): Promise<void> {
  const isJson = args[0] === "--json";
  if (args.length > (isJson ? 1 : 0)) throw new UsageError(USAGE);
  const env = commandEnvironment();
  const beside = /^x-keymeter-key: *(\S+)/im.exec(env["ANTHROPIC_CUSTOM_HEADERS"] ?? "")?.[1];
  const key = [env["KEYMETER_KEY"], env["ANTHROPIC_AUTH_TOKEN"], env["ANTHROPIC_API_KEY"], beside].find((one) =>
    one?.startsWith("km_"),
  );
  if (key === undefined) throw new UsageError(`no Keymeter key is in the environment\n${USAGE}`);
  // A key of its own variable goes to no other address.
  const other = key === env["KEYMETER_KEY"] ? undefined : env["ANTHROPIC_BASE_URL"];
  const base = env["KEYMETER_URL"] ?? other ?? "http://127.0.0.1:4000";
  if (!URL.canParse(base)) throw new UsageError(`${base} is no URL`);
  const url = `${new URL(base).origin}/keymeter/me`;
  const line = await ask(url, key).then(
    (told) => (isJson ? JSON.stringify(told) : lineOf(told)),
    // A status line that fails says so, and takes nothing down.
    (error: unknown) => `Keymeter: ${error instanceof Error ? error.message : String(error)}`,
  );
  process.stdout.write(`${line}\n`);
}

async function ask(url: string, key: string): Promise<Told> {
  const { statusCode, body } = await request(url, {
    headers: { authorization: `Bearer ${key}` },
    headersTimeout: ANSWER_MS,
    bodyTimeout: ANSWER_MS,
    signal: AbortSignal.timeout(ANSWER_MS),
  }).catch(() => {
    throw new Error("it does not answer");
  });
  const text = await body.text();
  if (statusCode !== 200) throw new Error(`it answered ${statusCode}`);
  return JSON.parse(text) as Told;
}

/** "$1.20 today, $14.30 this month, $35.70 left (month)": of the hard budget that is nearest its end. */
function lineOf({ spent, budgets }: Told): string {
  const left = budgets
    .filter(({ kind, leftUsd }) => kind === "hard" && leftUsd !== undefined)
    .map(({ window, leftUsd = "0" }) => ({ window, amount: parseUsd(leftUsd) }))
    .toSorted((a, b) => (a.amount < b.amount ? -1 : 1))[0];
  const money = `${formatUsd(parseUsd(spent.todayUsd))} today, ${formatUsd(parseUsd(spent.monthUsd))} this month`;
  return left === undefined ? money : `${money}, ${formatUsdDown(left.amount)} left (${left.window})`;
}
