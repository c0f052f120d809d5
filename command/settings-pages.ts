// Settings as people read them, made from their declarations: keymeter.example.yaml, docs/settings.md, and what --help
// of a program says.
import { stringify } from "yaml";
import { groupsIn, settingsIn } from "../service/settings.ts";
import type { Setting } from "../service/settings.ts";
import { DECLARED, PROGRAMS } from "./settings.ts";
import type { Program } from "./settings.ts";
import { formatTable } from "./table.ts";

/** The files that are made, by their path in the repository. */
export function settingsPages(): { readonly [path: string]: string } {
  return { "keymeter.example.yaml": exampleFile(), "docs/settings.md": manualPage() };
}

/** The settings of a program's own part of the file, for its --help. */
export function settingsHelp(program: Program): string {
  const rows = settingsOf(program).map((one) => [one.place, one.env ?? "", shown(one), one.says]);
  return `Settings, in keymeter.yaml or the environment (docs/settings.md has those of all programs too):
${formatTable(["setting", "variable", "default", "what it does"], rows)}`;
}

/** Parts of the file: what all programs share, and each program's own. */
const SHARED = "";
const PARTS = [SHARED, ...PROGRAMS] as const;

/** Every setting once, in the order of the declarations. */
const ALL: readonly Setting[] = [
  ...new Set(PROGRAMS.flatMap((program) => Object.values(settingsIn(DECLARED[program])))),
];
const GROUPS: { readonly [place: string]: string } = Object.assign(
  {},
  ...PROGRAMS.map((program) => groupsIn(DECLARED[program])),
);

function settingsOf(part: (typeof PARTS)[number]): Setting[] {
  const partOf = ({ place }: Setting): string => PROGRAMS.find((program) => place.startsWith(`${program}.`)) ?? SHARED;
  return ALL.filter((one) => partOf(one) === part);
}

const EXAMPLE_HEAD = `# Every setting of Keymeter, with its default. Copy to keymeter.yaml and keep what you change; nothing here is needed.
# The environment variable behind each setting wins over this file. Money is USD, prices are USD per million tokens.
# This file is made by \`npm run settings\`, from where settings are declared.
`;
/** Where remarks begin, unless what stands before is longer. */
const REMARKS_AT = 32;

function exampleFile(): string {
  return [EXAMPLE_HEAD, ...PARTS.map((part) => `${exampleLines(settingsOf(part)).join("\n")}\n`)].join("\n");
}

/** Settings as commented YAML. Those of one map stand together in the declarations' order. */
function exampleLines(settings: readonly Setting[], prefix = ""): string[] {
  const indent = "  ".repeat(prefix.split(".").length - 1);
  const line = (text: string, remark: string): string =>
    `# ${indent}${text}`.padEnd(remark === "" ? 0 : REMARKS_AT - 1) + (remark === "" ? "" : ` # ${remark}`);
  const byKey = Map.groupBy(settings, ({ place }) => place.slice(prefix.length).split(".")[0] ?? "");
  return [...byKey].flatMap(([key, under]) => {
    const [only] = under;
    if (!only || only.place !== prefix + key)
      return [line(`${key}:`, GROUPS[prefix + key] ?? ""), ...exampleLines(under, `${prefix}${key}.`)];
    const remark = [only.env, only.says].filter((part) => part !== undefined).join("; ");
    const { example } = only;
    return typeof example === "object"
      ? [line(`${key}:`, remark), ...example.map((entry) => line(...parted(`  ${entry}`)))]
      : [line(`${key}: ${example ?? yaml(only.fallback ?? "")}`, remark)];
  });
}

/** An entry, and the remark behind it. */
function parted(entry: string): [text: string, remark: string] {
  const [text = "", remark = ""] = entry.split(" # ");
  return [text, remark];
}

const MANUAL_HEAD = `# Settings

None is needed. What you change stands in \`keymeter.yaml\` (another file: \`KEYMETER_CONFIG\`) or in the environment, which wins; an empty variable is as good
as none. [keymeter.example.yaml](../keymeter.example.yaml) is all of them as a file to begin with. Wrong ones are named at start, all in one message; a misspelt
variable is said.

\`keymeter up\` gives each program only the variables that it reads: the last column. The command reads what all programs share, the admin token and the pepper. A
variable that is no setting, such as the key of an upstream that \`api_key_env\` names, goes to the proxy alone.

This page is made by \`npm run settings\`, from where settings are declared.
`;
const TITLES: { readonly [part in (typeof PARTS)[number]]: string } = {
  [SHARED]: "Of all programs",
  proxy: "Proxy",
  collector: "Collector",
  alerts: "Alerts",
};

function manualPage(): string {
  const parts = PARTS.map((part) => {
    const settings = settingsOf(part);
    const rows = settings.map((one) => [
      `\`${one.place}\``,
      one.env === undefined ? "" : `\`${one.env}\``,
      shown(one) === "" ? "" : `\`${shown(one)}\``,
      one.says,
      readersOf(one),
    ]);
    const forms = settings.flatMap(({ place, example }) =>
      typeof example === "object" ? [`\n\`${place}\`:\n\n\`\`\`yaml\n${nested(place, example)}\n\`\`\`\n`] : [],
    );
    return `\n## ${TITLES[part]}\n\n${markdownTable(["setting", "variable", "default", "what it does", "read by"], rows)}\n${forms.join("")}`;
  });
  return MANUAL_HEAD + parts.join("");
}

/** Entries under their place, as they stand in the file. */
function nested(place: string, entries: readonly string[]): string {
  const keys = place.split(".");
  const indent = (depth: number): string => "  ".repeat(depth);
  return [...keys.map((key, i) => `${indent(i)}${key}:`), ...entries.map((one) => indent(keys.length) + one)].join(
    "\n",
  );
}

function readersOf(setting: Setting): string {
  const readers = PROGRAMS.filter((program) => Object.values(settingsIn(DECLARED[program])).includes(setting));
  const names = readers.length === PROGRAMS.length ? "all" : readers.join(", ");
  return setting.isSecret ? `${names}; secret` : names;
}

/** The default as it would be written; "" where there is none. */
function shown({ fallback, example }: Setting): string {
  if (fallback === undefined) return "";
  // Where the default is not in the form of the file, the example is.
  return typeof fallback === "boolean" && typeof example === "string" ? example : yaml(fallback);
}

function yaml(value: unknown): string {
  return stringify(value, { collectionStyle: "flow" }).trim();
}

/** Columns as wide as their widest cell, which is how the formatter has them. */
function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const cells = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = head.map((_, column) => Math.max(3, ...cells.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |`;
  const [first = [], ...rest] = cells;
  return [line(first), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...rest.map(line)].join("\n");
}
