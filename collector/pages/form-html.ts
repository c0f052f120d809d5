// A form as HTML: fields with their labels, what is wrong with them, and what happens next.
import { html } from "ghtml";
import type { FormView } from "./page.ts";

export function formHtml({ action, problem, hidden, fields, buttons }: FormView): string {
  return html`<form class="change" method="post" action="${action}">
    !${problem === undefined ? "" : html`<p role="alert" class="problem" id="problem">${problem}</p>`}
    !${Object.entries(hidden).map(([name, value]) => html`<input type="hidden" name="${name}" value="${value}" />`)}
    !${fields.map(fieldHtml)}
    <p class="buttons">
      !${buttons.map(
        ({ step, label, isMain }) =>
          html`<button name="step" value="${step}" !${isMain ? 'class="main"' : ""}>${label}</button>`,
      )}
    </p>
  </form>`;
}

/** A secret that is shown once: it can be marked and copied whole. */
export function secretHtml(secret: string): string {
  return html`<p class="secret">
    <label
      >The secret <output><code tabindex="0">${secret}</code></output></label
    >
  </p>`;
}

function fieldHtml(field: FormView["fields"][number]): string {
  const { name, label, kind, isRequired, note, options, value, isWrong = false } = field;
  const by = [...(note === undefined ? [] : [`${name}-note`]), ...(isWrong ? ["problem"] : [])];
  const described = html`!${by.length === 0 ? "" : html`aria-describedby="${by.join(" ")}"`}
  !${isWrong ? 'aria-invalid="true"' : ""}`;
  const required = isRequired ? "required" : "";
  const below = note === undefined ? "" : html`<span class="note" id="${name}-note">${note}</span>`;
  switch (kind) {
    case "choice":
      return html`<p>
        <label for="${name}">${label}</label>
        <select id="${name}" name="${name}" !${required} !${described}>
          !${(options ?? []).map(
            (one) => html`<option value="${one.value}" !${one.value === value ? "selected" : ""}>${one.label}</option>`,
          )}
        </select>
        !${below}
      </p>`;
    case "fixed":
      return html`<p>
        <label for="${name}">${label}</label>
        <input id="${name}" name="${name}" value="${value}" readonly !${described} />
        !${below}
      </p>`;
    default: {
      const type = kind === "day" ? 'type="date"' : kind === "usd" ? 'inputmode="decimal"' : 'dir="auto"';
      return html`<p>
        <label for="${name}">${label}</label>
        <input
          id="${name}"
          name="${name}"
          value="${value}"
          autocomplete="off"
          maxlength="200"
          !${type}
          !${required}
          !${described}
        />
        !${below}
      </p>`;
    }
  }
}
