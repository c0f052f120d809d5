// Settings of the proxy. The only reader of process.env here.
import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import { z } from "zod";
import { COMPATIBLE, listOfUpstream } from "../ledger/providers.ts";
import type { UpstreamKind } from "../ledger/providers.ts";
import type { PriceRow } from "../ledger/prices/rows.ts";
import { isBlock } from "../ledger/usage/key-policy.ts";
import { createPriceBook } from "../ledger/prices/price-book.ts";
import type { Discount } from "../ledger/prices/price-book.ts";
import { FEE_UNITS, TOKEN_CLASSES } from "../ledger/usage.ts";
import { ADMIN_TOKEN, CAP_MODE, ownSecretOf, PEPPER, SHARED_SETTINGS, UPSTREAMS } from "../service/config.ts";
import { googleCredentialsAt } from "../service/google-credentials.ts";
import { Secret } from "../service/secret.ts";
import { keptSigningKey, signingKeyOf } from "../service/signing-key.ts";
import { anthropicKeyless, openaiKeyless } from "./providers/keyless.ts";
import type { AnthropicKeyless, OpenaiKeyless, Signer } from "./providers/keyless.ts";
import { group, listOf, readConfig, secret, secretOf, secretText } from "../service/settings.ts";
import type { Environment, Reading, SettingTree, Values } from "../service/settings.ts";
import { credentialRows, upstreamOf } from "../service/upstreams.ts";
import type { CredentialRows, UpstreamRows } from "../service/upstreams.ts";
import type { ProviderSettings, ScopedCredential } from "./providers/provider.ts";

const upstreamUrl = z
  .url({
    protocol: /^https?$/,
    error: "an http or https URL without a version segment, such as https://api.openai.com",
  })
  .refine((url) => !/\/v\d+\w*\/?$/.test(url), "a URL without the version at its end: it is added");
const seconds = z.coerce.number().positive().max(86_400);
const decimal = z.union([z.string(), z.number()]).transform(String);
const discountRow = z
  .strictObject({ provider: z.string().min(1), model: z.string().min(1).optional(), percent: decimal })
  .transform(({ provider, model, percent }): Discount => ({ list: provider, model, percent }));
const priceRow = z
  .strictObject({
    provider: z.string().min(1),
    model: z.string().min(1),
    from: z.iso.date().optional(),
    usd_per_million: z.partialRecord(z.enum(TOKEN_CLASSES), decimal).default({}),
    usd_each: z.partialRecord(z.enum(FEE_UNITS), decimal).default({}),
    context_window: z.number().int().positive().optional(),
    max_output_tokens: z.number().int().positive().optional(),
    source: z.string().default("keymeter.yaml"),
  })
  .transform((row): PriceRow => ({
    list: row.provider,
    model: row.model,
    ...(row.from === undefined ? {} : { from: row.from }),
    usdPerMillion: row.usd_per_million as NonNullable<PriceRow["usdPerMillion"]>,
    usdEach: row.usd_each as NonNullable<PriceRow["usdEach"]>,
    ...(row.context_window === undefined ? {} : { contextWindow: row.context_window }),
    ...(row.max_output_tokens === undefined ? {} : { maxOutputTokens: row.max_output_tokens }),
    source: row.source,
  }));

function isOrigin(text: string): boolean {
  return URL.canParse(text) && new URL(text).origin === text;
}

const MORE_CREDENTIALS = {
  schema: credentialRows,
  fallback: {},
  says: "more credentials, each for the keys of some teams, projects or environments (api_key, or api_key_env)",
  example: ['staging: { api_key: "vault:secret/keymeter/staging#api_key", env: staging }'],
} as const;

const anthropicKeylessRow = z.strictObject({
  organization: z.string().min(1),
  rule: z.string().min(1),
  service_account: z.string().min(1).optional(),
  workspace: z.string().min(1).optional(),
});
const openaiKeylessRow = z.strictObject({
  identity_provider: z.string().min(1),
  service_account: z.string().min(1),
  token_url: z.url({ protocol: /^https?$/ }).default("https://auth.openai.com/oauth/token"),
});

function isSigningKey(text: string): boolean {
  try {
    signingKeyOf(text);
    return true;
  } catch {
    return false;
  }
}

const VERTEX_CREDENTIALS = { place: "proxy.vertex.credentials", env: "GOOGLE_APPLICATION_CREDENTIALS" } as const;

