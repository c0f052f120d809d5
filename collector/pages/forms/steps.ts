// The steps of a form: it is filled in, what it would do is shown, and then it is done by the command. Nothing is kept between them:
// each step brings all values, and they are looked at anew.
import { randomUUID } from "node:crypto";
import { whyNotChange } from "../../../ledger/usage/may-change.ts";
import type { Secret } from "../../../service/secret.ts";
import { makePass } from "../../../service/pass.ts";
import type { FormView, Page, Section } from "../page.ts";
import { FormProblem } from "./form.ts";
import type { Form, FormContext, Values } from "./form.ts";
import { FORMS } from "./index.ts";
import type { OfferedCommand } from "../../offered-command.ts";

/** As long as a change takes at the most. */
const PASS_MS = 120_000;
const LONGEST = 200;
const LONGEST_WORDS = 1_500;

/** What was done: the word of each form that was sent to be done, for as long as a session lasts. */
const done = new Map<string, number>();
const MOST_DONE = 10_000;

export type Step = {
  readonly form: string;
  /** `look`: what would it do? `do`: do it. Anything else: fill it in. */
  readonly step: string;
  readonly values: Values;
  /** What the session's forms bring back. */
  readonly proof: string;
};

/** The page of a step, and its status; undefined: there is no such form, or it is not for the holder. */
export async function pageOfStep(
  context: FormContext,
  { form: name, step, values: given, proof }: Step,
  command: OfferedCommand,
  adminToken: Secret,
): Promise<{ readonly page: Page; readonly status: number } | undefined> {
  const form = FORMS.get(name);
  if (!form || command.whyNot(context.holder, form.verb) !== undefined) return undefined;
  const hidden = { form: name, proof };
  const { once = "" } = given;
  const values = await fittingValues(form, context, given);
  try {
    requireWhole(await form.fields(context, values), values, step);
    if (step === "look") {
      const sections = await form.effect(context, values);
      await form.words(context, values);
      const change = await form.change?.(context, values);
      const why = change && (await whyNotChange(context.books.usage, context.holder, change));
      if (why !== undefined) throw new FormProblem(why);
      return { status: 200, page: lookPage(form, sections, { ...values, ...hidden, once: randomUUID() }) };
    }
    if (step === "do") {
      const words = await form.words(context, values);
      // A second press, or the page loaded anew, does it no second time.
      if (once === "" || done.has(once))
        throw new FormProblem("That was sent already. Look whether it was done before you say it again.");
      done.set(once, Date.now());
      for (const [oldest] of done) if (done.size > MOST_DONE) done.delete(oldest);
      const pass = makePass(adminToken, context.holder, Date.now() + PASS_MS);
      const { code, out, err } = await command.run({ holder: context.holder, pass }, words);
      if (code !== 0) throw new FormProblem((err || out).trim().slice(0, LONGEST_WORDS) || "It was not done.");
      return { status: 200, page: donePage(form, out, err) };
    }
    return { status: 200, page: await fillPage(form, context, values, hidden) };
  } catch (error) {
    if (!(error instanceof FormProblem)) throw error;
    return { status: 422, page: await fillPage(form, context, values, hidden, error) };
  }
}

/** Values of the form's own fields; of a field that is fixed for the holder, what it is fixed at. */
async function fittingValues(form: Form, context: FormContext, given: Values): Promise<Values> {
  const fields = await form.fields(context, given);
  return Object.fromEntries(
    fields.map(({ name, kind, fallback }) => [
      name,
      kind === "fixed" && fallback !== undefined ? fallback : (given[name] ?? fallback ?? "").trim(),
    ]),
  );
}

function requireWhole(fields: Awaited<ReturnType<Form["fields"]>>, values: Values, step: string): void {
  if (step !== "look" && step !== "do") return;
  for (const { name, label, isRequired, kind, options } of fields) {
    const value = values[name] ?? "";
    if (value === "" && isRequired) throw new FormProblem(`${label}: fill this in.`, name);
    if (value.length > LONGEST || /\p{Cc}/u.test(value))
      throw new FormProblem(`${label}: that is too long, or no text.`, name);
    if (kind === "day" && value !== "" && !/^\d{4}-\d{2}-\d{2}$/.test(value))
      throw new FormProblem(`${label}: write a day such as 2026-12-01.`, name);
    if (kind === "choice" && options?.every((one) => one.value !== value))
      throw new FormProblem(`${label}: that is none of the choices.`, name);
  }
}

async function fillPage(
  form: Form,
  context: FormContext,
  values: Values,
  hidden: FormView["hidden"],
  problem?: FormProblem,
): Promise<Page> {
  const fields = (await form.fields(context, values)).map((field) => ({
    ...field,
    value: values[field.name] ?? "",
    isWrong: field.name === problem?.field,
  }));
  return {
    title: problem ? `${form.title}: not done` : form.title,
    days: "local",
    isStep: true,
    sections: [],
    form: {
      action: "change",
      problem: problem?.message,
      hidden,
      fields,
      buttons: [{ step: "look", label: "Show what this does", isMain: true }],
    },
  };
}

function lookPage(form: Form, sections: readonly Section[], hidden: FormView["hidden"]): Page {
  return {
    title: form.title,
    days: "local",
    isStep: true,
    sections,
    form: {
      action: "change",
      hidden,
      fields: [],
      buttons: [
        { step: "do", label: form.does, isMain: true },
        { step: "fill", label: "Change it first" },
      ],
    },
  };
}

function donePage(form: Form, out: string, err: string): Page {
  const { words, secret } = form.done(out);
  const notes = [words, ...(secret === undefined ? err.trim().split("\n") : [])].filter((one) => one !== "");
  return {
    title: `${form.title}: done`,
    days: "local",
    isStep: true,
    ...(secret === undefined ? {} : { secret }),
    sections: [{ title: "Done", question: "What was done?", money: "none", notes }],
  };
}
