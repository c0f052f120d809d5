// All importers whose source is configured. The others are not loaded: the SDKs are large.
import type { CollectorConfig } from "../config.ts";
import type { Importer } from "./importer.ts";

export async function createImporters(config: CollectorConfig): Promise<Importer[]> {
  const importers: Importer[] = [];
  if (config.openaiAdminKey) {
    const { openaiImporter } = await import("./openai.ts");
    importers.push(openaiImporter({ adminKey: config.openaiAdminKey, baseUrl: config.openaiBillingUrl }));
  }
  if (config.anthropicAdminKey) {
    const { anthropicImporter } = await import("./anthropic.ts");
    importers.push(anthropicImporter({ adminKey: config.anthropicAdminKey, baseUrl: config.anthropicBillingUrl }));
  }
  if (config.google) {
    const { googleImporter } = await import("./google.ts");
    importers.push(googleImporter(config.google));
  }
  return importers;
}