export const PROXY_SETTINGS = {
  durability: {
    place: "proxy.durability",
    env: "KEYMETER_DURABILITY",
    schema: z.enum(["power", "power_before_send", "process"]),
    fallback: "power",
    says: "a power cut may take, with power: attempts of whose answer nobody got a byte; power_before_send: nothing; process: 100 ms",
  },
  processes: {
    place: "proxy.processes",
    env: "KEYMETER_PROCESSES",
    schema: z.coerce.number().int().min(1).max(64),
    fallback: 1,
    says: "processes on this port, one for each core that it is to use; more than one needs books in Postgres (KEYMETER_LEDGER_URL)",
  },
  /** Of several proxies. */
  orphanSeconds: {
    place: "proxy.orphan_seconds",
    env: "KEYMETER_ORPHAN_SECONDS",
    schema: z.coerce.number().int().min(20).max(86_400),
    fallback: 600,
    says: "with books in Postgres: how long what a lost proxy left open waits for it, before it is booked as its crash",
  },
  /** Admit clients' own provider keys. */
  passThrough: {
    place: "proxy.pass_through",
    env: "KEYMETER_PASS_THROUGH",
    schema: z.enum(["on", "off"]),
    fallback: "auto",
    says: "clients' own provider keys (default: on, on loopback only)",
    example: "on",
  },
  capMode: CAP_MODE,
  contact: {
    place: "proxy.contact",
    env: "KEYMETER_CONTACT",
    schema: z.string().regex(/^[^\p{Cc}]{1,120}$/u, "one line of at most 120 characters"),
    fallback: undefined,
    says: 'whom refusals name to ask, such as "#ai-platform in Slack"',
  },
  /** Of a refusal for money. */
  refusalStatus: {
    place: "proxy.refusal_status",
    env: "KEYMETER_REFUSAL_STATUS",
    schema: z.coerce.number().pipe(z.union([z.literal(402), z.literal(429), z.literal(403), z.literal(400)])),
    fallback: 402,
    says: "the status of a refusal for money: 402, 429, 403 or 400",
  },
  mostBodyBytes: group(
    {
      megabytes: {
        place: "proxy.max_body_mb",
        env: "KEYMETER_MAX_BODY_MB",
        schema: z.coerce.number().positive().max(1024),
        fallback: 64,
        says: "the largest request",
      },
    },
    bytesOf,
  ),
  mostBodiesBytes: group(
    {
      megabytes: {
        place: "proxy.max_bodies_mb",
        env: "KEYMETER_MAX_BODIES_MB",
        schema: z.coerce.number().positive().max(65_536),
        fallback: 512,
        says: "of all bodies under way; more is refused with 503 for the moment",
      },
    },
    bytesOf,
  ),
  /** Fields, betas and tools that whoever runs Keymeter knows to cost nothing: a strict budget lets them pass. */
  allowedFields: {
    place: "proxy.allowed_fields",
    env: "KEYMETER_ALLOWED_FIELDS",
    schema: listOf(z.string().min(1).max(100)),
    fallback: [],
    says: "by commas; fields that Keymeter does not know yet and that cost nothing: a refusal of a strict budget names them",
  },
  adminToken: ADMIN_TOKEN,
  pepper: PEPPER,
  corsOrigins: {
    place: "proxy.cors_origins",
    env: "KEYMETER_CORS_ORIGINS",
    schema: listOf(
      z.string().refine((text) => text === "*" || isOrigin(text), "an origin such as https://app.example.com, or *"),
    ),
    fallback: [],
    says: 'by commas; origins whose pages may call from a browser, such as https://app.example.com; "*" is all',
  },
  trustedProxies: {
    place: "proxy.trusted_proxies",
    env: "KEYMETER_TRUSTED_PROXIES",
    schema: listOf(z.string().refine(isBlock, "an address or a block of them, such as 10.0.0.0/8")),
    fallback: [],
    says: "by commas; blocks whose X-Forwarded-For names the client",
  },
  tls: group(
    {
      cert: {
        place: "proxy.tls.cert",
        env: "KEYMETER_TLS_CERT",
        schema: z.string().min(1),
        fallback: undefined,
        says: "a PEM file: HTTPS on the proxy's port",
      },
      key: {
        place: "proxy.tls.key",
        env: "KEYMETER_TLS_KEY",
        schema: z.string().min(1),
        fallback: undefined,
        says: "the key of the certificate, a PEM file",
      },
    },
    readTls,
    "HTTPS on the proxy's port; OpenAI's Realtime client insists on it",
  ),
  connectSeconds: {
    place: "proxy.timeouts.connect",
    schema: seconds,
    fallback: 5,
    says: "seconds until a provider must have taken the connection",
  },
  headersSeconds: {
    place: "proxy.timeouts.headers",
    schema: seconds,
    fallback: 600,
    says: "seconds until it must have begun to answer: reasoning models think long before they do",
  },
  idleSeconds: {
    place: "proxy.timeouts.idle",
    schema: seconds,
    fallback: 300,
    says: "seconds that an answer may stand still",
  },
  totalSeconds: {
    place: "proxy.timeouts.total",
    schema: seconds,
    fallback: 3600,
    says: "seconds that all of it may take",
  },
  signer: {
    issuer: {
      place: "proxy.keyless.issuer",
      env: "KEYMETER_KEYLESS_ISSUER",
      schema: z.url({ protocol: /^https$/, error: "an https URL of yours, such as https://keymeter.example.com" }),
      fallback: undefined,
      says: "who signs, as it is registered at a provider; nothing has to answer there",
    },
    subject: {
      place: "proxy.keyless.subject",
      env: "KEYMETER_KEYLESS_SUBJECT",
      schema: z.string().regex(/^[\w:./-]{1,120}$/, "a word of letters, digits and :./-"),
      fallback: "keymeter",
      says: "for whom it signs, as it is registered",
    },
    key: secret({
      place: "proxy.keyless.signing_key",
      env: "KEYMETER_SIGNING_KEY",
      schema: z.string().refine(isSigningKey, "a private key for ES256, as a JWK (JSON)"),
      says: "the key it signs with; absent: signing-key.json in the data folder, which `keymeter keyless` makes",
    }),
  },
  /** The providers that need no setting, by the name under which each is booked. */
  own: {
    openai: group(
      {
        url: {
          place: "proxy.openai.url",
          env: "KEYMETER_OPENAI_URL",
          schema: upstreamUrl,
          fallback: "https://api.openai.com",
          says: "where OpenAI is, without a version",
        },
        credential: secret({
          place: "proxy.openai.api_key",
          env: "OPENAI_API_KEY",
          says: "what Keymeter keys are swapped for",
        }),
        credentials: { place: "proxy.openai.credentials", ...MORE_CREDENTIALS },
        keyless: {
          place: "proxy.openai.keyless",
          schema: openaiKeylessRow,
          fallback: undefined,
          says: "instead of a key: tokens of minutes, for what Keymeter signs (`keymeter keyless openai` says what to register)",
          example: "{ identity_provider: idp_AbC, service_account: user-AbC }",
        },
      },
      settingsOf("proxy.openai"),
    ),
    anthropic: group(
      {
        url: {
          place: "proxy.anthropic.url",
          env: "KEYMETER_ANTHROPIC_URL",
          schema: upstreamUrl,
          fallback: "https://api.anthropic.com",
          says: "where Anthropic is, without a version",
        },
        credential: secret({
          place: "proxy.anthropic.api_key",
          env: "ANTHROPIC_API_KEY",
          says: "what Keymeter keys are swapped for",
        }),
        credentials: { place: "proxy.anthropic.credentials", ...MORE_CREDENTIALS },
        keyless: {
          place: "proxy.anthropic.keyless",
          schema: anthropicKeylessRow,
          fallback: undefined,
          says: "instead of a key: tokens of minutes, for what Keymeter signs (`keymeter keyless anthropic` says what to register)",
          example: "{ organization: org-AbC, rule: fdrl_AbC, service_account: svac_AbC }",
        },
      },
      settingsOf("proxy.anthropic"),
    ),
    "gcp.gemini": group(
      {
        url: {
          place: "proxy.google.url",
          env: "KEYMETER_GOOGLE_URL",
          schema: upstreamUrl,
          fallback: "https://generativelanguage.googleapis.com",
          says: "where Gemini is, without a version",
        },
        credential: secret({
          place: "proxy.google.api_key",
          env: "GEMINI_API_KEY",
          says: "what Keymeter keys are swapped for",
        }),
        credentials: { place: "proxy.google.credentials", ...MORE_CREDENTIALS },
      },
      settingsOf("proxy.google"),
    ),
    "gcp.vertex_ai": group(
      {
        url: {
          place: "proxy.vertex.url",
          env: "KEYMETER_VERTEX_URL",
          schema: upstreamUrl,
          fallback: "https://aiplatform.googleapis.com",
          says: "a region's host, or one upstream each",
        },
        credentials: {
          ...VERTEX_CREDENTIALS,
          schema: z.string().min(1),
          fallback: undefined,
          says: "a service account's key file, or a reference to what it holds (vault:..., gcp-sm:...)",
          mayRefer: true,
        },
      },
      ({ url, credentials }, reading): ProviderSettings => ({
        url: new URL(url),
        credential:
          credentials === undefined ? undefined : googleCredentialsAt(VERTEX_CREDENTIALS, credentials, reading),
      }),
    ),
  },
  upstreams: group({ rows: UPSTREAMS }, readUpstreams),
  prices: {
    place: "proxy.prices",
    schema: z.array(priceRow),
    fallback: [],
    says: "what the price list lacks, or what you negotiated; from a day on",
    example: [
      '- { provider: openai, model: my-model, from: 2026-11-01, usd_per_million: { input: "1.75", output: "14" } }',
      '- { provider: openai, model: my-speaker, usd_each: { character: "0.000015" } } # a fee per use',
    ],
  },
  discounts: {
    place: "proxy.discounts",
    schema: z.array(discountRow),
    fallback: [],
    says: "off the list, tokens and fees alike; the first that fits counts",
    example: ['- { provider: openai, model: "gpt-5*", percent: "12.5" }'],
  },
  ...SHARED_SETTINGS,
} as const satisfies SettingTree;

