// Settings of the proxy. The only reader of process.env here.
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { z } from "zod";
import type { PriceRow } from "../ledger/prices/rows.ts";
import { isBlock } from "../ledger/usage/key-policy.ts";
import { createPriceBook } from "../ledger/prices/price-book.ts";
import type { Discount } from "../ledger/prices/price-book.ts";
import type { Durability } from "../ledger/open.ts";
import type { CapMode } from "../ledger/usage/reservations.ts";
import { FEE_UNITS, TOKEN_CLASSES } from "../ledger/usage.ts";
import { SHARED_SETTINGS } from "../service/config.ts";
import type { SharedConfig } from "../service/config.ts";
import { ownSecret, Secret } from "../service/secret.ts";
import { readSettings, SettingsError } from "../service/settings.ts";
import type { Environment, Settings } from "../service/settings.ts";
import { googleCredentials } from "../service/google-credentials.ts";
import type { CredentialSource, ProviderSettings } from "./providers/provider.ts";

export type ProxyConfig = SharedConfig & {
  readonly durability: Durability;
  /** Admit clients' own provider keys. */
  readonly passThrough: boolean;
  readonly capMode: CapMode;
  /** Whom refusals name to ask: a person, a channel. */
  readonly contact: string | undefined;
  /** The status of a refusal for money. */
  readonly refusalStatus: 402 | 429 | 403 | 400;
  readonly openai: ProviderSettings;
  readonly anthropic: ProviderSettings;
  readonly google: ProviderSettings;
  readonly vertex: ProviderSettings;
  /** OpenAI-compatible upstreams by name. */
  readonly upstreams: readonly {
    readonly kind: UpstreamKind;
    readonly name: string;
    readonly priceList: string;
    readonly settings: ProviderSettings;
  }[];
  readonly prices: readonly PriceRow[];
  readonly discounts: readonly Discount[];
  /** Limits on what one request may be and take. */
  readonly mostBodyBytes: number;
  /** Bytes of requests in memory at once, in all. */
  readonly mostBodiesBytes: number;
  readonly connectSeconds: number;
  readonly headersSeconds: number;
  readonly idleSeconds: number;
  readonly totalSeconds: number;
  /** Fields, betas and tools that whoever runs Keymeter knows to cost nothing: a strict budget lets them pass. */
  readonly allowedFields: readonly string[];
  /** Origins whose pages may call from a browser; "*": all of them. */
  readonly corsOrigins: readonly string[];
  /** Blocks of proxies in front of this one, whose X-Forwarded-For is believed. */
  readonly trustedProxies: readonly string[];
  /** PEM texts; undefined: plain HTTP. */
  readonly tls: { readonly cert: string; readonly key: Secret } | undefined;
  readonly adminToken: Secret;
  readonly pepper: Secret;
};

type Raw = SharedConfig & {
  durability: Durability;
  passThrough: "on" | "off" | "auto";
  capMode: CapMode;
  contact: string | undefined;
  refusalStatus: 402 | 429 | 403 | 400;
  openaiUrl: string;
  anthropicUrl: string;
  googleUrl: string;
  vertexUrl: string;
  googleCredentials: string | undefined;
  openaiKey: string | undefined;
  anthropicKey: string | undefined;
  googleKey: string | undefined;
  upstreams: { [name: string]: z.infer<typeof upstreamRow> };
  prices: z.infer<typeof priceRow>[];
  discounts: z.infer<typeof discountRow>[];
  mostBodyMegabytes: number;
  mostBodiesMegabytes: number;
  allowedFields: readonly string[];
  corsOrigins: readonly string[];
  trustedProxies: readonly string[];
  tlsCert: string | undefined;
  tlsKey: string | undefined;
  connectSeconds: number;
  headersSeconds: number;
  idleSeconds: number;
  totalSeconds: number;
  adminToken: string | undefined;
  pepper: string | undefined;
};

const upstreamUrl = z
  .url({
    protocol: /^https?$/,
    error: "an http or https URL without a version segment, such as https://api.openai.com",
  })
  .refine((url) => !/\/v\d+\w*\/?$/.test(url), "a URL without the version at its end: it is added");
const secretText = z
  .string()
  .min(1, "a secret that is not empty")
  .refine(
    (text) => !/^(\.{3,}|…|<.*>|x{3,}|changeme|your[-_ ].*)$/i.test(text),
    "a secret, not the placeholder of an example",
  ) as z.ZodType<string | undefined>;
