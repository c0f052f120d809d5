// The file that Node runs for `keymeter`.
import { fileURLToPath } from "node:url";

export const ENTRY = fileURLToPath(new URL("../keymeter.ts", import.meta.url));
