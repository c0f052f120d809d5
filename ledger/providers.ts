// Who a provider is: one row each, read by every program, and the upstreams that settings name beside them. What its
// wire looks like is the proxy's (proxy/providers/).

/** How a key of it is replaced when it has leaked: what is done, in the order of the playbook. */
type KeyCare = {
  /** Where a new one is made. */
  readonly makeNew: string;
  /** How the old one, by the provider's own id, is switched off. */
  readonly switchOff: (billedKey: string) => string;
};

/** The cheapest questions to it: does the key work, and (for one token) has it money left? */
type Probe = {
  readonly list: string;
  readonly headers: (key: string) => { readonly [name: string]: string };
  /** Absent: nobody knows a model there. */
  readonly token?: { readonly path: string; readonly body: object };
};

export type ProviderFacts = {
  /** As it is booked and labelled: OpenTelemetry's value. */
  readonly name: string;
  /** What people call it too: the first segment of its paths, its product. */
  readonly aliases: readonly string[];
  /** For people. */
  readonly displayName: string;
  /** Whose price list models go by there: the maker's, where it sells models of others. */
  readonly priceListOf: (model: string) => string;
  /** FOCUS: the service, and who publishes and bills it. */
  readonly focus: { readonly service: string; readonly publisher: string };
  /** How bills name its service: files by whoever wrote them, and its cloud's own export to the letter. `isIssuer`:
   *  whatever it bills is its, whatever the service is called. */
  readonly billedAs: { readonly service: RegExp; readonly isIssuer: boolean; readonly inExport?: readonly string[] };
  /** The variable that holds the credential which Keymeter keys are swapped for; undefined: it is signed in
   *  otherwise. */
  readonly keyVariable?: string;
  readonly keyCare?: KeyCare;
  readonly probe?: Probe;
};

const GEMINI_KEYS = "https://apikeys.googleapis.com/v2/projects/PROJECT/locations/global/keys";
const googleList = (model: string): string => (model.startsWith("claude") ? "anthropic" : "google");

/** Those that need no setting. */
export const PROVIDERS: readonly ProviderFacts[] = [
  {
    name: "openai",
    aliases: [],
    displayName: "OpenAI",
    priceListOf: () => "openai",
    focus: { service: "OpenAI API", publisher: "OpenAI" },
    billedAs: { service: /openai/i, isIssuer: true },
    keyVariable: "OPENAI_API_KEY",
    keyCare: {
      makeNew:
        "Make a new key in the same project (Platform > API keys, or POST /v1/organization/projects/PROJECT/service_accounts/ACCOUNT/api_keys).",
      switchOff: (billedKey) =>
        `Delete the old one: DELETE /v1/organization/projects/PROJECT/api_keys/${billedKey} with the admin key. OpenAI cannot pause a key.`,
    },
    probe: {
      list: "/v1/models",
      headers: (key) => ({ authorization: `Bearer ${key}` }),
      token: {
        path: "/v1/chat/completions",
        body: { model: "gpt-4o-mini", max_tokens: 1, messages: [{ role: "user", content: "." }] },
      },
    },
  },
  {
    name: "anthropic",
    aliases: [],
    displayName: "Anthropic",
    priceListOf: () => "anthropic",
    focus: { service: "Claude API", publisher: "Anthropic" },
    billedAs: { service: /anthropic|claude/i, isIssuer: true },
    keyVariable: "ANTHROPIC_API_KEY",
    keyCare: {
      makeNew: "Make a new key in the Console (there is no API for it).",
      switchOff: (billedKey) =>
        `Switch the old one off: POST /v1/organizations/api_keys/${billedKey} {"status":"inactive"} with the admin key.`,
    },
    probe: {
      list: "/v1/models",
      headers: (key) => ({ "x-api-key": key, "anthropic-version": "2023-06-01" }),
      token: {
        path: "/v1/messages",
        body: { model: "claude-haiku-4-5", max_tokens: 1, messages: [{ role: "user", content: "." }] },
      },
    },
  },
  {
    name: "gcp.gemini",
    aliases: ["google", "gemini", "genai"],
    displayName: "Google Gemini",
    priceListOf: googleList,
    focus: { service: "Gemini API", publisher: "Google Cloud" },
    billedAs: {
      service: /gemini api|generative language/i,
      isIssuer: false,
      inExport: ["Gemini API", "Generative Language API"],
    },
    keyVariable: "GEMINI_API_KEY",
    keyCare: {
      makeNew: `Make a new key: POST ${GEMINI_KEYS}, restricted to generativelanguage.googleapis.com.`,
      switchOff: (billedKey) =>
        `Delete the old one: DELETE ${GEMINI_KEYS}/${billedKey.replace(/^apikey:/, "")} (it can be restored for 30 days).`,
    },
    probe: {
      list: "/v1beta/models",
      headers: (key) => ({ "x-goog-api-key": key }),
      token: {
        path: "/v1beta/models/gemini-2.5-flash-lite:generateContent",
        body: { contents: [{ parts: [{ text: "." }] }], generationConfig: { maxOutputTokens: 1 } },
      },
    },
  },
  {
    name: "gcp.vertex_ai",
    aliases: ["vertex"],
    displayName: "Vertex AI",
    priceListOf: googleList,
    focus: { service: "Vertex AI", publisher: "Google Cloud" },
    billedAs: { service: /vertex ai/i, isIssuer: false, inExport: ["Vertex AI"] },
  },
];

