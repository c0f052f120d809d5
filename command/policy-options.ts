// The options that say what a key may do, for `keys create` and `keys set`.
import { keyPolicy } from "../ledger/usage/key-policy.ts";
import type { KeyPolicy } from "../ledger/usage/key-policy.ts";
import { UsageError } from "./usage-error.ts";

const text = { type: "string" } as const;

export const POLICY_OPTIONS = {
  models: text,
  providers: text,
  endpoints: text,
  from: text,
  tag: { type: "string", multiple: true },
  unpriced: text,
  users: text,
} as const;

export const POLICY_USAGE = `  --models 'gpt-4o*,o3'  --providers openai,anthropic  --endpoints chat_completions,embeddings  --from 10.0.0.0/8
  --tag feature=search   --unpriced refuse|allow|IN/OUT (held and booked at these USD per million tokens)   "any" takes one away
  --users x-openwebui-user-email|body   where its requests name people, whom budgets then count`;

type Given = { readonly [name in keyof typeof POLICY_OPTIONS]?: string | string[] | undefined };

/** The policy with what is given in the place of what was there. Throws UsageError. */
export function withOptions(policy: KeyPolicy, given: Given): KeyPolicy {
  const next: Record<string, unknown> = { ...policy };
  const put = (name: keyof KeyPolicy, option: keyof Given, read: (text: string) => unknown): void => {
    const value = given[option];
    if (value === undefined) return;
    if (value === "any" || (Array.isArray(value) && value.includes("any"))) delete next[name];
    else next[name] = Array.isArray(value) ? Object.assign({}, ...value.map((one) => read(one))) : read(value);
  };
  const list = (value: string): string[] => value.split(",").map((one) => one.trim());
  put("models", "models", list);
  put("providers", "providers", list);
  put("endpoints", "endpoints", list);
  put("addresses", "from", list);
  put("tags", "tag", (pair) => {
    const [name = "", ...value] = pair.split("=");
    if (name === "user")
      throw new UsageError("a key of one person is made with --user, not with a tag: names stand in one place");
    return { [name]: value.join("=") };
  });
  put("unpriced", "unpriced", (value) => {
    const [inputUsdPerMillion, outputUsdPerMillion] = value.split("/");
    return outputUsdPerMillion === undefined ? value : { inputUsdPerMillion, outputUsdPerMillion };
  });
  put("users", "users", (value) => value.toLowerCase());
  const parsed = keyPolicy.safeParse(next);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new UsageError(`${issue?.path.join(" ") ?? "policy"}: ${issue?.message ?? "cannot be read"}\n${POLICY_USAGE}`);
}