/** Reads and checks everything; throws a SettingsError that names every problem. Makes the installation's own secrets
 *  on the first start. */
export function loadProxyConfig(environment: Environment = process.env): ProxyConfig {
  return readConfig(PROXY_SETTINGS, "proxy", environment, finish);
}
export type ProxyConfig = Readonly<ReturnType<typeof finish>>;

/** What depends on other settings, and the secrets that an installation makes for itself. */
function finish(values: Values<typeof PROXY_SETTINGS>, reading: Reading) {
  const { dataDir, host, passThrough, own, upstreams } = values;
  if (values.processes > 1 && !values.ledgerUrl)
    reading.problems.push(
      `proxy.processes (KEYMETER_PROCESSES) is ${values.processes}, and books in SQLite have one writer: set KEYMETER_LEDGER_URL (docs/fleet.md), or leave it at 1`,
    );
  try {
    createPriceBook(values.prices, values.discounts);
  } catch (error) {
    reading.problems.push(`proxy.${error instanceof Error ? error.message : String(error)}`);
  }
  const signer = (): Signer | undefined => signerOf(values.signer, dataDir, reading);
  const keyed = {
    ...own,
    openai: withKeyless(own.openai, signer),
    anthropic: withKeyless(own.anthropic, signer),
    "gcp.gemini": withKeyless(own["gcp.gemini"], signer),
  };
  return {
    ...values,
    own: keyed,
    passThrough: passThrough === "auto" ? LOOPBACK.has(host) : passThrough === "on",
    // A Vertex of your own is signed in to like Google's, unless it has a key.
    upstreams: upstreams.map((one) =>
      one.kind === "vertex" && !one.hasOwnKey
        ? { ...one, settings: { ...one.settings, credential: own["gcp.vertex_ai"].credential } }
        : one,
    ),
    adminToken: ownSecretOf(dataDir, "admin-token", values.adminToken, reading),
    pepper: ownSecretOf(dataDir, "pepper", values.pepper, reading),
  };
}

