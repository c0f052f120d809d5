// Packages that only some need: loaded when they are needed. A clone has them; the package of npm leaves them to whoever
// needs them.

/** A package that is not installed: the message says which, and how it is. */
export class PackageMissing extends Error {
  override readonly name = "PackageMissing";
}

/** What a package exports, or a module that stands on it. Rejects with PackageMissing where it is not installed. */
export async function loadPackage<T>(name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    const { code, message = "" } = (error ?? {}) as { readonly code?: unknown; readonly message?: string };
    if (code !== "ERR_MODULE_NOT_FOUND" || !message.includes(`'${name}'`)) throw error;
    throw new PackageMissing(
      `it needs the package ${name}, which is not installed: npm install --no-save ${name}, where Keymeter is`,
      { cause: error },
    );
  }
}
