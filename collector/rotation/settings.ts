// What settings say of rotations: of which credential, where proxies read it, who makes a new one, and how patiently the old
// one goes.
import { z } from "zod";
import { BUILT_IN } from "../../ledger/providers.ts";
import type { ProviderFacts, Providers } from "../../ledger/providers.ts";
import { placeOfCredential } from "../../ledger/usage/credentials.ts";
import { webUrl } from "../../service/config.ts";
import { HeldSecret } from "../../service/secrets/index.ts";
import { isWritten, WRITTEN_PLACES } from "../../service/secrets/target.ts";
import type { Scheme } from "../../service/secrets/reference.ts";
import { secretOf, secretText } from "../../service/settings.ts";
import type { Reading } from "../../service/settings.ts";
import { duration, interval } from "./duration.ts";
import type { Maker, MakerSettings } from "./maker.ts";
import { googleFaultOf, hintOfServiceAccountKey, serviceAccountKey } from "../../service/google-credentials.ts";
import { anthropicMaker } from "./makers/anthropic.ts";
import { azureMaker } from "./makers/azure.ts";
import { bedrockMaker } from "./makers/bedrock.ts";
import { byHand } from "./makers/hand.ts";
import { openaiMaker } from "./makers/openai.ts";
import { openrouterMaker } from "./makers/openrouter.ts";
import { vertexMaker } from "./makers/vertex.ts";
import { xaiMaker } from "./makers/xai.ts";

type MakerKind = {
  readonly make: (settings: MakerSettings) => Maker;
  readonly needs: readonly (Part | "admin_key" | "url")[];
  /** What may be left out. */
  readonly takes?: readonly Part[];
  readonly url?: string;
  readonly adminUrl?: string;
  /** Where the machine itself may be signed in: the word of that cloud's store. */
  readonly cloud?: Scheme;
  /** What is wrong with a text as a key; undefined: nothing. Absent: any text may be one. */
  readonly faultOf?: (text: string) => string | undefined;
  /** What people know a key by; absent: its last characters. */
  readonly hintOf?: (value: string) => string;
};
/** Settings that only some makers have a use for. */
type Part = (typeof PARTS)[number];
const PARTS = ["project", "service_account", "team", "user", "tenant", "authority", "resource", "admin_id"] as const;

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
  vertex: {
    make: vertexMaker,
    needs: [],
    cloud: "gcp-sm",
    url: "https://aiplatform.googleapis.com",
    adminUrl: "https://iam.googleapis.com",
    faultOf: googleFaultOf,
    hintOf: (value) => hintOfServiceAccountKey(serviceAccountKey(value) ?? { id: "" }),
  },
  bedrock: {
    make: bedrockMaker,
    needs: ["user", "url"],
    takes: ["admin_id"],
    cloud: "aws-sm",
    adminUrl: "https://iam.amazonaws.com",
  },
  azure: {
    make: azureMaker,
    needs: ["resource", "url"],
    takes: ["admin_id", "tenant", "authority"],
    cloud: "azure-kv",
    adminUrl: "https://management.azure.com",
  },
  hand: { make: byHand, needs: ["url"] },
} as const satisfies { readonly [name: string]: MakerKind };
export type MakerName = keyof typeof MAKERS;
const NAMES = Object.keys(MAKERS) as readonly MakerName[];

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
  user: z
    .string()
    .regex(/^[\w+=,.@-]{1,64}$/, "an IAM user's name")
    .optional(),
  tenant: z.string().min(1).optional(),
  authority: webUrl.optional(),
  resource: z
    .string()
    .regex(
      /^\/subscriptions\/[\w-]+\/resourceGroups\/[^/?#]+\/providers\/Microsoft\.CognitiveServices\/accounts\/[\w-]+$/i,
      "/subscriptions/ID/resourceGroups/NAME/providers/Microsoft.CognitiveServices/accounts/NAME",
    )
    .optional(),
  /** Whose the admin key is. */
  admin_id: z.string().min(1).optional(),
  /** The current key, as the provider calls it, where that cannot be told. */
  key_id: z.string().min(1).optional(),
  every: interval.optional(),
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
  readonly faultOf: ((text: string) => string | undefined) | undefined;
  readonly hintOf: (value: string) => string;
  readonly keyId: string | undefined;
  readonly everyMs: number | undefined;
  readonly quietMs: number;
  readonly graceMs: number;
};

