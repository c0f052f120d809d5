// npm run sbom: what a release is made of, as CycloneDX: every package of the production tree, by cyclonedx-npm; and the hash of each,
// which the lock file has and that tool leaves out where the lock names no registry.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const TOOL = join(ROOT, "node_modules", ".bin", "cyclonedx-npm");
const PATH = "cdx:npm:package:path";

type Component = {
  readonly "bom-ref": string;
  readonly name: string;
  readonly version?: string;
  readonly properties?: readonly { readonly name: string; readonly value: string }[];
  hashes?: readonly { readonly alg: string; readonly content: string }[];
};
type Dependency = { readonly ref: string; readonly dependsOn?: readonly string[] };
type Bom = {
  readonly metadata: { readonly component: Component };
  readonly components: readonly Component[];
  readonly dependencies: readonly Dependency[];
};
type Locked = { readonly integrity?: string; readonly dev?: boolean; readonly devOptional?: boolean };
type Lock = { readonly packages: { readonly [path: string]: Locked } };

const { packages } = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as Lock;
const pathOf = ({ properties }: Component): string => properties?.find(({ name }) => name === PATH)?.value ?? "";

// All of them, for what the tool leaves out as development only is not what the lock file says is.
const words = [
  "--package-lock-only",
  "--flatten-components",
  "--output-format",
  "JSON",
  "--output-reproducible",
  "--validate",
];
const bom = JSON.parse(execFileSync(TOOL, words, { cwd: ROOT, encoding: "utf8", maxBuffer: 64 * 1024 * 1024 })) as Bom;
const components = bom.components.filter((component) => {
  const { dev, devOptional } = packages[pathOf(component)] ?? {};
  return !dev && !devOptional;
});
for (const component of components) {
  const [algorithm = "", digest = ""] = packages[pathOf(component)]?.integrity?.split("-") ?? [];
  if (algorithm !== "sha512")
    throw new Error(
      `${component.name} has no sha512 in the lock file: make it anew with npm install --package-lock-only`,
    );
  component.hashes = [{ alg: "SHA-512", content: Buffer.from(digest, "base64").toString("hex") }];
}
const refs = new Set([...components, bom.metadata.component].map((one) => one["bom-ref"]));
const dependencies = bom.dependencies
  .filter(({ ref }) => refs.has(ref))
  .map(({ ref, dependsOn = [] }) => ({ ref, dependsOn: dependsOn.filter((one) => refs.has(one)) }));
const file = `keymeter-${bom.metadata.component.version ?? ""}.cdx.json`;
writeFileSync(
  join(process.argv[2] ?? ROOT, file),
  `${JSON.stringify({ ...bom, components, dependencies }, null, 2)}\n`,
);
process.stdout.write(`${file}: ${components.length} packages\n`);
