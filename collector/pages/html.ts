// A page as HTML: no script, one style sheet, every figure with its words. Reads in a browser, on paper, by keyboard
// and by ear.
import { html } from "ghtml";
import { formatUsd, formatUsdCents } from "../../ledger/money.ts";
import { formHtml, secretHtml } from "./form-html.ts";
import { homeOf, seesPage } from "./seen.ts";
import type { Holder } from "../../ledger/usage/tokens.ts";
import type { NanoUsd } from "../../ledger/money.ts";
import type { Cell, Control, Figure, Link, MoneyKind, Page, Section, Table, Value } from "./page.ts";

/** What a page is drawn with. */
export type Frame = {
  /** Its name in the address, and what was asked of it. */
  readonly path: string;
  readonly query: { readonly [name: string]: string };
  readonly asOfMs: number;
  readonly timezone: string;
  readonly holder: Holder;
};

const PAGES = [
  ["overview", "Overview"],
  ["changes", "What changed"],
  ["teams", "Teams"],
  ["keys", "Keys"],
  ["users", "Users"],
  ["repositories", "Repositories"],
  ["bills", "Bills"],
  ["models", "Models"],
  ["refused", "Refused"],
  ["chargeback", "Chargeback"],
  ["manage", "Manage"],
  ["audit", "Audit"],
] as const;
const MONEY: { readonly [kind in MoneyKind]: string } = {
  metered: "Metered: counted here as it was used.",
  billed: "Billed: what the provider states.",
  closed: "Closed: billed, and signed off.",
  forecast: "Forecast: fixed when its month began.",
  landing: "As it looks now: spent so far, and what is to come.",
  hypothetical: "Hypothetical: never spent.",
  none: "",
};
/** Rows of a long list that stand on one sheet. */
const SHEET = 200;

export function toHtml(page: Page, frame: Frame): string {
  const { path, query, asOfMs, timezone, holder } = frame;
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${page.subject === undefined ? page.title : `${page.title} ${page.subject}`} · Keymeter</title>
        <link rel="stylesheet" href="style.css" />
        <link rel="icon" href="data:," />
      </head>
      <body>
        <a class="skip" href="#main">To the figures</a>
        <header>
          <nav aria-label="Reports">
            <a class="home" href="${homeOf(holder).slice(1)}">Keymeter</a>
            <ul>
              !${PAGES.filter(([name]) => seesPage(holder, name)).map(
                ([name, title]) =>
                  html`<li>
                    <a href="${name}" !${name === path ? 'aria-current="page"' : ""}>${title}</a>
                  </li>`,
              )}
            </ul>
          </nav>
        </header>
        <main id="main" tabindex="-1">
          <h1>${page.title} !${page.subject === undefined ? "" : html`<bdi>${page.subject}</bdi>`}</h1>
          <p class="asof">
            As of !${whenHtml(asOfMs, timezone)}. Days are days of
            ${page.days === "UTC" ? "UTC, as on bills" : timezone}, times are of ${timezone}, money is USD.
            !${page.isStep ? "" : html`Download: <a href="${addressOf({ page: `${path}.json`, query })}">JSON</a>`}!${focusLinks(page)}
          </p>
          !${page.secret === undefined ? "" : secretHtml(page.secret)}
          !${page.controls ? controlsHtml(page.controls, path) : ""}
          !${page.sections.map((section, i) => sectionHtml(section, i, { ...frame, sheet: page.isSigned ? Number.MAX_SAFE_INTEGER : SHEET }))}
          !${page.form ? formHtml(page.form) : ""} !${page.isSigned ? SIGNATURES : ""}
        </main>
        <footer>
          <p>
            ${holder.role === "read" ? "Read only." : html`Signed in as ${holder.name} (${holder.role}).`} Amounts are
            rounded to cents here; downloads have every digit.
          </p>
          <form method="post" action="logout"><button>Sign out</button></form>
        </footer>
      </body>
    </html>`;
}

/** A page that says one thing: there is nothing here, or: sign in first. */
export function toNotice(title: string, body: string): string {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${title} · Keymeter</title>
        <link rel="stylesheet" href="style.css" />
        <link rel="icon" href="data:," />
      </head>
      <body>
        <main id="main">
          <h1>${title}</h1>
          !${body}
        </main>
      </body>
    </html>`;
}

