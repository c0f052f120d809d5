// Which verbs can be asked of a Keymeter elsewhere, and by whom. What stands in no rule runs on its own machine only: programs, a
// coding agent's settings, copies of the books. What somebody may change is decided once more, in the books, by the change itself
// (ledger/usage/may-change.ts).
import type { Role } from "../../ledger/usage/tokens.ts";

/** Those who may; by the word behind the verb, or for all of them. `*`: any other word, and none. */
type Rule = readonly Role[] | { readonly [word: string]: readonly Role[] };

const ALL = ["read", "lead", "finance", "admin"] as const;
const SEEING = ["read", "finance", "admin"] as const;
const OF_TEAM = ["lead", "admin"] as const;
const OF_MONEY = ["lead", "finance", "admin"] as const;
const FINANCE = ["finance", "admin"] as const;
const ADMIN = ["admin"] as const;

export const RULES: { readonly [verb: string]: Rule } = {
  tokens: { me: ALL, "*": ADMIN },
  keys: {
    list: ALL,
    show: ALL,
    create: OF_TEAM,
    pause: OF_TEAM,
    resume: OF_TEAM,
    revoke: OF_TEAM,
    rotate: OF_TEAM,
    set: OF_MONEY,
  },
  users: { list: SEEING, forget: ADMIN },
  budgets: {
    list: ALL,
    set: OF_MONEY,
    remove: OF_MONEY,
    raise: OF_MONEY,
    unraise: OF_MONEY,
    freeze: OF_MONEY,
    lift: OF_MONEY,
    replay: SEEING,
  },
  limits: { list: ALL, set: OF_TEAM, remove: OF_TEAM },
  asks: { list: ALL, approve: OF_MONEY, refuse: OF_MONEY },
  apply: ADMIN,
  seats: { list: SEEING, price: FINANCE },
  spend: ALL,
  events: ALL,
  work: { list: SEEING, settle: ADMIN },
  clock: ADMIN,
  report: SEEING,
  reconcile: SEEING,
  close: FINANCE,
  import: FINANCE,
  export: SEEING,
  forecast: { plan: FINANCE, unplan: FINANCE, plans: SEEING, scores: SEEING, "*": ALL },
  prices: { show: ALL, check: SEEING, reprice: ADMIN },
  leaks: { dismiss: ADMIN, "*": SEEING },
  leak: ADMIN,
  rotate: { status: SEEING, "*": ADMIN },
  keyless: ADMIN,
  pages: SEEING,
  doctor: ADMIN,
  verify: SEEING,
};

/** Who may; undefined: nobody from elsewhere. */
export function rolesFor(verb: string, word = ""): readonly Role[] | undefined {
  if (!Object.hasOwn(RULES, verb)) return undefined;
  const rule = RULES[verb];
  if (rule === undefined || isRoles(rule)) return rule;
  return Object.hasOwn(rule, word) ? rule[word] : rule["*"];
}

function isRoles(rule: Rule): rule is readonly Role[] {
  return Array.isArray(rule);
}

/** Options, and words, that name a file: it goes along with the question, or comes back with the answer. */
type Files = { readonly in?: readonly string[]; readonly out?: readonly string[]; readonly words?: true };

export const FILES: { readonly [verb: string]: Files } = {
  apply: { in: ["--file", "-f"] },
  import: { words: true },
  export: { out: ["--out"] },
  leak: { out: ["--out"] },
};

/** Larger files go nowhere. */
export const MOST_FILE_BYTES = 128 * 1024 * 1024;

/** What is asked. */
export type Question = {
  readonly args: readonly string[];
  /** By name: base64. */
  readonly files: { readonly [name: string]: string };
  /** Base64; absent: nothing to read. */
  readonly input?: string | undefined;
};

/** A line of the answer: bytes as base64, and last the exit code. */
export type Line =
  | { readonly out: string }
  | { readonly err: string }
  | { readonly file: string; readonly bytes: string }
  | { readonly code: number };