const seconds = z.coerce.number().positive().max(86_400) as z.ZodType<number>;
const name = z.string().regex(/^[a-z0-9][a-z0-9-]{0,30}$/, "a name of lower-case letters, digits and dashes");
const upstreamRow = z
  .strictObject({
    kind: z.enum(["openai", "azure", "vertex"]).default("openai"),
    url: z.url({ protocol: /^https?$/, error: "an http or https URL, such as https://api.example.com" }),
    version: z.enum(["none"]).optional(),
    api_key_env: z.string().optional(),
    price_list: z.string().optional(),
    ask_usage: z.boolean().default(true),
    needs_key: z.boolean().optional(),
    deployments: z.record(z.string().min(1), z.string().min(1)).default({}),
  })
  .refine(({ url, version }) => version === "none" || !/\/v\d+\w*\/?$/.test(url), {
    path: ["url"],
    message: "a URL without the version at its end, for it is added; or say version: none",
  });
type UpstreamKind = z.infer<typeof upstreamRow>["kind"];
const decimal = z.union([z.string(), z.number()]).transform(String);
const discountRow = z.strictObject({
  provider: z.string().min(1),
  model: z.string().min(1).optional(),
  percent: decimal,
});
const priceRow = z.strictObject({
  provider: z.string().min(1),
  model: z.string().min(1),
  from: z.iso.date().optional(),
  usd_per_million: z.partialRecord(z.enum(TOKEN_CLASSES), decimal).default({}),
  usd_each: z.partialRecord(z.enum(FEE_UNITS), decimal).default({}),
  context_window: z.number().int().positive().optional(),
  max_output_tokens: z.number().int().positive().optional(),
  source: z.string().default("keymeter.yaml"),
});

function isOrigin(text: string): boolean {
  return URL.canParse(text) && new URL(text).origin === text;
}

/** A list; in the environment its items are parted by commas. */
function listOf(item: z.ZodType<string>): z.ZodType<readonly string[]> {
  return z.preprocess(
    (given) => (typeof given === "string" ? given.split(",").map((one) => one.trim()) : given),
    z.array(item),
  ) as z.ZodType<readonly string[]>;
}

