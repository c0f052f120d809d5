// A form as a value: what somebody may change from a page. It becomes words of the command, which run as that person; before that
// it shows what they would do. What is wrong with its values it says, and keeps them.
import type { Change } from "../../../ledger/usage/changes.ts";
import type { PageContext } from "../builder.ts";
import type { Field } from "../field.ts";
import type { Section } from "../page.ts";

export type FormContext = PageContext;

/** What was filled in; a field that was left empty is an empty text. */
export type Values = { readonly [field: string]: string };

/** What is wrong with the values; `field`: of which one. */
export class FormProblem extends Error {
  readonly field: string | undefined;

  constructor(message: string, field?: string) {
    super(message);
    this.field = field;
  }
}

export type Form = {
  readonly title: string;
  /** On the button that does it. */
  readonly does: string;
  /** Words whose rule says who sees it. */
  readonly verb: readonly [verb: string, word: string];
  fields(context: FormContext, values: Values): Promise<readonly Field[]>;
  /** The change that the books would be asked for, where its role shows only there. */
  change?(context: FormContext, values: Values): Promise<Change>;
  /** What it would do. Rejects with a FormProblem. */
  effect(context: FormContext, values: Values): Promise<readonly Section[]>;
  /** The words of the command. Rejects with a FormProblem. */
  words(context: FormContext, values: Values): Promise<readonly string[]>;
  /** What it says when it is done: of what the command printed. */
  done(out: string): { readonly words: string; readonly secret?: string };
};

/** `--option=value`, which no value can leave; nothing for an empty one. */
export function option(name: string, value = ""): string[] {
  return value === "" ? [] : [`--${name}=${value}`];
}

/** Sentences on what happens. */
export function effectOf(notes: readonly string[], more: Partial<Section> = {}): Section {
  return { title: "What this does", question: "What changes when you do it?", money: "none", notes, ...more };
}
