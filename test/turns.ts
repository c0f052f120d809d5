// Files that cost the most where small counts are asked for, and what they are about is not money alone: each runs in one of eight
// runs, by turns, and always with CI=true or when it is named. Which run it is: KEYMETER_TURN.
import { IS_CI } from "./seed.ts";

const TURNS: readonly (readonly string[])[] = [
  [
    "attacks/hostile",
    "proxy/seat-caps",
    "proxy/ledger-trouble",
    "collector/closing",
    "collector/manage",
    "operating/network",
    "collector/leak-playbook",
    "attacks/own-files",
  ],
  [
    "proxy/recordings",
    "ledger/node",
    "proxy/ask",
    "ledger/replay",
    "command/apply",
    "proxy/readers-random",
    "collector/before",
    "collector/alert-metrics",
  ],
  [
    "proxy/people",
    "proxy/work",
    "proxy/recordings-others",
    "operating/backup",
    "attacks/made-up",
    "ledger/postgres",
    "proxy/keyless",
    "attacks/wall-clock",
  ],
  [
    "proxy/attacks",
    "operating/stack",
    "command/remote",
    "collector/pages-work",
    "proxy/forward",
    "ledger/members",
    "service/secrets",
    "proxy/clients-uploads",
  ],
  [
    "proxy/sockets",
    "collector/sign-in",
    "collector/read-again",
    "proxy/providers",
    "alerts/notifier",
    "command/reach-back",
    "command/completion",
    "collector/forecast",
  ],
  [
    "alerts/program",
    "alerts/receivers",
    "ledger/both-engines",
    "proxy/policy",
    "upgrade/goes-on",
    "command/reprice",
    "attacks/fuzz",
    "collector/own-keys",
  ],
  [
    "proxy/seats",
    "command/keys",
    "collector/rotation-kills",
    "power-cut/power-cut",
    "ledger/move",
    "collector/focus",
    "proxy/google-more",
    "collector/retention",
  ],
  [
    "command/doctor",
    "collector/pages",
    "dashboards/panels",
    "command/agents",
    "proxy/agents-doors",
    "upgrade/schemas",
    "collector/rotation",
    "attacks/names",
  ],
];

const OF = TURNS.length;

// All workers of a run know whose it is (skipped.ts).
process.env["KEYMETER_TURN"] ??= String(Math.floor(Math.random() * 1_000));

const isNamed = process.argv.some((word) => word.includes(".test") || word.startsWith("test/"));
const turn = Number(process.env["KEYMETER_TURN"]) % OF;

/** Files that do not run now, and a line on each. */
export const OTHER_TURNS: readonly { readonly file: string; readonly why: string }[] =
  IS_CI || isNamed
    ? []
    : TURNS.flatMap((names, i) =>
        i === turn
          ? []
          : names.map((name) => ({
              file: `test/${name}.test.ts`,
              why: `test/${name}.test.ts: runs with CI=true, when it is named, and in one of ${OF} other runs (KEYMETER_TURN=${i})`,
            })),
      );