const BEARER = { list: "/v1/models", headers: (key: string) => ({ authorization: `Bearer ${key}` }) };

/** Reads them all. What is wrong goes into the problems, and is left out. */
export function readRotations(rows: RotationRows, providers: Providers, reading: Reading): readonly RotationSettings[] {
  for (const part of ["user", "resource"] as const)
    for (const [of, names] of Map.groupBy(Object.keys(rows), (name) => rows[name]?.[part]))
      if (of !== undefined && names.length > 1)
        reading.problems.push(
          `collector.rotation: ${names.join(" and ")} are of the same ${part} (${of}), whose keys they would take from each other: leave one row`,
        );
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
  const kind = makerOf(name, given);
  const { make, needs, takes = [], url: usual, adminUrl, faultOf, hintOf = lastOf }: MakerKind = MAKERS[kind];
  const url = given.url ?? usual ?? HAND_URLS[provider?.name ?? ""];
  for (const need of needs)
    if ((need === "url" ? url : given[need]) === undefined) problems.push(`${at}.${need}: maker ${kind} needs it`);
  for (const part of PARTS)
    if (given[part] !== undefined && !needs.includes(part) && !takes.includes(part))
      problems.push(`${at}.${part}: maker ${kind} has no use for it`);
  // Whoever names neither has what this machine is.
  if (takes.includes("admin_id") && (given.admin_id === undefined) !== (given.admin_key === undefined))
    problems.push(`${at}: admin_id and admin_key belong together; without both, what this machine is signs in`);
  if (takes.includes("tenant") && (given.admin_id === undefined) !== (given.tenant === undefined))
    problems.push(`${at}: tenant and admin_id belong together`);
  const secret = secretOf({ place: `${at}.secret`, schema: secretText }, given.secret, reading);
  if (!(secret instanceof HeldSecret))
    problems.push(`${at}.secret: say where proxies read the key (vault:..., aws-sm:..., file:...), not the key itself`);
  else if (!isWritten(secret.reference)) problems.push(`${at}.secret: ${WRITTEN_PLACES}, not ${secret.reference.text}`);
  const adminKey =
    given.admin_key === undefined
      ? undefined
      : secretOf({ place: `${at}.admin_key`, schema: secretText }, given.admin_key, reading);
  // The file itself would stand in the settings, or its path would be taken for it.
  if (kind === "vertex" && adminKey && !(adminKey instanceof HeldSecret))
    problems.push(
      `${at}.admin_key: write a reference to a service account's key file, such as file:/etc/keymeter/admin.json`,
    );
  if (faultOf) for (const one of [secret, adminKey]) if (one instanceof HeldSecret) one.require(faultOf);
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
    user: given.user ?? "",
    tenant: given.tenant ?? "",
    authority: given.authority ?? "",
    resource: given.resource ?? "",
    adminId: given.admin_id ?? "",
    probe: provider.probe ?? BEARER,
  });
  const place = placeOfCredential(provider.name, credential);
  return { place, provider, secret, maker, faultOf, hintOf, keyId, everyMs, quietMs, graceMs };
}

/** Who makes the keys of a row: as it says, else the maker of the provider's name or alias, else somebody's hand. */
function makerOf(name: string, { maker }: Pick<RotationRows[string], "maker">): MakerName {
  const [called = ""] = name.split("/");
  const { name: booked = called, aliases = [] } = BUILT_IN.find(BUILT_IN.bookedName(called)) ?? {};
  return maker ?? NAMES.find((one) => one === booked || aliases.includes(one)) ?? "hand";
}

/** The cloud that a row's maker signs in to as what the machine is, by the word of its store; undefined: none. */
export function cloudOf(name: string, row: RotationRows[string]): Scheme | undefined {
  const { cloud }: MakerKind = MAKERS[makerOf(name, row)];
  return row.admin_key === undefined ? cloud : undefined;
}

function lastOf(value: string): string {
  return value.slice(-4);
}

const HAND_URLS: { readonly [provider: string]: string } = {
  "gcp.gemini": "https://generativelanguage.googleapis.com",
};