export const PROXY_SETTINGS: Settings<Raw> = {
  ...SHARED_SETTINGS,
  durability: {
    place: "proxy.durability",
    env: "KEYMETER_DURABILITY",
    schema: z.enum(["power", "process"]),
    fallback: "power",
  },
  passThrough: {
    place: "proxy.pass_through",
    env: "KEYMETER_PASS_THROUGH",
    schema: z.enum(["on", "off"]),
    fallback: "auto",
  },
  capMode: {
    place: "proxy.cap_mode",
    env: "KEYMETER_CAP_MODE",
    schema: z.enum(["enforce", "observe"]),
    fallback: "enforce",
  },
  contact: {
    place: "proxy.contact",
    env: "KEYMETER_CONTACT",
    schema: z.string().regex(/^[^\p{Cc}]{1,120}$/u, "one line of at most 120 characters"),
    fallback: undefined,
  },
  refusalStatus: {
    place: "proxy.refusal_status",
    env: "KEYMETER_REFUSAL_STATUS",
    schema: z.coerce.number().pipe(z.union([z.literal(402), z.literal(429), z.literal(403), z.literal(400)])),
    fallback: 402,
  },
  openaiUrl: {
    place: "proxy.openai.url",
    env: "KEYMETER_OPENAI_URL",
    schema: upstreamUrl,
    fallback: "https://api.openai.com",
  },
  anthropicUrl: {
    place: "proxy.anthropic.url",
    env: "KEYMETER_ANTHROPIC_URL",
    schema: upstreamUrl,
    fallback: "https://api.anthropic.com",
  },
  googleUrl: {
    place: "proxy.google.url",
    env: "KEYMETER_GOOGLE_URL",
    schema: upstreamUrl,
    fallback: "https://generativelanguage.googleapis.com",
  },
  vertexUrl: {
    place: "proxy.vertex.url",
    env: "KEYMETER_VERTEX_URL",
    schema: upstreamUrl,
    fallback: "https://aiplatform.googleapis.com",
  },
  googleCredentials: {
    place: "proxy.vertex.credentials",
    env: "GOOGLE_APPLICATION_CREDENTIALS",
    schema: z.string().min(1),
    fallback: undefined,
  },
  openaiKey: { place: "proxy.openai.api_key", env: "OPENAI_API_KEY", schema: secretText, fallback: undefined },
  anthropicKey: { place: "proxy.anthropic.api_key", env: "ANTHROPIC_API_KEY", schema: secretText, fallback: undefined },
  googleKey: { place: "proxy.google.api_key", env: "GEMINI_API_KEY", schema: secretText, fallback: undefined },
  upstreams: {
    place: "proxy.upstreams",
    schema: z.record(name, upstreamRow),
    fallback: {},
  },
  prices: { place: "proxy.prices", schema: z.array(priceRow), fallback: [] },
  discounts: { place: "proxy.discounts", schema: z.array(discountRow), fallback: [] },
  mostBodyMegabytes: {
    place: "proxy.max_body_mb",
    env: "KEYMETER_MAX_BODY_MB",
    schema: z.coerce.number().positive().max(1024),
    fallback: 64,
  },
  mostBodiesMegabytes: {
    place: "proxy.max_bodies_mb",
    env: "KEYMETER_MAX_BODIES_MB",
    schema: z.coerce.number().positive().max(65_536),
    fallback: 512,
  },
  connectSeconds: { place: "proxy.timeouts.connect", schema: seconds, fallback: 5 },
  headersSeconds: { place: "proxy.timeouts.headers", schema: seconds, fallback: 600 },
  idleSeconds: { place: "proxy.timeouts.idle", schema: seconds, fallback: 300 },
  totalSeconds: { place: "proxy.timeouts.total", schema: seconds, fallback: 3600 },
  allowedFields: {
    place: "proxy.allowed_fields",
    env: "KEYMETER_ALLOWED_FIELDS",
    schema: listOf(z.string().min(1).max(100)),
    fallback: [],
  },
  corsOrigins: {
    place: "proxy.cors_origins",
    env: "KEYMETER_CORS_ORIGINS",
    schema: listOf(
      z.string().refine((text) => text === "*" || isOrigin(text), "an origin such as https://app.example.com, or *"),
    ),
    fallback: [],
  },
  trustedProxies: {
    place: "proxy.trusted_proxies",
    env: "KEYMETER_TRUSTED_PROXIES",
    schema: listOf(z.string().refine(isBlock, "an address or a block of them, such as 10.0.0.0/8")),
    fallback: [],
  },
  tlsCert: { place: "proxy.tls.cert", env: "KEYMETER_TLS_CERT", schema: z.string().min(1), fallback: undefined },
  tlsKey: { place: "proxy.tls.key", env: "KEYMETER_TLS_KEY", schema: z.string().min(1), fallback: undefined },
  adminToken: { place: "proxy.admin_token", env: "KEYMETER_ADMIN_TOKEN", schema: secretText, fallback: undefined },
  pepper: { place: "proxy.pepper", env: "KEYMETER_PEPPER", schema: secretText, fallback: undefined },
};

/** The price list of a kind of upstream whose name says nothing of it. */
const USUAL_LISTS: { readonly [kind in UpstreamKind]?: string } = { azure: "openai", vertex: "google" };
const LOOPBACK = new Set(["127.0.0.1", "::1", "localhost"]);

function isLoopback({ hostname }: URL): boolean {
  return LOOPBACK.has(hostname.replace(/^\[|\]$/g, ""));
}

function readGoogleCredentials(file: string | undefined, problems: string[]): CredentialSource | undefined {
  if (file === undefined) return undefined;
  try {
    return googleCredentials(file);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    problems.push(
      `GOOGLE_APPLICATION_CREDENTIALS: ${file} cannot be used (${why}); name a service account's key file, or unset it`,
    );
    return undefined;
  }
}

/** Reads certificate and key from their files, and tries them on. */
function readTls(certFile: string | undefined, keyFile: string | undefined, problems: string[]): ProxyConfig["tls"] {
  if (certFile === undefined && keyFile === undefined) return undefined;
  if (certFile === undefined || keyFile === undefined) {
    problems.push("KEYMETER_TLS_CERT and KEYMETER_TLS_KEY belong together: set both, or neither for plain HTTP");
    return undefined;
  }
  try {
    const tls = { cert: readFileSync(certFile, "utf8"), key: readFileSync(keyFile, "utf8") };
    createSecureContext(tls);
    return { cert: tls.cert, key: new Secret(tls.key) };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    problems.push(`KEYMETER_TLS_CERT, KEYMETER_TLS_KEY: no certificate with its key, both as PEM files (${why})`);
    return undefined;
  }
}

