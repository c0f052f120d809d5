// All importers whose source is configured. The others are not loaded: the SDKs are large.
import type { Log } from "../../service/log.ts";
import { loadPackage, PackageMissing } from "../../service/package.ts";
import type { CollectorConfig } from "../config.ts";
import type { Importer } from "./importer.ts";

/** One whose package is not installed is left out, and said. */
export async function createImporters(config: CollectorConfig, log: Pick<Log, "error">): Promise<Importer[]> {
  const importers: Importer[] = [];
  const add = async (name: string, load: () => Promise<Importer>): Promise<void> => {
    try {
      importers.push(await loadPackage(name, load));
    } catch (error) {
      if (!(error instanceof PackageMissing)) throw error;
      log.error(`a bill is not read: ${error.message}`);
    }
  };
  const { openaiAdminKey, openaiBillingUrl, anthropicAdminKey, anthropicBillingUrl, google } = config;
  if (openaiAdminKey)
    await add("openai", async () =>
      (await import("./openai.ts")).openaiImporter({ adminKey: openaiAdminKey, baseUrl: openaiBillingUrl }),
    );
  if (anthropicAdminKey)
    await add("@anthropic-ai/sdk", async () =>
      (await import("./anthropic.ts")).anthropicImporter({ adminKey: anthropicAdminKey, baseUrl: anthropicBillingUrl }),
    );
  if (google) importers.push((await import("./google.ts")).googleImporter(google));
  return importers;
}
