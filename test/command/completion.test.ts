// What shells offer behind `keymeter`, by a real bash; and the list of verbs, which names all of them.
import { execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { VERBS } from "../../command/verbs.ts";
import { noteSkipped } from "../skipped.ts";
import { temporaryFolder } from "../start-proxy.ts";

const START = fileURLToPath(new URL("../../start.mjs", import.meta.url));
const keymeter = (...args: string[]): string => execFileSync(process.execPath, [START, ...args], { encoding: "utf8" });
const hasBash = existsSync("/bin/bash");
if (!hasBash) noteSkipped("bash is not here: what it offers behind keymeter is not tried");

describe("completion", () => {
  it.skipIf(!hasBash)("offers verbs, their words and their options in bash", () => {
    const file = join(temporaryFolder(), "completion.bash");
    writeFileSync(file, keymeter("completion", "bash"));
    const offered = (...words: string[]): string[] => {
      const script = `source ${file}; COMP_WORDS=(keymeter ${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length}; _keymeter; echo "\${COMPREPLY[@]}"`;
      return execFileSync("/bin/bash", ["-c", script], { encoding: "utf8" }).trim().split(" ");
    };
    expect(offered("ro")).toEqual(["rotate"]);
    expect(offered("keys", "r")).toEqual(["resume", "revoke", "rotate"]);
    expect(offered("keys", "--gr")).toEqual(["--grace"]);
    expect(offered("rotate", "--")).toContain("--dry-run");
    expect(offered("").toSorted()).toEqual(Object.keys(VERBS).toSorted());
  });

  it("is there for zsh and fish, and for no other", () => {
    expect(keymeter("completion", "zsh")).toMatch(
      /^#compdef keymeter\n[\s\S]*rotate\) choices=\(status accept back done/,
    );
    expect(keymeter("completion", "fish")).toContain('__fish_seen_subcommand_from rotate" -a "status accept back done');
    expect(() => execFileSync(process.execPath, [START, "completion", "tcsh"], { stdio: "pipe" })).toThrow(
      "keymeter completion bash",
    );
  });
});

it("the list of verbs names each of them", () => {
  const listed = keymeter("help");
  const missing = Object.keys(VERBS).filter((verb) => !new RegExp(`^  .*\\b${verb}\\b`, "m").test(listed));
  expect(missing).toEqual([]);
});
