// Looks whether the files that are made from the declarations of settings are what these make. With --write it writes
// them.
import { readFileSync, writeFileSync } from "node:fs";
import { settingsPages } from "./settings-pages.ts";

const isWrite = process.argv.includes("--write");

for (const [path, made] of Object.entries(settingsPages())) {
  const file = new URL(`../${path}`, import.meta.url);
  if (isWrite) writeFileSync(file, made);
  else if (readFileSync(file, "utf8") !== made) {
    process.stderr.write(`${path} is not what the settings make: run npm run settings\n`);
    process.exitCode = 1;
  }
}
