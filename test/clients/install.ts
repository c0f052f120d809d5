// Installs the real clients: programs of npm, and Python's in folders of their own. Several gigabytes; `npm run proof`
// calls it.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));

function run(command: string, args: readonly string[], folder = here): boolean {
  const { status } = spawnSync(command, args, { cwd: folder, stdio: "inherit" });
  if (status !== 0) process.stderr.write(`${command} ${args.join(" ")} failed: its clients will be skipped\n`);
  return status === 0;
}

run("npm", ["ci"]);
run("npm", ["ci"], `${here}promptfoo`);
for (const [venv, requirements] of [
  ["libraries", "requirements.txt"],
  ["aider", "requirements-aider.txt"],
  ["gptme", "requirements-gptme.txt"],
] as const) {
  const folder = `venv/${venv}`;
  if (existsSync(`${here}${folder}`) || run("python3", ["-m", "venv", folder]))
    run(`${folder}/bin/pip`, ["install", "-q", "-r", requirements]);
}
