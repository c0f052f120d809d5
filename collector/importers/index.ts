// All importers whose source is configured.
import type { CollectorConfig } from "../config.ts";
import { anthropicImporter } from "./anthropic.ts";
import { googleImporter } from "./google.ts";
import type { Importer } from "./importer.ts";
import { openaiImporter } from "./openai.ts";

export function createImporters(config: CollectorConfig): Importer[] {
  return [
    ...(config.openaiAdminKey
      ? [openaiImporter({ adminKey: config.openaiAdminKey, baseUrl: config.openaiBillingUrl })]
      : []),
    ...(config.anthropicAdminKey
      ? [anthropicImporter({ adminKey: config.anthropicAdminKey, baseUrl: config.anthropicBillingUrl })]
      : []),
    ...(config.google ? [googleImporter(config.google)] : []),
  ];
}
