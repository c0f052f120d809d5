// Forms that change keys: make one, pause, resume, revoke, rotate.
import { seesTeam } from "../../../ledger/usage/seen.ts";
import { foldName, readPeople } from "../../../ledger/usage/people.ts";
import { parseUsd } from "../../../ledger/money.ts";
import type { NanoUsd } from "../../../ledger/money.ts";
import { readKeys } from "../../../ledger/usage/read-keys.ts";
import { findLastUsed } from "../../../ledger/usage/key-use.ts";
import type { Key } from "../../../ledger/usage/keys.ts";
import { WINDOWS } from "../../../ledger/windows.ts";
import { capsSection, seenCapsOf } from "../budgets.ts";
import { spansOf } from "../days.ts";
import { text, time } from "../page.ts";
import type { Section } from "../page.ts";
import { readTotal, spent } from "../sums.ts";
import { effectOf, FormProblem, option } from "./form.ts";
import type { Field } from "../field.ts";
import type { Form, FormContext, Values } from "./form.ts";

/** The key of an id or a name, of those that the holder sees. Rejects with a FormProblem. */
export async function requireKey({ books, holder }: FormContext, wanted = ""): Promise<Key> {
  const all = (await readKeys(books.usage)).keys.filter(({ team }) => seesTeam(holder, team));
  const live = all.filter(({ name, state }) => name === wanted && state !== "revoked");
  const found = all.find(({ id }) => id === wanted) ?? (live.length === 1 ? live[0] : undefined);
  if (found) return found;
  throw new FormProblem(wanted === "" ? "Which key?" : `There is no key ${wanted}.`, "key");
}

/** A team, which of a lead is the lead's own. */
export function teamField({ holder }: FormContext): Field {
  return holder.role === "lead"
    ? { name: "team", label: "Team", kind: "fixed", fallback: holder.team ?? "" }
    : { name: "team", label: "Team", kind: "text" };
}

const BUDGET_KINDS = [
  { value: "soft", label: "tells only" },
  { value: "hard", label: "hard: refuses at its end" },
  { value: "strict", label: "hard and strict: never a cent over" },
];
const WINDOW_CHOICES = WINDOWS.map((value) => ({
  value,
  label: value === "total" ? "in total" : `${value === "hour" ? "an" : "a"} ${value}`,
}));

/** How a budget counts: its window, and what happens at its end. */
export function limitFields(window: string, kind: string): Field[] {
  return [
    { name: "window", label: window, kind: "choice", options: WINDOW_CHOICES, fallback: "month" },
    { name: "kind", label: kind, kind: "choice", options: BUDGET_KINDS, fallback: "hard" },
  ];
}

const secretOf = (out: string): { words: string; secret: string } => ({
  words: "This is the only time that it is shown: copy it now.",
  secret: (JSON.parse(out) as { key: string }).key,
});
const said = (out: string): { words: string } => ({ words: out.trim() });

export const makeKey: Form = {
  title: "Make a key",
  does: "Make the key",
  verb: ["keys", "create"],
  async fields(context) {
    return [
      { name: "name", label: "Name", kind: "text", isRequired: true },
      teamField(context),
      { name: "project", label: "Project", kind: "text" },
      { name: "env", label: "Environment", kind: "text" },
      { name: "user", label: "User", kind: "text", note: "Whose key it is; a new name makes a new user." },
      { name: "purpose", label: "Purpose", kind: "text" },
      { name: "expires", label: "Ends on", kind: "day" },
      { name: "amount", label: "Budget of its own, USD", kind: "usd" },
      ...limitFields("Window of that budget", "Kind of that budget"),
    ];
  },
  async effect(context, values) {
    const { name = "", team = "" } = values;
    const namesake = (await readKeys(context.books.usage)).keys.find(
      (key) => key.name === name && key.state !== "revoked",
    );
    if (namesake) throw new FormProblem(`A key named ${name} exists already: choose another name.`, "name");
    if (values["expires"] && Date.parse(`${values["expires"]}T00:00:00Z`) <= context.nowMs)
      throw new FormProblem(`${values["expires"]} is past.`, "expires");
    if (values["amount"]) parseAmount(values["amount"]);
    const caps = await seenCapsOf(context, await newKey(context, values));
    return [
      effectOf([
        `A new key ${name}${team === "" ? ", of no team," : ` of team ${team}`} works at once. Its secret is shown once, on the next page.`,
        values["amount"]
          ? `It begins with a budget of its own: $${values["amount"]} ${WINDOW_CHOICES.find(({ value }) => value === values["window"])?.label ?? ""} (${BUDGET_KINDS.find(({ value }) => value === values["kind"])?.label ?? ""}).`
          : "It has no budget of its own; what holds for it is below.",
      ]),
      await capsSection(context, caps, "Which budgets hold for it beside?"),
    ];
  },
  async change(context, values) {
    return { type: "createKey", key: await newKey(context, values), digest: "" };
  },
  async words(_context, values) {
    const { amount = "", window = "month", kind = "soft" } = values;
    return [
      "keys",
      "create",
      "--json",
      ...["name", "team", "project", "env", "user", "purpose", "expires"].flatMap((one) => option(one, values[one])),
      ...(amount === "" ? [] : [`--budget=${amount}/${window}`, ...(kind === "soft" ? [] : [`--${kind}`])]),
    ];
  },
  done: secretOf,
};

