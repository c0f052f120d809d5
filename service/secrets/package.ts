// Clients that only some stores need: optional packages, loaded when a reference needs them.
import { StoreError } from "./store.ts";

/** What a package exports. Rejects with a StoreError that says how it is installed where it is not. */
export async function loadPackage<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    const code = (error as { readonly code?: unknown } | null)?.code;
    if (code !== "ERR_MODULE_NOT_FOUND")
      throw new StoreError("away", `the package ${name} does not load (${String(code)})`);
    throw new StoreError(
      "away",
      `it needs the package ${name}, which is not installed: npm install --no-save ${name}, where Keymeter is`,
    );
  }
}
