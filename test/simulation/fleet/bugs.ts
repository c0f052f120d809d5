// Mistakes that are put into a copy of the ledger, one at a time: the simulation of the fleet has to find each.
import type { Bug } from "../bugs.ts";

const NODES = "usage/nodes";

export const FLEET_BUGS: readonly Bug[] = [
  // What became of a batch
  {
    what: "a batch that was booked before its node was given up is booked again",
    file: `${NODES}/booking.ts`,
    is: "if (!doubt) continue;",
    becomes: "continue;",
  },
  {
    what: "what another node has booked is booked again",
    file: `${NODES}/booking.ts`,
    is: "if (over.has(ended) || (task",
    becomes: "if ((task",
  },
  {
    what: "an attempt that ends twice in a batch has two events",
    file: `${NODES}/booking.ts`,
    is: "over.add(ended);",
    becomes: "",
  },
  {
    what: "attempts that are not open here are not looked for",
    file: `${NODES}/booking.ts`,
    is: "if (ids.length === 0) return new Set();",
    becomes: "if (ids.length >= 0) return new Set();",
  },
  {
    what: "every work is taken for the first of its name",
    file: `${NODES}/booking.ts`,
    is: 'answers.set(asked, { type: "suspended", isFirst: firsts.includes(attemptId) });',
    becomes: 'answers.set(asked, { type: "suspended", isFirst: true });',
  },
  {
    what: "an orphan is booked though its node came back",
    file: `${NODES}/booking.ts`,
    is: '(task.type === "orphan" && !ledger.foreign.has(ended))',
    becomes: "false",
  },
  // Handing over
  {
    what: "work that goes on stays in memory as the node's",
    file: `${NODES}/booking.ts`,
    is: "    ledger.book.handOver(attemptId);\n    ledger.escrow.handedOver(holds);",
    becomes: "void holds;",
  },
  {
    what: "what was handed over is written a second time",
    file: `${NODES}/booking.ts`,
    is: "    ledger.escrow.handedOver(holds);",
    becomes: "void holds;",
  },
  {
    what: "what was handed over stays granted",
    file: `${NODES}/escrow.ts`,
    is: "        if (part.share) part.share.grantedNanoUsd -= amount;\n      }\n    },\n\n    hasSurplus",
    becomes: "      }\n    },\n\n    hasSurplus",
  },
  // Waiting
  {
    what: "what fits is refused without waiting for others",
    file: `${NODES}/booking.ts`,
    is: "const RECALL_MS = 500;",
    becomes: "const RECALL_MS = 0;",
  },
  {
    what: "who needs less is refused with who needs more",
    file: `${NODES}/booking.ts`,
    is: "const isVain = needNanoUsd >= (least.get(name) ?? Infinity);",
    becomes: "const isVain = least.has(name);",
  },
  {
    what: "who does not fit is taken for the ask before",
    file: `${NODES}/booking.ts`,
    is: "const grant = grants[vain[i] ?? -1];",
    becomes: "const grant = grants[(vain[i] ?? 1) - 1];",
  },
  {
    what: "an attempt is refused before anybody was asked",
    file: `${NODES}/booking.ts`,
    is: "return wait !== undefined && (wait.isVain",
    becomes: "return wait === undefined || (wait.isVain",
  },
  // Grants
  {
    what: "a debt is not written",
    file: `${NODES}/escrow.ts`,
    is: "if (spare < 0n || goesBack || nowMs >= share.untilMs)",
    becomes: "if (spare > 0n && (goesBack || nowMs >= share.untilMs))",
  },
  {
    what: "what was granted is written a second time",
    file: `${NODES}/escrow.ts`,
    is: "one.written.granted += BigInt(given);",
    becomes: "",
  },
  {
    what: "what was granted is not used",
    file: `${NODES}/escrow.ts`,
    is: "share.grantedNanoUsd += BigInt(given);",
    becomes: "",
  },
  {
    what: "what was granted counts twice",
    file: `${NODES}/escrow.ts`,
    is: "share.grantedNanoUsd += BigInt(given);",
    becomes: "share.grantedNanoUsd += 2n * BigInt(given);",
  },
  {
    what: "more money is used after its end",
    file: `${NODES}/escrow.ts`,
    is: "share.untilMs = untilMs ?? Infinity;",
    becomes: "share.untilMs = Infinity;",
  },
  {
    what: "after a change nodes go on with what was granted before",
    file: `${NODES}/escrow.ts`,
    is: "const share = { grantedNanoUsd: settled + held, untilMs: 0, others };",
    becomes: "const share = { grantedNanoUsd: settled + held, untilMs: Infinity, others };",
  },
  {
    what: "money that others wait for stays where it is",
    file: `${NODES}/escrow.ts`,
    is: "!isGranted(part) || wanted.has(partName(part)) || nowMs - keptOf(part).usedMs",
    becomes: "!isGranted(part) || nowMs - keptOf(part).usedMs",
  },
  {
    what: "what is left of a part that was not changed does not go back",
    file: `${NODES}/escrow.ts`,
    is: "for (const part of new Set([...touched(), ...loose])) {\n        const",
    becomes: "for (const part of touched()) {\n        const",
  },
  // Parts as they are written
  {
    what: "what is held is written as what is added",
    file: `${NODES}/escrow.ts`,
    is: "held_nano_usd: (held - written.held).toString(),",
    becomes: "held_nano_usd: held.toString(),",
  },
  {
    what: "what is settled is written as what is added",
    file: `${NODES}/escrow.ts`,
    is: "settled_nano_usd: (settled - written.settled).toString(),",
    becomes: "settled_nano_usd: settled.toString(),",
  },
  {
    what: "the most that is held is not written",
    file: `${NODES}/escrow.ts`,
    is: "most_nano_usd: (most - written.most).toString(),",
    becomes: 'most_nano_usd: "0",',
  },
  {
    what: "parts that were written are written again",
    file: `${NODES}/escrow.ts`,
    is: "for (const part of changed) Object.assign(keptOf(part).written, figuresOf(part));",
    becomes: "",
  },
  {
    what: "a window that was over when its budget was made is kept",
    file: `${NODES}/escrow.ts`,
    is: "if (!isKept(budget, window)) return undefined;",
    becomes: "",
  },
  // What is not the node's
  {
    what: "what was held for work stays held when it is settled",
    file: `${NODES}/ledger.ts`,
    is: "shared.push(rowOf(budgetId, windowId, owner, 0n, -amount, -most, -amount));",
    becomes: "void [budgetId, windowId, owner, amount, most];",
  },
  {
    what: "what work cost counts nowhere",
    file: `${NODES}/ledger.ts`,
    is: "correct(budget, calendar.window(budget.window, atMs), owner, cost);",
    becomes: "",
  },
  {
    what: "what an orphan held is taken from what is nobody's",
    file: `${NODES}/ledger.ts`,
    is: "const owner = one.node ?? NOBODY;",
    becomes: "const owner = NOBODY;",
  },
  {
    what: "two nodes may settle the same work",
    file: `${NODES}/ledger.ts`,
    is: "requires.push(one.attemptId);\n    owners.push(owner);",
    becomes: "",
  },
  {
    what: "what an attempt holds is worked out anew when memory is read",
    file: `${NODES}/ledger.ts`,
    is: "      holds.map(([budgetId, , amount, most]) => [budgetId, amount, most]),\n",
    becomes: "",
  },
  {
    what: "a reservation does not say what it holds",
    file: `${NODES}/entries.ts`,
    is: "most_nano_usd: mostNanoUsd?.toString() ?? null,\n        holds: holdsText(heldBy(attemptId)),",
    becomes: 'most_nano_usd: mostNanoUsd?.toString() ?? null,\n        holds: "[]",',
  },
  {
    what: "an extension does not say what is held by it",
    file: `${NODES}/entries.ts`,
    is: "expected_nano_usd: expectedNanoUsd.toString(),\n        holds: holdsText(heldBy(attemptId)),",
    becomes: "expected_nano_usd: expectedNanoUsd.toString(),",
  },
  // The decision
  {
    what: "what is held is not taken off what was granted",
    file: "usage/reservations.ts",
    is: "return share.grantedNanoUsd - settled - reserved;",
    becomes: "return share.grantedNanoUsd - settled;",
  },
  {
    what: "a stream grows beyond what was granted",
    file: "usage/reservations.ts",
    is: "? amount + surplusOf(sums, atMs)",
    becomes: "? 2n * amount + 10n + surplusOf(sums, atMs)",
  },
  {
    what: "an extension holds in budgets in which it was not looked at",
    file: "usage/reservations.ts",
    is: "holds: holdIn(budgets, request) });",
    becomes: "holds: hold(request) });",
  },
  {
    what: "a settled sum that nobody has read yet misses what is added",
    file: "usage/reservations.ts",
    is: "if (this.share) this.#settled = this.settled + amount;\n    else if",
    becomes: "if",
  },
  {
    what: "nodes make the same ids",
    file: "ids.ts",
    is: "if (own !== undefined) previous += (own - (previous % NODES) + NODES) % NODES;",
    becomes: "",
  },
];