/** As it would be; a user that is new is nobody's yet. */
async function newKey(context: FormContext, values: Values): Promise<Key> {
  const { name = "", team = "", project = "", env = "", user = "", purpose = "" } = values;
  const people = await readPeople(context.books.usage);
  const own = [...people].find(([id, called]) => id === user || foldName(called) === foldName(user));
  return {
    id: "key_new",
    kind: "virtual",
    provider: undefined,
    name,
    team,
    project,
    env,
    user: user === "" ? "" : (own?.[0] ?? ""),
    state: "active",
    hint: "",
    createdAtMs: context.nowMs,
    expiresAtMs: undefined,
    purpose,
    policy: {},
  };
}

/** An amount of USD. Throws a FormProblem for what is none. */
export function parseAmount(given = "", field = "amount"): NanoUsd {
  try {
    const amount = parseUsd(given);
    if (amount >= 0n) return amount;
  } catch {
    // Said below.
  }
  throw new FormProblem(`“${given}” is no amount of USD: write 50 or 12.50.`, field);
}

/** A form for one key that is there. */
function ofKey(
  verb: "pause" | "resume" | "revoke" | "rotate",
  title: string,
  does: string,
  notes: (key: Key, values: Values) => readonly string[],
  more: { readonly fields?: readonly Field[]; readonly words?: (values: Values) => readonly string[] } = {},
): Form {
  return {
    title,
    does,
    verb: ["keys", verb],
    async fields() {
      return [{ name: "key", label: "Key", kind: "text", isRequired: true }, ...(more.fields ?? [])];
    },
    async effect(context, values) {
      const key = await requireKey(context, values["key"]);
      if (key.state === "revoked") throw new FormProblem(`${key.name} is revoked, which is for ever.`);
      return [effectOf(notes(key, values), { figures: await figuresOf(context, key) })];
    },
    async words(context, values) {
      const key = await requireKey(context, values["key"]);
      return ["keys", verb, key.id, ...(more.words?.(values) ?? [])];
    },
    async change(context, values) {
      const { id: keyId } = await requireKey(context, values["key"]);
      return verb === "rotate"
        ? { type: "rotateKey", keyId, digest: "", hint: "", graceUntilMs: 0 }
        : { type: "setKeyState", keyId, state: STATES[verb] };
    },
    done: verb === "rotate" ? secretOf : said,
  };
}

const STATES = { pause: "paused", resume: "active", revoke: "revoked" } as const;

async function figuresOf(context: FormContext, key: Key): Promise<NonNullable<Section["figures"]>> {
  const { today, tomorrow, month } = spansOf(context);
  const within = { key: key.id };
  return [
    { title: "Key", value: text(`${key.name} (…${key.hint})`), money: "none" },
    { title: "Team", value: text(key.team === "" ? "(no team)" : key.team), money: "none" },
    { title: "Last used (hour)", value: time(await findLastUsed(context.books.usage, key.id)), money: "none" },
    { title: "Today", value: spent(await readTotal(context, today, tomorrow, within)), money: "metered" },
    {
      title: "This month so far",
      value: spent(await readTotal(context, month.firstDay, month.endDay, within)),
      money: "metered",
    },
  ];
}

export const pauseKey = ofKey("pause", "Pause a key", "Pause it", ({ name }) => [
  `Requests with ${name} are refused from the next one on, until somebody resumes it. Those that go on now end by themselves.`,
]);

export const resumeKey = ofKey("resume", "Resume a key", "Resume it", ({ name, state }) => [
  state === "paused" ? `${name} works again at once.` : `${name} is not paused: nothing changes.`,
]);

export const revokeKey = ofKey("revoke", "Revoke a key", "Revoke it for ever", ({ name }) => [
  `Requests with ${name} are refused from the next one on, for ever. What it spent stays in the books. There is no way back.`,
]);

const GRACES = [
  { value: "24h", label: "a day" },
  { value: "7d", label: "seven days" },
  { value: "0h", label: "not at all: it leaked" },
];

export const rotateKey = ofKey(
  "rotate",
  "Rotate a key",
  "Give it a new secret",
  ({ name }, { grace = "24h" }) => [
    `${name} gets a new secret, which is shown once, on the next page. Budgets, limits and history stay with the key.`,
    grace === "0h"
      ? "The old secret is refused from the next request on."
      : `The old secret works for ${GRACES.find(({ value }) => value === grace)?.label ?? grace} more.`,
  ],
  {
    fields: [{ name: "grace", label: "The old secret works for", kind: "choice", options: GRACES, fallback: "24h" }],
    words: ({ grace = "24h" }) => ["--json", `--grace=${grace}`],
  },
);