/** The lists of those: every installation has prices from them. */
export const PRICE_LISTS: readonly string[] = [...new Set(PROVIDERS.map((one) => one.priceListOf("")))];

/** Kinds of upstreams that settings can name, and whose price list models go by there unless settings say it;
 *  undefined: the upstream's own name is one. */
const USUAL_LISTS = {
  openai: undefined,
  anthropic: "anthropic",
  azure: "openai",
  vertex: "google",
  bedrock: "aws",
} as const;
export type UpstreamKind = keyof typeof USUAL_LISTS;
/** The kind of what settings say nothing of: it speaks OpenAI's format. */
export const COMPATIBLE = "openai" satisfies UpstreamKind;
export const UPSTREAM_KINDS = Object.keys(USUAL_LISTS) as readonly UpstreamKind[];

/** An upstream of somebody's own, as far as it is a provider. */
export type Upstream = {
  readonly name: string;
  readonly kind: UpstreamKind;
  readonly priceList?: string | undefined;
  /** The variable that holds its credential. */
  readonly keyVariable?: string | undefined;
};

/** All providers of an installation: those that need no setting, and those that its settings name. */
export type Providers = {
  readonly all: readonly ProviderFacts[];
  /** Every word that is understood: names and what people call them too. */
  readonly names: readonly string[];
  /** By the name under which it is booked; undefined: nothing is, or settings do not name it any more. */
  find(name: string): ProviderFacts | undefined;
  /** The name under which a provider is booked, by whatever people call it. */
  bookedName(word: string): string;
  /** Whose price list a model's use at a provider goes by. One that is not known goes by its name. */
  priceListOf(provider: string, model: string): string;
};

/** Made where settings are read, and handed down. */
export function createProviders(upstreams: readonly Upstream[]): Providers {
  const all = [...PROVIDERS, ...upstreams.map(factsOf)];
  const byName = new Map(all.map((one) => [one.name, one]));
  const aliases = new Map(all.flatMap(({ name, aliases }) => aliases.map((alias) => [alias, name] as const)));
  return {
    all,
    names: [...byName.keys(), ...aliases.keys()],
    find: (name) => byName.get(name),
    bookedName: (word) => aliases.get(word) ?? word,
    priceListOf: (provider, model) => byName.get(provider)?.priceListOf(model) ?? provider,
  };
}

/** Those that need no setting, alone. */
export const BUILT_IN = createProviders([]);

/** The price list of an upstream; where a cloud's is named, models of other makers go by theirs. */
export function listOfUpstream({ name, kind, priceList }: Upstream): string {
  return priceList ?? USUAL_LISTS[kind] ?? name;
}

function factsOf(upstream: Upstream): ProviderFacts {
  const { name, kind, keyVariable } = upstream;
  const list = listOfUpstream(upstream);
  return {
    name,
    aliases: [],
    displayName: name,
    priceListOf: list === "google" ? googleList : () => list,
    focus: { service: name, publisher: name },
    billedAs: NOT_BILLED,
    ...(keyVariable === undefined ? {} : { keyVariable }),
    ...(kind === "vertex" ? {} : { probe: PROBES[kind] }),
  };
}

/** The list of models at an upstream of a kind; not every vendor has one, and Vertex has none without a project. */
const PROBES: { readonly [kind in Exclude<UpstreamKind, "vertex">]: Probe } = {
  openai: { list: "/v1/models", headers: (key) => ({ authorization: `Bearer ${key}` }) },
  anthropic: {
    list: "/v1/models",
    headers: (key) => ({ "x-api-key": key, "anthropic-version": "2023-06-01" }),
  },
  azure: { list: "/openai/models?api-version=2024-10-21", headers: (key) => ({ "api-key": key }) },
  bedrock: { list: "/v1/models", headers: (key) => ({ authorization: `Bearer ${key}` }) },
};

/** No bill is read of an upstream of somebody's own. */
const NOT_BILLED: ProviderFacts["billedAs"] = { service: /(?!)/, isIssuer: false };
