// Why the input or the cost of a request is bounded by nothing of its own. What is decided by it goes by its kind; the
// rest is said only.

export type Why =
  /** Text and model lie at the provider, in a file or a prompt. */
  | { readonly kind: "batch_file" | "stored_prompt" }
  /** Which model works is the provider's choice. */
  | { readonly kind: "unnamed_model" }
  /** It goes on from an answer, whose length may be known here. `field` names it. */
  | { readonly kind: "answer"; readonly field: string }
  /** What was said before on the same connection stands at the provider. */
  | { readonly kind: "connection" }
  /** Pictures and files in it cost by rules of their own, but do not fill a context. */
  | { readonly kind: "media"; readonly what: string }
  /** It lies at the provider, as long as a context may be. */
  | { readonly kind: "far"; readonly what: string }
  /** Whoever runs Keymeter can say that it costs nothing: `name` in proxy.allowed_fields. */
  | { readonly kind: "allowable"; readonly what: string; readonly name: string }
  /** Nothing proves what it comes to. */
  | { readonly kind: "unproven"; readonly what: string };

export const BATCH_FILE: Why = { kind: "batch_file" };
export const STORED_PROMPT: Why = { kind: "stored_prompt" };
export const UNNAMED_MODEL: Why = { kind: "unnamed_model" };

export function far(what: string): Why {
  return { kind: "far", what };
}

export function media(what: string): Why {
  return { kind: "media", what };
}

export function unproven(what: string): Why {
  return { kind: "unproven", what };
}

export function allowable(name: string, what = name): Why {
  return { kind: "allowable", what, name };
}

/** As a part of a sentence. */
export function sayWhy(why: Why): string {
  switch (why.kind) {
    case "batch_file":
      return "a batch file";
    case "stored_prompt":
      return "a stored prompt";
    case "unnamed_model":
      return "a model that the request does not name";
    case "answer":
      return why.field;
    case "connection":
      return "a connection";
    case "media":
    case "far":
    case "allowable":
    case "unproven":
      return why.what;
  }
}
