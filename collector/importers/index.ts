// All importers whose source is configured.
import type { CollectorConfig } from "../config.ts";
import type { Importer } from "./importer.ts";
import { openaiImporter } from "./openai.ts";

export function createImporters(config: CollectorConfig): Importer[] {
  return config.openaiAdminKey
    ? [openaiImporter({ adminKey: config.openaiAdminKey, baseUrl: config.openaiBillingUrl })]
    : [];
}
