// Mistakes that were made elsewhere, or are easily made here: each is put into a copy of the ledger, and the simulation
// has to find it. `is` stands once in the file; a test says so when the code has moved on.
export type Bug = { readonly what: string; readonly file: string; readonly is: string; readonly becomes: string };

export const BUGS: readonly Bug[] = [
  // Deciding
  {
    what: "what fits exactly is refused",
    file: "usage/reservations.ts",
    is: "settledNanoUsd + reservedNanoUsd + asked <= amountNanoUsd",
    becomes: "settledNanoUsd + reservedNanoUsd + asked < amountNanoUsd",
  },
  {
    what: "checked against what is spent, not what is reserved",
    file: "usage/reservations.ts",
    is: "settledNanoUsd + reservedNanoUsd + asked <= amountNanoUsd",
    becomes: "settledNanoUsd + asked <= amountNanoUsd",
  },
  {
    what: "checked against what is reserved, not what is spent",
    file: "usage/reservations.ts",
    is: "settledNanoUsd + reservedNanoUsd + asked <= amountNanoUsd",
    becomes: "reservedNanoUsd + asked <= amountNanoUsd",
  },
  {
    what: "one request more passes before a budget is closed",
    file: "usage/reservations.ts",
    is: "settledNanoUsd + reservedNanoUsd + asked <= amountNanoUsd",
    becomes: "settledNanoUsd + reservedNanoUsd <= amountNanoUsd",
  },
  {
    what: "of several budgets only the first holds the money",
    file: "usage/reservations.ts",
    is: "holdIn(covering.of(request.subject), request);",
    becomes: "holdIn(covering.of(request.subject).slice(0, 1), request);",
  },
  {
    what: "a strict budget holds what is expected",
    file: "usage/reservations.ts",
    is: 'budget.mode === "strict" ? request.boundNanoUsd : request.expectedNanoUsd',
    becomes: "request.expectedNanoUsd",
  },
  {
    what: "a soft budget refuses",
    file: "usage/reservations.ts",
    is: 'if (budget.kind !== "hard") continue;\n    isStrict',
    becomes: "isStrict",
  },
  {
    what: "a model without a price passes a hard budget",
    file: "usage/reservations.ts",
    is: 'if (request.expectedNanoUsd === undefined) return { ...state, reason: "unpriced" };',
    becomes: "",
  },
  {
    what: "what nothing bounds passes a strict budget",
    file: "usage/reservations.ts",
    is: 'if (asked === undefined) return { ...state, reason: "unbounded" };',
    becomes: "if (asked === undefined) return undefined;",
  },
  {
    what: "a budget on trial refuses",
    file: "usage/reservations.ts",
    is: 'return mode === "enforce" && !budget.observe;',
    becomes: 'return mode === "enforce";',
  },
  {
    what: "cap mode observe refuses",
    file: "usage/reservations.ts",
    is: 'return mode === "enforce" && !budget.observe;',
    becomes: "return !budget.observe;",
  },
  {
    what: "a freeze binds nobody",
    file: "usage/reservations.ts",
    is: "const frozen = freezes.find(({ scope }) => covers(scope, asked.subject));",
    becomes: "const frozen = freezes.find(() => false);",
  },
  {
    what: "a budget covers who fits one part of its scope",
    file: "budgets.ts",
    is: "return SCOPE_PARTS.every((part) => {",
    becomes: "return SCOPE_PARTS.some((part) => {",
  },
  {
    what: "a scope's env is not looked at",
    file: "budgets.ts",
    is: "if (wanted === undefined) return true;",
    becomes: 'if (wanted === undefined || part === "env") return true;',
  },
  {
    what: "a raise never ends",
    file: "budgets.ts",
    is: "raise.createdAtMs <= atMs && atMs < raise.untilMs",
    becomes: "raise.createdAtMs <= atMs",
  },
  // Caps of each
  {
    what: "what is raised for one member is raised for all",
    file: "budgets.ts",
    is: "const own = raises?.filter(({ budgetId }) => budgetId === rule.id || budgetId === id) ?? [];",
    becomes: "const own = raises ?? [];",
  },
  {
    what: "a member's cap holds beside the budget that takes its place",
    file: "budgets.ts",
    is: "return isOverridden(own, places) ? [] : [own];",
    becomes: "return [own];",
  },
  {
    what: "what was settled while another budget stood in a cap's place is forgotten",
    file: "usage/reservations.ts",
    is: "const isMoved = isPlaceMoved(budget, before, budgets);",
    becomes: "const isMoved = known === undefined;",
  },
  {
    what: "members that the books know begin at nothing",
    file: "usage/reservations.ts",
    is: "sumsOf(own, window).begin(amount);",
    becomes: "void [own, amount];",
  },
  // Extending
  {
    what: "a stream gets more without being asked what is left",
    file: "usage/reservations.ts",
    is: "left < least ? { ...state",
    becomes: "left < -1_000_000n ? { ...state",
  },
  {
    what: "an extension counts its own hold twice",
    file: "usage/reservations.ts",
    is: "state.settledNanoUsd - (state.reservedNanoUsd - amount)",
    becomes: "state.settledNanoUsd - state.reservedNanoUsd",
  },
  {
    what: "an extension gives all that is wanted, not what is left",
    file: "usage/reservations.ts",
    is: "if (left >= least && left < held) held = left;",
    becomes: "",
  },
  {
    what: "an extension is not held",
    file: "usage/reservations.ts",
    is: "open.set(attemptId, { request, holds: holdIn(budgets, request) });",
    becomes: "open.set(attemptId, { request, holds: holdIn(budgets, one.request) });",
  },
  {
    what: "an extension is in memory only",
    file: "usage/bookings/extend.ts",
    is: "ledger.entries.extend(attemptId, heldNanoUsd);",
    becomes: "",
  },
  // Settling
  {
    what: "a settlement leaves its reservation",
    file: "usage/reservations.ts",
    is: "letGo(open.get(attemptId)?.holds ?? []);",
    becomes: "",
  },
  {
    what: "a settlement counts in the window of another instant",
    file: "usage/reservations.ts",
    is: "windows.at(budget, attemptAtMs(attemptId));\n        part.add(cost);",
    becomes: "windows.at(budget, attemptAtMs(attemptId) + 3_600_000);\n        part.add(cost);",
  },
  {
    what: "the reservation's row stays after its event",
    file: "usage/bookings/sqlite-entries.ts",
    is: "letGo.run(attemptId);",
    becomes: "",
  },
  {
    what: "sums by hour forget the event",
    file: "usage/bookings/settle.ts",
    is: "  ledger.rollups.add(booked);\n",
    becomes: "",
  },
  {
    what: "a refused request leaves a reservation",
    file: "usage/bookings/reserve.ts",
    is: "    refusals.count(atMs, keyId, model, refusal.reason, refusal.budget.id);\n    return",
    becomes: "    ledger.entries.hold(request, endpoint, tags);\n    return",
  },
  // Failures and restarts
  {
    what: "memory keeps what a failed commit did not book",
    file: "usage/booking.ts",
    is: "      isStale = true;\n",
    becomes: "",
  },
  {
    what: "sums of a failed commit are written by the next one",
    file: "usage/booking.ts",
    is: "      rollups.clear();\n",
    becomes: "",
  },
  {
    what: "a failed transaction stays open",
    file: "usage/booking.ts",
    is: "if (database.inTransaction) rollback.run();",
    becomes: "",
  },
  {
    what: "one bad operation takes its batch along",
    file: "usage/booking.ts",
    is: "if (isStorageFailure(error) || operations.length === 1)",
    becomes: "if (operations.length >= 1)",
  },
  {
    what: "a crash costs nothing",
    file: "usage/bookings/settle-as-held.ts",
    is: "const cost = (isStrict ? row.boundNanoUsd : null) ?? row.expectedNanoUsd ?? undefined;",
    becomes: "const cost = 0n;",
  },
  {
    what: "under a strict budget a crash costs what was expected",
    file: "usage/bookings/settle-as-held.ts",
    is: "const cost = (isStrict ? row.boundNanoUsd : null) ?? row.expectedNanoUsd ?? undefined;",
    becomes: "const cost = row.expectedNanoUsd ?? undefined;",
  },
  {
    what: "a restart ends work that goes on",
    file: "usage/bookings/recover.ts",
    is: "askRows(reservations, isNull(reservations.workId))",
    becomes: "askRows(reservations, undefined)",
  },
  {
    what: "a restart refills what open work holds",
    file: "usage/bookings/ledger.ts",
    is: "for (const row of answerFrom(database, askRows(reservations, undefined))) {",
    becomes: "for (const row of [] as (typeof reservations.$inferSelect)[]) {",
  },
  {
    what: "work that goes on is not marked as such",
    file: "usage/bookings/sqlite-entries.ts",
    is: 'if (isFirst) suspend.run(workId, tiers.join(","), attemptId);',
    becomes: "",
  },
  {
    what: "closing work books nothing",
    file: "usage/bookings/register.ts",
    is: 'settleAsHeld(ledger, row, "upstream_failed");',
    becomes: "",
  },
  // Changes of budgets
  {
    what: "a change of budgets binds after the next restart",
    file: "usage/bookings/register.ts",
    is: "    book.setBudgets(ledger.budgets);\n",
    becomes: "",
  },
  {
    what: "a change of budgets forgets what is held",
    file: "usage/reservations.ts",
    is: "for (const [attemptId, { request }] of open) open.set(attemptId, { request, holds: hold(request) });",
    becomes: "",
  },
  {
    what: "a change of budgets holds what is held again",
    file: "usage/reservations.ts",
    is: "for (const sums of ofBudget.values()) [sums.reserved, sums.most] = [0n, 0n];",
    becomes: "",
  },
  {
    what: "a change of budgets forgets what the others have spent",
    file: "usage/reservations.ts",
    is: "[sums.reserved, sums.most] = [0n, 0n];",
    becomes: "{ [sums.reserved, sums.most] = [0n, 0n]; sums.add(-sums.settled); }",
  },
  {
    what: "a raise binds after the next restart",
    file: "usage/bookings/register.ts",
    is: '    case "raiseBudget":\n',
    becomes: '      return ["budgets"];\n    case "raiseBudget":\n      return [];\n',
  },
  {
    what: "a freeze binds after the next restart",
    file: "usage/bookings/register.ts",
    is: 'if (touched.has("freezes")) book.setFreezes(answerFrom(database, askFreezes()));',
    becomes: "",
  },
  {
    what: "a correction does not reach the sums in memory",
    file: "usage/bookings/register.ts",
    is: "      correct(event, correction.amountNanoUsd);\n",
    becomes: "",
  },
  {
    what: "a budget that is set anew begins at nothing",
    file: "usage/bookings/ledger.ts",
    is: "return answerFrom(database, askSettled(budget, window, tagsCount));",
    becomes:
      "return budgets.some(({ id }) => id === budget.id) ? answerFrom(database, askSettled(budget, window)) : 0n;",
  },
  {
    what: "a budget that is set anew stands beside the old one",
    file: "usage/changes.ts",
    is: "yield* tell(write.update(budgets).set({ removedAtMs: budget.createdAtMs }).where(eq(budgets.id, old.id)));",
    becomes: "",
  },
  {
    what: "a raise is lost when its budget is set anew",
    file: "usage/changes.ts",
    is: "yield* tell(write.update(raises).set({ budgetId: budget.id }).where(eq(raises.budgetId, old.id)));",
    becomes: "",
  },
  {
    what: "a raise that was ended goes on",
    file: "usage/changes.ts",
    is: "askRows(raises, isNull(raises.endedAtMs), raises.id)",
    becomes: "askRows(raises, undefined, raises.id)",
  },
  {
    what: "a correction twice counts twice",
    file: "usage/adjustments.ts",
    is: "    if (inserted === 0) continue;\n",
    becomes: "",
  },
  {
    what: "a correction does not reach the sums",
    file: "usage/adjustments.ts",
    is: "    rollups.adjust(bookedOf(event), adjustment);\n",
    becomes: "",
  },
  {
    what: "a day is sealed while work of it is open",
    file: "usage/seals.ts",
    is: "return (yield* ask(open, end)).length === 0 ? first : undefined;",
    becomes: "return first;",
  },
  {
    what: "what work brings to a sealed day is not in the audit",
    file: "usage/bookings/sqlite-entries.ts",
    is: "if (isLate) answerFrom(database, recordLate(attemptId, endedAtMs(row)));",
    becomes: "",
  },
  // Time
  {
    what: "ids go back with the clock",
    file: "ids.ts",
    is: "previous = Math.max(previous + 1, firstAttemptId(now()));",
    becomes: "previous = firstAttemptId(now());",
  },
  {
    what: "weeks begin on Sunday",
    file: "windows.ts",
    is: ".getUTCDay() + 6) % 7)",
    becomes: ".getUTCDay() + 7) % 7)",
  },
  {
    what: "months are those of UTC",
    file: "windows.ts",
    is: "const day = utcDay(localMs(atMs));",
    becomes: "const day = utcDay(atMs);",
  },
  {
    what: "the window that was asked for last is kept for ever",
    file: "windows.ts",
    is: "if (known && atMs >= known.startMs && atMs < known.endMs) return known;",
    becomes: "if (known && atMs >= known.startMs) return known;",
  },
  {
    what: "quarters begin a month late",
    file: "windows.ts",
    is: "const first = month - ((month - 1) % 3);",
    becomes: "const first = month - (month % 3);",
  },
  {
    what: "an hour is one of UTC, also in Kathmandu",
    file: "windows.ts",
    is: "const startMs = atMs - (((localMs(atMs) % HOUR_MS) + (atMs % 1000)) % HOUR_MS);",
    becomes: "const startMs = atMs - (atMs % HOUR_MS);",
  },
  // Names
  {
    what: "a restart forgets what an alias stands for",
    file: "usage/bookings/ledger.ts",
    is: "book.learnServedName(provider, requestedModel, servedModel);",
    becomes: "void [provider, requestedModel, servedModel];",
  },
  {
    what: "a budget on a model is passed under its alias",
    file: "usage/reservations.ts",
    is: "const asked = withServedName(names, request);\n      const frozen",
    becomes: "const asked = request;\n      const frozen",
  },
  {
    what: "what an alias cost counts under the alias alone",
    file: "budgets.ts",
    is: "return fits(subject.model) || (subject.servedModel !== undefined && fits(subject.servedModel));",
    becomes: "return fits(subject.model);",
  },
  // What is under way
  {
    what: "nothing limits what answers under way may come to",
    file: "usage/reservations.ts",
    is: "mostNanoUsd > ceilingOf(amountNanoUsd, most)",
    becomes: "mostNanoUsd > 1_000_000n * ceilingOf(amountNanoUsd, most)",
  },
  {
    what: "one answer alone may never cost more than the ceiling",
    file: "usage/reservations.ts",
    is: "mostIn(sums) > 0n && mostNanoUsd >",
    becomes: "mostNanoUsd >",
  },
  {
    what: "a small budget may be passed by forty answers, however small it is",
    file: "usage/reservations.ts",
    is: "const beyond = answers < atMost ? answers : atMost;",
    becomes: "const beyond = answers;",
  },
  {
    what: "what an answer could come to stays counted when it has ended",
    file: "usage/reservations.ts",
    is: "      part.most -= most;\n",
    becomes: "",
  },
  {
    what: "what the answers of a dead process could come to is forgotten while their work goes on",
    file: "usage/bookings/ledger.ts",
    is: "mostNanoUsd: row.mostNanoUsd ?? undefined,",
    becomes: "mostNanoUsd: undefined,",
  },
  // Travelling
  {
    what: "the most it can come to is lost on its way to the thread",
    file: "usage/wire.ts",
    is: "mostNanoUsd: most === null ? undefined : BigInt(most),",
    becomes: "mostNanoUsd: undefined,",
  },
  {
    what: "the bound is lost on its way to the thread",
    file: "usage/wire.ts",
    is: "boundNanoUsd: bound === null ? undefined : BigInt(bound),",
    becomes: "boundNanoUsd: expected === null ? undefined : BigInt(expected),",
  },
  {
    what: "what is left is lost on its way back",
    file: "usage/wire.ts",
    is: "leftNanoUsd: left === null ? undefined : BigInt(left),",
    becomes: "leftNanoUsd: undefined,",
  },
];