/** What settings say of the providers that need none, by the name under which each is booked. */
export function ownSettings({
  openai,
  anthropic,
  google,
}: Pick<ProxyConfig, "openai" | "anthropic" | "google">): ReadonlyMap<string, ProviderSettings> {
  return new Map([
    ["openai", openai],
    ["anthropic", anthropic],
    ["gcp.gemini", google],
  ]);
}

/** Reads and checks everything; throws a SettingsError that names every problem. Makes the installation's own secrets on
 *  the first start. */
export function loadProxyConfig(environment: Environment = process.env): ProxyConfig {
  const problems: string[] = [];
  const {
    openaiUrl,
    anthropicUrl,
    googleUrl,
    vertexUrl,
    googleCredentials: credentialsFile,
    openaiKey,
    anthropicKey,
    googleKey,
    upstreams,
    prices,
    discounts,
    mostBodyMegabytes,
    mostBodiesMegabytes,
    adminToken,
    pepper,
    passThrough,
    tlsCert,
    tlsKey,
    ...rest
  } = readSettings(PROXY_SETTINGS, "proxy", environment, problems);
  const secret = (text: string | undefined): Secret | undefined => (text === undefined ? undefined : new Secret(text));
  const googleToken = readGoogleCredentials(credentialsFile, problems);
  const taken = new Set(["openai", "anthropic", "google", "gemini", "genai", "vertex", "keymeter"]);
  const named = Object.entries(upstreams).map(([upstream, row]) => {
    const { kind, url, api_key_env: variable, price_list: list, ask_usage: asksUsage, deployments } = row;
    // A server on this machine that nobody gave a key for asks for none.
    const needsKey = row.needs_key ?? !(variable === undefined && kind === "openai" && isLoopback(new URL(url)));
    if (taken.has(upstream)) problems.push(`proxy.upstreams.${upstream}: this name is taken; choose another`);
    if (variable !== undefined && !environment[variable])
      problems.push(`proxy.upstreams.${upstream}.api_key_env: ${variable} is not set in the environment`);
    const credential =
      kind === "vertex" && variable === undefined
        ? googleToken
        : secret(variable === undefined ? undefined : environment[variable]);
    return {
      kind,
      name: upstream,
      priceList: list ?? USUAL_LISTS[kind] ?? upstream,
      settings: { url: new URL(url), version: row.version, credential, asksUsage, needsKey, deployments },
    };
  });
  const rows: PriceRow[] = prices.map((row) => ({
    list: row.provider,
    model: row.model,
    ...(row.from === undefined ? {} : { from: row.from }),
    usdPerMillion: row.usd_per_million as NonNullable<PriceRow["usdPerMillion"]>,
    usdEach: row.usd_each as NonNullable<PriceRow["usdEach"]>,
    ...(row.context_window === undefined ? {} : { contextWindow: row.context_window }),
    ...(row.max_output_tokens === undefined ? {} : { maxOutputTokens: row.max_output_tokens }),
    source: row.source,
  }));
  const reductions = discounts.map(({ provider, model, percent }) => ({ list: provider, model, percent }));
  try {
    createPriceBook(rows, reductions);
  } catch (error) {
    problems.push(`proxy.${error instanceof Error ? error.message : String(error)}`);
  }
  const tls = readTls(tlsCert, tlsKey, problems);
  const own = (which: "admin-token" | "pepper", given: string | undefined): Secret => {
    // Nothing is made in a folder that may be the wrong one.
    if (given === undefined && problems.length > 0) return new Secret("");
    try {
      return ownSecret(rest.dataDir, which, given);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      problems.push(
        why.startsWith("E") ? `KEYMETER_DATA_DIR: ${rest.dataDir} cannot be used as the data folder (${why})` : why,
      );
      return new Secret("");
    }
  };
  const secrets = { adminToken: own("admin-token", adminToken), pepper: own("pepper", pepper) };
  if (problems.length > 0) throw new SettingsError(problems);
  return Object.freeze({
    ...rest,
    ...secrets,
    tls,
    passThrough: passThrough === "auto" ? LOOPBACK.has(rest.host) : passThrough === "on",
    openai: { url: new URL(openaiUrl), credential: secret(openaiKey) },
    anthropic: { url: new URL(anthropicUrl), credential: secret(anthropicKey) },
    google: { url: new URL(googleUrl), credential: secret(googleKey) },
    vertex: { url: new URL(vertexUrl), credential: googleToken },
    upstreams: named,
    prices: rows,
    discounts: reductions,
    mostBodyBytes: Math.floor(mostBodyMegabytes * 1024 * 1024),
    mostBodiesBytes: Math.floor(mostBodiesMegabytes * 1024 * 1024),
  });
}
