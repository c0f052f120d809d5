// Clients that only some stores need: optional packages, loaded when a reference needs them.
import { loadPackage as load, PackageMissing } from "../package.ts";
import { StoreError } from "./store.ts";

/** What a package exports. Rejects with a StoreError that says how it is installed where it is not. */
export async function loadPackage<T>(name: string, work: () => Promise<T>): Promise<T> {
  try {
    return await load(name, work);
  } catch (error) {
    if (error instanceof PackageMissing) throw new StoreError("away", error.message);
    const { code } = (error ?? {}) as { readonly code?: unknown };
    throw new StoreError("away", `the package ${name} does not load (${String(code)})`);
  }
}
