// The chart, rendered as helm does it: by helm's own SDK, which PyPI has.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";

const PYTHON = fileURLToPath(new URL("../servers/venv/bin/python", import.meta.url));
const RENDER = fileURLToPath(new URL("../servers/render-chart.py", import.meta.url));
export const CHART = fileURLToPath(new URL("../../deploy/chart", import.meta.url));
const VALIDATE = fileURLToPath(new URL("../servers/venv/bin/kubernetes-validate", import.meta.url));

export const HAS_HELM =
  existsSync(VALIDATE) && spawnSync(PYTHON, ["-c", "import helm_python"], { stdio: "ignore" }).status === 0;

// What a manifest holds is looked at by the tests.
// oxlint-disable-next-line typescript/no-explicit-any -- a document of Kubernetes, whose schemas are elsewhere
export type Manifest = any;

/** The manifests of some values, as text, and parsed. Throws an Error with helm's words. */
export function renderChart(values: object): { readonly text: string; readonly manifests: readonly Manifest[] } {
  const { stdout } = spawnSync(PYTHON, [RENDER, CHART, JSON.stringify(values)], {
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  const { error, lint, files } = JSON.parse(stdout) as {
    error?: string;
    lint: string[];
    files: { [name: string]: string };
  };
  if (error !== undefined) throw new Error(error);
  if (lint.length > 0) throw new Error(lint.join("\n"));
  const text = Object.entries(files)
    .filter(([name, one]) => !name.endsWith("NOTES.txt") && /\S/.test(one))
    .toSorted(([a], [b]) => a.localeCompare(b))
    .map(([, one]) =>
      one
        .trim()
        .replace(/^---\n/, "")
        .replace(/\n---$/, ""),
    )
    .join("\n---\n");
  const manifests = parseAllDocuments(text).map((one) => one.toJS());
  return { text: `${text}\n`, manifests: manifests.filter((one) => one !== null) };
}

/** What Kubernetes' own schemas say of a file; undefined: nothing is wrong. */
export function findSchemaFault(file: string, version: string): string | undefined {
  const done = spawnSync(VALIDATE, ["--strict", "-k", version, file], { encoding: "utf8" });
  return done.status === 0 ? undefined : `${done.stdout}${done.stderr}`;
}
