// keymeter disconnect CLIENT
export { disconnect as run, USAGE } from "./connect.ts";
