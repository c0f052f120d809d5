// keymeter login|logout: a Keymeter elsewhere, whose token stands in a file of this user's from then on.
import { parseArgs } from "node:util";
import { askMe } from "./remote/client.ts";
import { dropProfile, keepProfile, profilesPath, requireProfileName } from "./remote/profiles.ts";
import { serverUrl } from "./remote/where.ts";
import { UsageError } from "./usage-error.ts";

export const USAGE = `keymeter login --server https://keymeter.example.com [--profile NAME]     asks for the token (or reads it: < FILE), and keeps both
  Commands run there from then on; \`keymeter --local VERB\` runs one here, \`keymeter --profile NAME VERB\` at another one.
  Once, without signing in: keymeter --server https://... --token-file FILE VERB; or KEYMETER_SERVER and KEYMETER_TOKEN.
keymeter logout [--profile NAME]     forgets it; \`keymeter tokens revoke\` ends the token itself`;

const MOST_LENGTH = 300;
/** As a terminal in raw mode gives them. */
const CTRL_C = "\u0003";
const ENDS = ["\r", "\n", "\u0004"];

export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: { server: { type: "string" }, profile: { type: "string", default: "default" } },
  });
  if (values.server === undefined) throw new UsageError(`which Keymeter?\n${USAGE}`);
  const server = serverUrl(values.server);
  requireProfileName(values.profile);
  const token = await readToken();
  const me = await askMe({ server, token });
  keepProfile(values.profile, { server: server.href, token });
  process.stdout.write(
    `${me.name}, ${me.role}${me.team === undefined ? "" : ` of ${me.team}`}, at ${server.href}. The token is in ${profilesPath()}.\n`,
  );
}

export function logout(args: string[]): void {
  const { values } = parseArgs({ args, options: { profile: { type: "string", default: "default" } } });
  if (!dropProfile(values.profile)) throw new UsageError(`there is no profile ${values.profile} in ${profilesPath()}`);
  process.stdout.write(`${values.profile}: forgotten here. \`keymeter tokens revoke\` ends the token itself.\n`);
}

/** From the standard input; of a terminal without showing it. */
async function readToken(): Promise<string> {
  const { stdin } = process;
  if (stdin.isTTY) {
    process.stderr.write("Token: ");
    stdin.setRawMode(true);
  }
  let text = "";
  try {
    for await (const piece of stdin.setEncoding("utf8")) {
      text += String(piece);
      if (text.includes(CTRL_C)) throw new UsageError("broken off; nothing was kept");
      if (text.length > MOST_LENGTH || (stdin.isTTY && ENDS.some((end) => text.includes(end)))) break;
    }
  } finally {
    if (stdin.isTTY) {
      stdin.setRawMode(false);
      process.stderr.write("\n");
    }
  }
  const token = ENDS.reduce((word, end) => word.split(end)[0] ?? "", text.trim());
  if (token === "" || /\s/.test(token)) throw new UsageError("what stands there is no token: one word on one line");
  if (token.startsWith("km_"))
    throw new UsageError("that is a Keymeter key, for requests; `keymeter tokens create` makes tokens (kmt_...)");
  return token;
}