/** Who signs. What is missing goes into the problems. */
function signerOf(
  { issuer, subject, key: given }: { issuer: string | undefined; subject: string; key: Secret | undefined },
  dataDir: string,
  { problems }: Reading,
): Signer | undefined {
  const kept = given ? undefined : keptSigningKey(dataDir);
  if (kept && !isSigningKey(kept.reveal()))
    problems.push(`${dataDir}/signing-key.json: a private key for ES256, as a JWK (JSON); restore it from a backup`);
  const key = given ?? kept;
  if (issuer === undefined) problems.push("proxy.keyless.issuer (KEYMETER_KEYLESS_ISSUER): keyless needs it");
  if (!key)
    problems.push(
      "proxy.keyless.signing_key (KEYMETER_SIGNING_KEY): there is none; `keymeter keyless PROVIDER` makes one, and says what to register",
    );
  return issuer !== undefined && key ? { issuer, subject, key } : undefined;
}

function bytesOf({ megabytes }: { readonly megabytes: number }): number {
  return Math.floor(megabytes * 1024 * 1024);
}

function settingsOf(place: string) {
  return (
    { url, credential, credentials, keyless }: Given,
    reading: Reading,
  ): ProviderSettings & { readonly keyless: Given["keyless"] } => {
    if (credential && keyless) reading.problems.push(`${place}: say api_key or keyless, not both`);
    return { url: new URL(url), credential, scoped: scopedOf(place, credentials, reading), keyless };
  };
}

