// Makes the package of npm (`npm run package [-- FOLDER]`): JavaScript of all programs under dist/, with a package.json of its own,
// packed by npm. Not by `npm pack` alone: scripts of packages are switched off here (.npmrc), ours with them.
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const DIST = join(ROOT, "dist");
const MANIFEST = join(ROOT, "package.json");
const KEPT = join(ROOT, "package.json.kept");
const FOLDERS = ["alerts", "charts", "collector", "command", "dashboards", "ledger", "proxy", "service"];
/** What programs read beside their code is left out of none of these. */
const NO_ASSET = /\.ts$|(?:^|\/)README\.md$|\/screenshots\/|\/example\.png$/;

const NPM = process.platform === "win32" ? "npm.cmd" : "npm";
/** The oldest Node that the package runs on; a clone brings its own. */
const ENGINE = ">=24.14";

type Manifest = {
  readonly name: string;
  readonly version: string;
  /** Loaded when they are needed, with a sentence where they are not installed: SDKs that read bills, and what draws pictures. */
  readonly optionalWhenPacked: readonly string[];
  readonly dependencies: { readonly [name: string]: string };
  readonly peerDependencies: { readonly [name: string]: string };
  readonly peerDependenciesMeta: { readonly [name: string]: { readonly optional: boolean } };
  readonly [field: string]: unknown;
};

const [destination = ROOT] = process.argv.slice(2);
build();
try {
  copyFileSync(MANIFEST, KEPT);
  writeFileSync(MANIFEST, `${JSON.stringify(manifestOf(readManifest()), null, 2)}\n`);
  execFileSync(NPM, ["pack", "--ignore-scripts", "--loglevel=error", "--pack-destination", destination], {
    cwd: ROOT,
    stdio: "inherit",
  });
} finally {
  restore();
}

function build(): void {
  // After a pack that was broken off.
  restore();
  rmSync(DIST, { recursive: true, force: true });
  execFileSync(process.execPath, [join(ROOT, "node_modules", ".bin", "tsc"), "-p", "tsconfig.package.json"], {
    cwd: ROOT,
    stdio: "inherit",
  });
  for (const file of filesIn(DIST)) if (file.endsWith(".js")) writeFileSync(file, ofJavaScript(file));
  for (const file of FOLDERS.flatMap((folder) => filesIn(join(ROOT, folder)))) {
    const name = relative(ROOT, file);
    if (NO_ASSET.test(name)) continue;
    mkdirSync(dirname(join(DIST, name)), { recursive: true });
    copyFileSync(file, join(DIST, name));
  }
  const { name, version } = readManifest();
  writeFileSync(join(DIST, "package.json"), `${JSON.stringify({ name, version, type: "module" }, null, 2)}\n`);
}

function readManifest(): Manifest {
  return JSON.parse(readFileSync(MANIFEST, "utf8")) as Manifest;
}

function restore(): void {
  if (!existsSync(KEPT)) return;
  copyFileSync(KEPT, MANIFEST);
  rmSync(KEPT);
}

/** Modules that are named by a URL have another ending too. Throws an Error where one is named in another way. */
function ofJavaScript(file: string): string {
  const text = readFileSync(file, "utf8").replace(/(new URL\("[^"]+)\.ts(", import\.meta\.url\))/g, "$1.js$2");
  const left = /["'`/][\w./-]+\.ts["'`]/.exec(text);
  if (left) throw new Error(`${relative(ROOT, file)} names ${left[0]}, which the package does not have`);
  return text;
}

function manifestOf(manifest: Manifest): object {
  const { dependencies, optionalWhenPacked, peerDependencies, peerDependenciesMeta, ...rest } = manifest;
  const { scripts: _scripts, devDependencies: _dev, optionalDependencies: _node, ...kept } = rest;
  const isOptional = ([name]: readonly [string, string]): boolean => optionalWhenPacked.includes(name);
  const optional = Object.entries(dependencies).filter(isOptional);
  return {
    ...kept,
    engines: { node: ENGINE },
    dependencies: Object.fromEntries(Object.entries(dependencies).filter((one) => !isOptional(one))),
    peerDependencies: { ...Object.fromEntries(optional), ...peerDependencies },
    peerDependenciesMeta: {
      ...Object.fromEntries(optional.map(([name]) => [name, { optional: true }])),
      ...peerDependenciesMeta,
    },
  };
}

function filesIn(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name));
}
