// keymeter completion: what a shell offers behind `keymeter`, made of what each verb says of itself.
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter completion bash     in ~/.bashrc: source <(keymeter completion bash)
keymeter completion zsh      keymeter completion zsh > "\${fpath[1]}/_keymeter"
keymeter completion fish     keymeter completion fish > ~/.config/fish/completions/keymeter.fish`;

/** By verb: the words and options that may stand behind it. */
type Words = ReadonlyMap<string, readonly string[]>;

const SHELLS: { readonly [shell: string]: (words: Words) => string } = { bash, zsh, fish };

export async function run([shell = "", ...more]: string[]): Promise<void> {
  const script = SHELLS[shell];
  if (!script || more.length > 0) throw new UsageError(USAGE);
  process.stdout.write(script(await wordsOfVerbs()));
}

async function wordsOfVerbs(): Promise<Words> {
  const { VERBS } = await import("./verbs.ts");
  const all = Object.entries(VERBS).map(
    async ([verb, load]) => [verb, wordsIn(verb, (await load()).USAGE ?? "")] as const,
  );
  return new Map(await Promise.all(all));
}

/** Words in small letters right behind the verb, several parted by "|", and all options. */
function wordsIn(verb: string, usage: string): string[] {
  const behind = [...usage.matchAll(new RegExp(`^keymeter ${verb} ([a-z][a-z|-]*)(?![\\w.:/])`, "gm"))];
  const words = behind.flatMap(([, found = ""]) => found.split("|"));
  return [...new Set([...words, ...(usage.match(/--[a-z][\w-]*/g) ?? []), "--help"])];
}

function bash(words: Words): string {
  const cases = [...words].map(([verb, some]) => `    ${verb}) words="${some.join(" ")}" ;;`);
  return `_keymeter() {
  local current="\${COMP_WORDS[COMP_CWORD]}" words="${[...words.keys()].join(" ")}"
  if [ "$COMP_CWORD" -gt 1 ]; then case "\${COMP_WORDS[1]}" in
${cases.join("\n")}
    *) words="" ;;
  esac; fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _keymeter keymeter
`;
}

function zsh(words: Words): string {
  const cases = [...words].map(([verb, some]) => `    ${verb}) choices=(${some.join(" ")}) ;;`);
  return `#compdef keymeter
_keymeter() {
  local -a choices
  if (( CURRENT == 2 )); then choices=(${[...words.keys()].join(" ")})
  else case "\${words[2]}" in
${cases.join("\n")}
  esac; fi
  compadd -a choices
  _files
}
compdef _keymeter keymeter
`;
}

function fish(words: Words): string {
  const lines = [...words].map(
    ([verb, some]) => `complete -c keymeter -n "__fish_seen_subcommand_from ${verb}" -a "${some.join(" ")}"`,
  );
  return `complete -c keymeter -n __fish_use_subcommand -f -a "${[...words.keys()].join(" ")}"
${lines.join("\n")}
`;
}