function addressOf({ page, query = {} }: Link): string {
  const asked = new URLSearchParams(query).toString();
  return asked === "" ? page : `${page}?${asked}`;
}

const SIGNATURES = html`<section class="signatures" aria-label="Signatures">
  <p>Prepared by</p>
  <p>Approved by</p>
  <p>Date</p>
</section>`;

function focusLinks({ focus, days }: Page): string {
  if (!focus) return "";
  const links = ["1.2", "1.4"].map(
    (version) =>
      html`, <a href="${addressOf({ page: "focus.csv", query: { ...focus, version } })}">FOCUS ${version}</a>`,
  );
  return `${links.join("")}${days === "UTC" ? "" : " (of UTC days)"}`;
}

function controlsHtml(controls: readonly Control[], path: string): string {
  return html`<form class="controls" method="get" action="${path}">
    !${controls.map(({ name, label, value, options, kind }) =>
      options
        ? html`<label>
            ${label}
            <select name="${name}">
              !${options.map(
                (one) =>
                  html`<option value="${one.value}" !${one.value === value ? "selected" : ""}>${one.label}</option>`,
              )}
            </select>
          </label>`
        : html`<label
            >${label} <input name="${name}" value="${value}" !${kind === "date" ? 'type="date"' : 'dir="auto"'}
          /></label>`,
    )}
    <button>Show</button>
  </form>`;
}

/** How many rows stand on one sheet. */
type Sheets = Frame & { readonly sheet: number };

function sectionHtml(section: Section, index: number, frame: Sheets): string {
  const id = `s${index}`;
  return html`<section aria-labelledby="${id}">
    <h2 id="${id}">${section.title}</h2>
    <p class="question">
      ${section.question} !${section.money === "none" ? "" : html`<span class="money">${MONEY[section.money]}</span>`}
    </p>
    !${section.figures ? html`<dl class="figures">!${section.figures.map((one) => figureHtml(one, frame))}</dl>` : ""}
    !${
      section.chart
        ? html`<figure>
            <div class="wide" aria-hidden="true">!${section.chart.svg}</div>
            <div class="narrow" aria-hidden="true">!${section.chart.narrow}</div>
            <figcaption>${section.chart.label}</figcaption>
          </figure>`
        : ""
    }
    !${
      section.table
        ? section.table.isFolded
          ? html`<details>
              <summary>The same as a table</summary>
              !${tableHtml(section.table, id, frame)}
            </details>`
          : tableHtml(section.table, id, frame)
        : ""
    }
    !${(section.notes ?? []).map((note) => html`<p class="note">${note}</p>`)}
  </section>`;
}

function figureHtml({ title, value, money, note }: Figure, { timezone }: Frame): string {
  return html`<div>
    <dt>${title} !${money === "none" ? "" : html`<span class="kind">${money}</span>`}</dt>
    <dd>!${cellHtml(value, timezone)}</dd>
    !${note === undefined ? "" : html`<dd class="note">${note}</dd>`}
  </div>`;
}

