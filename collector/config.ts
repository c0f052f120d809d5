// Settings of the collector. The only reader of process.env here.
import { z } from "zod";
import { SHARED_SETTINGS } from "../service/config.ts";
import type { SharedConfig } from "../service/config.ts";
import { Secret } from "../service/secret.ts";
import { readSettings, SettingsError } from "../service/settings.ts";
import type { Environment, Settings } from "../service/settings.ts";

export type CollectorConfig = SharedConfig & {
  /** Reads OpenAI's bill; undefined: no importer. */
  readonly openaiAdminKey: Secret | undefined;
  readonly openaiBillingUrl: string;
  /** How often bills are read, as a cron expression. */
  readonly reconcileCron: string;
  /** How many past days are read again each time: bills are revised. */
  readonly reconcileDays: number;
  /** Where a newer price list is fetched from every day; undefined: only when told to, from the list's own place. */
  readonly priceListUrl: string | undefined;
};

type Raw = SharedConfig & {
  openaiAdminKey: string | undefined;
  openaiBillingUrl: string;
  reconcileCron: string;
  reconcileDays: number;
  priceListUrl: string | undefined;
};

export const COLLECTOR_SETTINGS: Settings<Raw> = {
  ...SHARED_SETTINGS,
  openaiAdminKey: {
    place: "collector.openai_admin_key",
    env: "OPENAI_ADMIN_KEY",
    schema: z.string().min(1),
    fallback: undefined,
  },
  openaiBillingUrl: {
    place: "collector.openai_billing_url",
    env: "KEYMETER_OPENAI_BILLING_URL",
    schema: z.url(),
    fallback: "https://api.openai.com/v1",
  },
  reconcileCron: {
    place: "collector.reconcile_cron",
    env: "KEYMETER_RECONCILE_CRON",
    schema: z.string().regex(/^(\S+\s+){4,5}\S+$/, "a cron expression of five or six fields"),
    fallback: "17 */3 * * *",
  },
  reconcileDays: {
    place: "collector.reconcile_days",
    env: "KEYMETER_RECONCILE_DAYS",
    schema: z.coerce.number().int().min(1).max(60),
    fallback: 4,
  },
  priceListUrl: {
    place: "collector.price_list_url",
    env: "KEYMETER_PRICE_LIST_URL",
    schema: z.url({ protocol: /^https?$/ }),
    fallback: undefined,
  },
};

/** Reads and checks everything; throws a SettingsError that names every problem. */
export function loadCollectorConfig(environment: Environment = process.env): CollectorConfig {
  const problems: string[] = [];
  const { openaiAdminKey, ...rest } = readSettings(COLLECTOR_SETTINGS, "collector", environment, problems);
  if (problems.length > 0) throw new SettingsError(problems);
  return Object.freeze({
    ...rest,
    openaiAdminKey: openaiAdminKey === undefined ? undefined : new Secret(openaiAdminKey),
  });
}
