// What somebody is told who sets a budget that will not do what they mean: on a name that nobody has, or over paths
// that pass unmetered.
import { SCOPE_PARTS } from "../ledger/budgets.ts";
import type { Budget, Scope } from "../ledger/budgets.ts";
import { ProgramGone, askProxy } from "../service/admin.ts";
import { answerIn } from "../ledger/asking.ts";
import { askTagsCount } from "../ledger/usage/budget-spend.ts";
import type { Key } from "../ledger/usage/keys.ts";
import { onlyTeamOf } from "../ledger/usage/seen.ts";
import { findAsker } from "./asker.ts";
import { requireUsage } from "./books.ts";
import { didYouMean } from "../service/closest.ts";
import { loadCommandConfig } from "./config.ts";
import { allKeys } from "./find-key.ts";

type UnmeteredUse = {
  readonly keyId: string;
  readonly key: string;
  readonly team: string;
  readonly provider: string;
  readonly path: string;
  readonly requests: number;
};

/** Sentences about the scopes of budgets that were just set; they stand already. */
export async function warningsOf(
  budgets: readonly Pick<Budget, "scope" | "each" | "kind" | "observe">[],
): Promise<string[]> {
  const keys = await allKeys();
  const untagged = await untaggedWords(budgets, keys);
  const unknown = budgets.flatMap(({ scope }) =>
    (["team", "project", "env"] as const).flatMap((part) => {
      const wanted = scope[part];
      const known = [...new Set(keys.map((key) => key[part]).filter((name) => name !== ""))].toSorted();
      return wanted === undefined || known.includes(wanted)
        ? []
        : [
            `No key belongs to ${part} ${wanted}: the budget covers nothing yet${didYouMean(wanted, known) || `${known.length > 0 ? ` (there are ${known.slice(0, 12).join(", ")})` : ""}.`}`,
          ];
    }),
  );
  const hard = budgets.filter(({ kind, observe }) => kind === "hard" && observe !== true);
  const uses = hard.length > 0 ? await unmeteredUses() : [];
  const hit = uses.filter((use) => hard.some(({ scope }) => mayCover(scope, use)));
  if (hit.length === 0) return [...unknown, ...untagged];
  const lines = hit
    .toSorted((a, b) => b.requests - a.requests)
    .slice(0, 10)
    .map((use) => `  ${use.path} (${use.provider}, ${use.key || use.keyId}, ${use.requests} times)`);
  return [
    ...unknown,
    ...untagged,
    `From now on the proxy answers 404 on these paths, which passed unmetered since it started: what they cost is not known, and a hard budget must hold.\n${lines.join("\n")}${hit.length > 10 ? `\n  and ${hit.length - 10} more` : ""}\n  Send them to the provider directly, with another key; or try the budget with --observe first.`,
  ];
}

/** Of budgets on a tag that counts nowhere: no key has it, and what requests say by themselves does not count. */
async function untaggedWords(
  budgets: readonly Pick<Budget, "scope" | "each">[],
  keys: readonly Pick<Key, "policy">[],
): Promise<string[]> {
  const books = await requireUsage(loadCommandConfig());
  const doCount = await answerIn(books, askTagsCount());
  await books.close();
  if (doCount) return [];
  const tagged = new Set(
    keys.flatMap(({ policy }) =>
      Object.entries(policy.tags ?? {}).flatMap(([name, value]) => [name, `${name}=${value}`]),
    ),
  );
  return budgets.flatMap(({ scope, each }) => {
    const wanted = scope.tag ?? (each?.startsWith("tag:") ? each.slice("tag:".length) : undefined);
    return wanted === undefined || tagged.has(wanted)
      ? []
      : [
          `No key has the tag ${wanted} (\`keymeter keys set KEY --tag NAME=VALUE\`), and what requests are tagged with by themselves counts only with tags_in_budgets: on. The budget covers nothing yet.`,
        ];
  });
}

/** Empty when no proxy runs: it alone knows. */
async function unmeteredUses(): Promise<readonly UnmeteredUse[]> {
  // It is told of all teams.
  if (onlyTeamOf(findAsker()) !== undefined) return [];
  try {
    const answer = (await askProxy(loadCommandConfig(), "GET", "/admin/unmetered")) as { unmetered: UnmeteredUse[] };
    return answer.unmetered;
  } catch (error) {
    if (error instanceof ProgramGone) return [];
    throw error;
  }
}

/** As the proxy asks it of a path whose model is not known. */
function mayCover(scope: Scope, use: UnmeteredUse): boolean {
  const known: { readonly [part in (typeof SCOPE_PARTS)[number]]?: string } = {
    team: use.team,
    keyId: use.keyId,
    provider: use.provider,
  };
  return SCOPE_PARTS.every(
    (part) => known[part] === undefined || scope[part] === undefined || scope[part] === known[part],
  );
}
