// What settings say of rotations: of which credential, where proxies read it, who makes a new one, and how patiently the old
// one goes.
import { z } from "zod";
import type { ProviderFacts, Providers } from "../../ledger/providers.ts";
import { placeOfCredential } from "../../ledger/usage/credentials.ts";
import { webUrl } from "../../service/config.ts";
import { HeldSecret } from "../../service/secrets/index.ts";
import { secretOf, secretText } from "../../service/settings.ts";
import type { Reading } from "../../service/settings.ts";
import type { Maker, MakerSettings } from "./maker.ts";
import { anthropicMaker } from "./makers/anthropic.ts";
import { byHand } from "./makers/hand.ts";
import { openaiMaker } from "./makers/openai.ts";
import { openrouterMaker } from "./makers/openrouter.ts";
import { xaiMaker } from "./makers/xai.ts";

type MakerKind = {
  readonly make: (settings: MakerSettings) => Maker;
  readonly needs: readonly ("admin_key" | "project" | "service_account" | "team" | "url")[];
  readonly url?: string;
  readonly adminUrl?: string;
};

const MAKERS = {
  openai: { make: openaiMaker, needs: ["admin_key", "project", "service_account"], url: "https://api.openai.com" },
  anthropic: { make: anthropicMaker, needs: ["admin_key"], url: "https://api.anthropic.com" },
  openrouter: { make: openrouterMaker, needs: ["admin_key"], url: "https://openrouter.ai" },
  xai: {
    make: xaiMaker,
    needs: ["admin_key", "team"],
    url: "https://api.x.ai",
    adminUrl: "https://management-api.x.ai",
  },
  hand: { make: byHand, needs: ["url"] },
} as const satisfies { readonly [name: string]: MakerKind };
export type MakerName = keyof typeof MAKERS;
const NAMES = Object.keys(MAKERS) as readonly MakerName[];

const UNITS = { s: 1, m: 60, h: 3600, d: 86_400 } as const;
/** In milliseconds. */
const duration = z
  .string()
  .regex(/^\d{1,5}[smhd]$/, "a time such as 24h or 60d")
  .transform((text) => Number(text.slice(0, -1)) * UNITS[text.slice(-1) as keyof typeof UNITS] * 1000);

const row = z.strictObject({
  /** The reference that proxies read. */
  secret: z.string().min(1),
  maker: z.enum(NAMES).optional(),
  admin_key: z.string().min(1).optional(),
  admin_url: webUrl.optional(),
  url: webUrl.optional(),
  project: z.string().min(1).optional(),
  service_account: z.string().min(1).optional(),
  team: z.string().min(1).optional(),
  /** The current key, as the provider calls it, where that cannot be told. */
  key_id: z.string().min(1).optional(),
  every: duration.optional(),
  /** So long the old key has to be unused. */
  quiet: duration.default(86_400_000),
  /** So long it stays, switched off where that can be taken back. */
  grace: duration.default(86_400_000),
});

/** By provider, or PROVIDER/NAME of one of several credentials. */
export const rotationRows = z.record(
  z.string().regex(/^[a-z0-9][a-z0-9.-]*(\/[a-z0-9][a-z0-9-]*)?$/, "a provider, or PROVIDER/NAME of a credential"),
  row,
);
export type RotationRows = z.output<typeof rotationRows>;

export type RotationSettings = {
  /** As the books call it. */
  readonly place: string;
  readonly provider: ProviderFacts;
  readonly secret: HeldSecret;
  readonly maker: Maker;
  readonly keyId: string | undefined;
  readonly everyMs: number | undefined;
  readonly quietMs: number;
  readonly graceMs: number;
};

const BEARER = { list: "/v1/models", headers: (key: string) => ({ authorization: `Bearer ${key}` }) };

/** Reads them all. What is wrong goes into the problems, and is left out. */
export function readRotations(rows: RotationRows, providers: Providers, reading: Reading): readonly RotationSettings[] {
  const read = Object.entries(rows).flatMap(([name, given]) => readOne(name, given, providers, reading) ?? []);
  for (const [i, one] of read.entries()) {
    const other = read.slice(0, i).find(({ place }) => place === one.place);
    if (other) reading.problems.push(`collector.rotation: ${one.place} is there twice, by two names of its provider`);
    const { scheme, path } = one.secret.reference;
    const shares = read.slice(0, i).find(({ secret: { reference } }) => {
      const isSame = reference.scheme === scheme && reference.path === path;
      // Vault's fields are written one by one; elsewhere the whole is written.
      return isSame && (scheme !== "vault" || reference.field === one.secret.reference.field);
    });
    if (shares && !other)
      reading.problems.push(
        `collector.rotation: ${shares.place} and ${one.place} are in the same secret (${path}): give each one of its own`,
      );
  }
  return read;
}

function readOne(
  name: string,
  given: RotationRows[string],
  providers: Providers,
  reading: Reading,
): RotationSettings | undefined {
  const at = `collector.rotation.${name}`;
  const problems: string[] = [];
  const [called = "", credential = ""] = name.split("/");
  const provider = providers.find(providers.bookedName(called));
  if (!provider) problems.push(`${at}: there is no provider ${called}; name one under proxy.upstreams first`);
  const kind = given.maker ?? NAMES.find((one) => one === provider?.name) ?? "hand";
  const { make, needs, url: usual, adminUrl }: MakerKind = MAKERS[kind];
  const url = given.url ?? usual ?? HAND_URLS[provider?.name ?? ""];
  for (const need of needs)
    if ((need === "url" ? url : given[need]) === undefined) problems.push(`${at}.${need}: maker ${kind} needs it`);
  for (const part of ["project", "service_account", "team"] as const)
    if (given[part] !== undefined && !(needs as readonly string[]).includes(part))
      problems.push(`${at}.${part}: maker ${kind} has no use for it`);
  const secret = secretOf({ place: `${at}.secret`, schema: secretText }, given.secret, reading);
  if (!(secret instanceof HeldSecret))
    problems.push(`${at}.secret: say where proxies read the key (vault:..., aws-sm:..., file:...), not the key itself`);
  else if (!WRITTEN.has(secret.reference.scheme))
    problems.push(`${at}.secret: Keymeter writes to vault:, aws-sm: and file:, not to ${secret.reference.scheme}:`);
  const adminKey =
    given.admin_key === undefined
      ? undefined
      : secretOf({ place: `${at}.admin_key`, schema: secretText }, given.admin_key, reading);
  reading.problems.push(...problems);
  if (problems.length > 0 || !provider || url === undefined || !(secret instanceof HeldSecret)) return undefined;
  const { key_id: keyId, every: everyMs, quiet: quietMs, grace: graceMs } = given;
  const maker = make({
    adminKey: () => adminKey?.reveal() ?? "",
    adminUrl: new URL(given.admin_url ?? adminUrl ?? url),
    url: new URL(url),
    project: given.project ?? "",
    serviceAccount: given.service_account ?? "",
    team: given.team ?? "",
    probe: provider.probe ?? BEARER,
  });
  const place = placeOfCredential(provider.name, credential);
  return { place, provider, secret, maker, keyId, everyMs, quietMs, graceMs };
}

const WRITTEN: ReadonlySet<string> = new Set(["vault", "aws-sm", "file"]);
const HAND_URLS: { readonly [provider: string]: string } = {
  "gcp.gemini": "https://generativelanguage.googleapis.com",
};
