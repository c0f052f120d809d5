// What makes a release: a workflow that publishes where it was tested, with provenance.
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { parse } from "yaml";
import { temporaryFolder } from "../start-proxy.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

it("the workflow tests, packs and publishes with provenance, and may write nothing else", () => {
  const workflow = parse(read(".github/workflows/release.yml")) as {
    permissions: object;
    jobs: { release: { permissions: object; steps: readonly { run?: string; uses?: string }[] } };
  };
  expect(workflow.permissions).toEqual({});
  const { permissions, steps } = workflow.jobs.release;
  expect(permissions).toEqual({ contents: "read", "id-token": "write" });
  const { scripts } = JSON.parse(read("package.json")) as { scripts: { [name: string]: string } };
  const runs = steps.flatMap(({ run }) => run ?? []);
  const order = [".ci/run", "npm run --silent package", "npm run --silent sbom", "npm publish"].map((word) =>
    runs.findIndex((run) => run.startsWith(word)),
  );
  expect(order).toEqual(order.toSorted((a, b) => a - b));
  expect(order).not.toContain(-1);
  for (const run of runs) {
    const [, script] = /^npm run --silent ([\w:]+)/.exec(run) ?? [];
    if (script !== undefined) expect(scripts).toHaveProperty(script);
  }
  expect(runs.join("\n")).toContain("--provenance");
});

it("the list of what a release is made of has each package of the production tree, with licence and hash", () => {
  const folder = temporaryFolder();
  execFileSync(process.execPath, [join(ROOT, "command/build-sbom.ts"), folder], { stdio: "pipe" });
  const [file = ""] = readdirSync(folder);
  const bom = JSON.parse(readFileSync(join(folder, file), "utf8")) as {
    bomFormat: string;
    components: readonly {
      group?: string;
      name: string;
      version: string;
      licenses: object[];
      hashes: { content: string }[];
    }[];
  };
  const { packages } = JSON.parse(read("package-lock.json")) as {
    packages: {
      [path: string]: { name?: string; version: string; integrity: string; dev?: boolean; devOptional?: boolean };
    };
  };
  const locked = Object.entries(packages).flatMap(([path, { name, version, integrity, dev, devOptional }]) => {
    if (path === "" || dev || devOptional) return [];
    const hash = Buffer.from(integrity.replace("sha512-", ""), "base64").toString("hex");
    // One that stands under another name says so.
    return [`${name ?? path.split("node_modules/").at(-1)}@${version} ${hash}`];
  });
  const named = bom.components.map(({ group, name, version, hashes }) => {
    const whole = group === undefined ? name : `${group}/${name}`;
    return `${whole}@${version} ${hashes[0]?.content}`;
  });
  expect([bom.bomFormat, named.toSorted()]).toEqual(["CycloneDX", locked.toSorted()]);
  expect(locked.length).toBeGreaterThan(200);
  expect(bom.components.filter(({ licenses }) => (licenses ?? []).length === 0)).toEqual([]);
});
