// References: where a secret is, in the place of the secret itself. A reference is no secret; it may stand in settings, in
// logs and in messages.
import { isAbsolute } from "node:path";
import { didYouMean } from "../closest.ts";

/** The stores, by the word that a reference begins with. */
const SCHEMES = ["env", "file", "vault", "op", "aws-sm", "gcp-sm", "azure-kv"] as const;
export type Scheme = (typeof SCHEMES)[number];

/** Where a secret is. */
export type Reference = {
  /** As it was written. */
  readonly text: string;
  readonly scheme: Scheme;
  /** What the store knows it by: a variable, a file, `MOUNT/PATH`. */
  readonly path: string;
  /** Of what holds several, such as JSON: which. */
  readonly field?: string;
};

/** A reference that cannot be one: the message says what is wrong and how it is written. */
export class MalformedReference extends Error {
  override readonly name = "MalformedReference";
}

const FORMS: { readonly [scheme in Scheme]: { readonly form: string; readonly isRight: (of: Parts) => boolean } } = {
  env: {
    form: "env:NAME",
    // In capitals, as variables are: a key that somebody put there is none.
    isRight: ({ path, field }) => /^[A-Z_][A-Z0-9_]*$/.test(path) && field === undefined,
  },
  file: {
    form: "file:/run/secrets/NAME, or file:/path/of.json#field",
    isRight: ({ path, field }) => isAbsolute(path) && field !== "",
  },
  vault: {
    form: "vault:MOUNT/PATH#FIELD",
    isRight: ({ path, field = "" }) => /^[\w.~-]+(\/[\w.~ -]+)+$/.test(path) && !hasDots(path) && field !== "",
  },
  op: {
    form: "op://VAULT/ITEM/FIELD, or op://VAULT/ITEM/SECTION/FIELD",
    isRight: ({ path, field }) =>
      field === undefined && new RegExp(`^/(/${OP_PART}){3,4}$`).test(path) && !hasDots(path),
  },
  "aws-sm": {
    form: "aws-sm:NAME, or its ARN, with #field where it is JSON",
    isRight: ({ path, field }) =>
      /^(arn:[\w-]+:secretsmanager:[\w-]+:\d+:secret:)?[\w/+=.@-]{1,512}$/.test(path) && field !== "",
  },
  "azure-kv": {
    form: "azure-kv:https://VAULT.vault.azure.net/NAME, with /VERSION and #field where they are wanted",
    isRight: ({ path, field }) =>
      /^https:\/\/[\w-]+(\.[\w-]+)+(:\d+)?\/[\w-]+(\/[0-9a-f]{32})?$/.test(path) && field !== "",
  },
  "gcp-sm": {
    form: "gcp-sm:projects/PROJECT/secrets/NAME, with /versions/3 and #field where they are wanted",
    isRight: ({ path, field }) => /^projects\/[\w.:-]+\/secrets\/[\w-]+(\/versions\/\w+)?$/.test(path) && field !== "",
  },
};

/** What names in 1Password may hold, without what ends them in a path or in a filter. */
const OP_PART = String.raw`[^/"\\#?]+`;

type Parts = { readonly path: string; readonly field: string | undefined };

/** What references of other programs look like. */
const FOREIGN =
  /^(?:aws|awssm|ssm|aws-ssm|secretsmanager|arn|1password|gcp|gsm|azure|akv|bao|openbao|hashivault|k8s|kubernetes|doppler|infisical|sops|keyring):\S*[/#:]\S*$/;
/** A word, and what a path may be: a slip in one of ours. */
const A_SLIP = /^([A-Za-z-]{2,8}):\S*[/#]\S*$/;
/** The reference that a text is; undefined: it is the secret itself. Throws MalformedReference for what is neither. */
export function readReference(text: string): Reference | undefined {
  const mark = text.indexOf(":");
  const word = text.slice(0, Math.max(0, mark));
  const scheme = SCHEMES.find((one) => one === word);
  if (scheme === undefined) {
    const meant = didYouMean(A_SLIP.exec(text)?.[1] ?? "", SCHEMES);
    if (meant === "" && !FOREIGN.test(text)) return undefined;
    throw new MalformedReference(
      `"${word}:" is no store${meant}; write ${SCHEMES.map((one) => `${one}:`).join(", ")} (a secret that looks like this belongs into a file: file:/path)`,
    );
  }
  const hash = text.indexOf("#", mark);
  const path = text.slice(mark + 1, hash < 0 ? undefined : hash);
  const field = hash < 0 ? undefined : text.slice(hash + 1);
  const { form, isRight } = FORMS[scheme];
  if (!isRight({ path, field }))
    throw new MalformedReference(`what stands behind "${scheme}:" is no such reference; write ${form}`);
  return { text, scheme, path, ...(field === undefined ? {} : { field }) };
}

function hasDots(path: string): boolean {
  return path.split("/").some((part) => /^\.+$/.test(part));
}