type Given = {
  readonly url: string;
  readonly credential: Secret | undefined;
  readonly credentials: CredentialRows;
  readonly keyless?: AnthropicKeyless | OpenaiKeyless | undefined;
};

/** With what a provider gives tokens for, where settings say so. */
function withKeyless(
  settings: ProviderSettings & { readonly keyless: Given["keyless"] },
  signer: () => Signer | undefined,
): ProviderSettings {
  const { keyless, ...rest } = settings;
  const by = keyless && signer();
  if (!keyless || !by) return rest;
  const credential = "rule" in keyless ? anthropicKeyless(keyless, settings.url, by) : openaiKeyless(keyless, by);
  return { ...rest, credential };
}

/** Those for some keys only. */
function scopedOf(place: string, rows: CredentialRows, reading: Reading): ScopedCredential[] {
  return Object.entries(rows).flatMap(([name, { team, project, env, ...row }]) => {
    const source = keyOf(`${place}.credentials.${name}`, row, reading);
    return source ? [{ name, source, scope: { team, project, env } }] : [];
  });
}

type NamedUpstream = {
  readonly kind: UpstreamKind;
  readonly name: string;
  readonly priceList: string;
  readonly hasOwnKey: boolean;
  readonly settings: ProviderSettings;
};

function readUpstreams({ rows }: { readonly rows: UpstreamRows }, reading: Reading): readonly NamedUpstream[] {
  return Object.entries(rows).map(([name, row]) => {
    const { kind, url, version, ask_usage: asksUsage, subscription: isSeat, deployments } = row;
    const place = `proxy.upstreams.${name}`;
    const isNamed = row.api_key_env !== undefined || row.api_key !== undefined;
    const credential = isNamed ? keyOf(place, row, reading) : undefined;
    const scoped = scopedOf(place, row.credentials, reading);
    // A server on this machine that nobody gave a key for asks for none.
    const needsKey =
      row.needs_key ?? !(!isNamed && scoped.length === 0 && kind === COMPATIBLE && isLoopback(new URL(url)));
    return {
      kind,
      name,
      priceList: listOfUpstream(upstreamOf(name, row)),
      hasOwnKey: isNamed,
      settings: { url: new URL(url), version, credential, scoped, asksUsage, needsKey, isSeat, deployments },
    };
  });
}

/** From its variable, or as it stands in the file; either may be a reference. */
function keyOf(
  place: string,
  { api_key_env: variable, api_key: given }: Pick<UpstreamRows[string], "api_key" | "api_key_env">,
  reading: Reading,
): Secret | undefined {
  if ((variable === undefined) === (given === undefined)) {
    reading.problems.push(`${place}: say api_key_env or api_key, ${given === undefined ? "one of them" : "not both"}`);
    return undefined;
  }
  const text = variable === undefined ? given : reading.environment[variable];
  const name = `${place}.${variable === undefined ? "api_key" : "api_key_env"}`;
  if (variable !== undefined && !text) reading.problems.push(`${name}: ${variable} is not set in the environment`);
  return text ? secretOf({ place: name, schema: secretText }, text, reading) : undefined;
}

const LOOPBACK = new Set(["127.0.0.1", "::1", "localhost"]);

function isLoopback({ hostname }: URL): boolean {
  return LOOPBACK.has(hostname.replace(/^\[|\]$/g, ""));
}

/** Reads certificate and key from their files, and tries them on. Undefined: plain HTTP. */
function readTls(
  { cert: certFile, key: keyFile }: { readonly cert: string | undefined; readonly key: string | undefined },
  { problems }: Reading,
): { readonly cert: string; readonly key: Secret } | undefined {
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