function tableHtml(table: Table, labelledBy: string, { path, query, timezone, sheet: most }: Sheets): string {
  const { name, columns, rows, total, empty } = table;
  if (rows.length === 0) return html`<p class="empty">${empty}</p>`;
  const sheets = Math.ceil(rows.length / most);
  const sheet = Math.min(Math.max(1, Math.trunc(Number(query[`${name}Sheet`])) || 1), sheets);
  const before = (sheet - 1) * most;
  const shown = rows.slice(before, before + most);
  const toSheet = (at: number): string => addressOf({ page: path, query: { ...query, [`${name}Sheet`]: String(at) } });
  const row = (cells: readonly Cell[], isTotal: boolean): string =>
    html`<tr !${isTotal ? 'class="total"' : ""}>
      !${cells.map((cell, i) => {
        if (columns[i]?.isFolded) return "";
        const kind = columns[i]?.is === "text" ? "" : 'class="number"';
        return i === 0
          ? html`<th scope="row">!${cellHtml(cell, timezone)}</th>`
          : html`<td !${kind}>!${cellHtml(cell, timezone)}</td>`;
      })}
    </tr>`;
  return html`<div class="scroll" role="group" aria-labelledby="${labelledBy}" tabindex="0">
      <table class="${name}">
        <thead>
          <tr>
            !${columns.filter(({ isFolded }) => !isFolded).map(({ title, is }) => html`<th scope="col" !${is === "text" ? "" : 'class="number"'}>${title}</th>`)}
          </tr>
        </thead>
        <tbody>
          !${shown.map((cells) => row(cells, false))}
        </tbody>
        !${
          total
            ? html`<tfoot>
                !${row(total, true)}
              </tfoot>`
            : ""
        }
      </table>
    </div>
    <p class="tools">
      !${
        sheets === 1
          ? ""
          : html`<span>
              Rows ${before + 1} to ${before + shown.length} of ${rows.length}.
              !${sheet > 1 ? html`<a href="${toSheet(sheet - 1)}">Rows before</a>` : ""}
              !${sheet < sheets ? html`<a href="${toSheet(sheet + 1)}">Rows after</a>` : ""}
            </span>`
      }
      <a href="${addressOf({ page: `${path}.csv`, query: { ...query, table: name } })}"
        >CSV<span class="unseen"> of ${name}</span></a
      >
    </p>`;
}

function cellHtml(cell: Cell, timezone: string): string {
  if (!cell) return '<span class="unknown">not known</span>';
  switch (cell.is) {
    case "text":
      return cell.link
        ? html`<a href="${addressOf(cell.link)}"><bdi>${cell.text === "" ? "(none)" : cell.text}</bdi></a>`
        : html`<bdi>${cell.text}</bdi>`;
    case "time":
      return whenHtml(cell.atMs, timezone);
    default:
      return html`<span !${toneOf(cell)}>${wordsOf(cell)}</span>`;
  }
}

/** More money than before is told by its sign; the colour only repeats it. */
function toneOf(cell: Value): string {
  if (cell.is === "usd" && cell.isChange && cell.nanoUsd !== 0n)
    return cell.nanoUsd > 0n ? 'class="more"' : 'class="less"';
  return "";
}

function wordsOf(cell: Exclude<Value, { is: "text" | "time" }>): string {
  switch (cell.is) {
    case "usd":
      return usdWords(cell.nanoUsd, cell.isFine ? formatUsd : formatUsdCents, cell.isChange === true);
    case "count":
      return cell.count.toLocaleString("en-US");
    case "share":
      return `${(cell.share * 100).toFixed(Math.abs(cell.share) < 0.0995 ? 1 : 0)} %`;
    case "seconds":
      return `${cell.seconds.toFixed(cell.seconds < 10 ? 2 : 0)} s`;
  }
}

/** A change has its sign, and a loss a minus that is as wide as a plus. */
function usdWords(nanoUsd: NanoUsd, format: (amount: NanoUsd) => string, hasSign: boolean): string {
  const sign = nanoUsd < 0n ? "−" : nanoUsd > 0n && hasSign ? "+" : "";
  return sign + format(nanoUsd < 0n ? -nanoUsd : nanoUsd);
}

function whenHtml(atMs: number, timezone: string): string {
  const words = new Intl.DateTimeFormat("en-CA", {
    timeZone: timezone,
    dateStyle: "short",
    timeStyle: "medium",
    hourCycle: "h23",
  }).format(atMs);
  return html`<time datetime="${new Date(atMs).toISOString()}">${words.replace(",", "")}</time>`;
}
