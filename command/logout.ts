// keymeter logout: see login.ts.
export { logout as run, USAGE } from "./login.ts";
