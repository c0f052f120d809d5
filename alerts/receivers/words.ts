// A message in the words of other places than Slack: made of the same text, whose few marks (*bold*, `code`, <url|link>) are read
// here. A name that holds stars may come out bold, as in Slack; it is never a tag, a link or a call to somebody.
import type { Message } from "../message.ts";

type Piece =
  | { readonly is: "text" | "bold" | "code"; readonly text: string }
  | { readonly is: "link"; readonly text: string; readonly url: string };

/** How a place writes each kind of piece. */
type Dialect = { readonly [kind in Piece["is"]]: (text: string, url: string) => string };

const MARKS = /`([^`\n]*)`|\*([^*\n]+)\*|<(https?:[^|>\s]+)\|([^>\n]*)>/g;

/** The lines of a message, its headline first. */
function linesOf({ headline, text, blocks }: Message): readonly (readonly Piece[])[] {
  const parts = blocks.flatMap((block) => {
    if (block.type === "section") return block.text ? [block.text.text] : [];
    if (block.type === "context")
      return block.elements.flatMap((element) =>
        "text" in element && typeof element.text === "string" ? [element.text] : [],
      );
    return [];
  });
  const body = parts.length === 0 ? [text] : parts;
  return [[{ is: "bold", text: headline }], ...body.flatMap((part) => part.split("\n")).map(piecesOf)];
}

/** Text of ours, with its marks, as pieces without any. */
function piecesOf(line: string): Piece[] {
  const pieces: Piece[] = [];
  let at = 0;
  const plain = (text: string): void => {
    if (text !== "") pieces.push({ is: "text", text: unescape(text) });
  };
  for (const found of line.matchAll(MARKS)) {
    plain(line.slice(at, found.index));
    at = found.index + found[0].length;
    const [, code, bold, url, text] = found;
    if (code !== undefined) pieces.push({ is: "code", text: unescape(code) });
    else if (bold !== undefined) pieces.push({ is: "bold", text: unescape(bold) });
    else pieces.push({ is: "link", text: unescape(text ?? ""), url: unescape(url ?? "") });
  }
  plain(line.slice(at));
  return pieces;
}

function unescape(text: string): string {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}

/** The message, or as many of its lines as fit: the last one, which says since when, always. */
export function writeMessage(message: Message, dialect: Dialect, most: number): string {
  return fit(
    linesOf(message).map((line) => writePieces(line, dialect)),
    most,
  );
}

/** A text of ours. */
export function writeText(text: string, dialect: Dialect, most: number): string {
  return fit(
    text.split("\n").map((line) => writePieces(piecesOf(line), dialect)),
    most,
  );
}

function writePieces(pieces: readonly Piece[], dialect: Dialect): string {
  return pieces.map((piece) => dialect[piece.is](piece.text, piece.is === "link" ? piece.url : "")).join("");
}

function fit(lines: readonly string[], most: number): string {
  const all = lines.join("\n");
  if (all.length <= most) return all;
  const last = lines.at(-1) ?? "";
  const kept: string[] = [];
  let left = most - last.length - 3;
  for (const line of lines.slice(0, -1)) {
    if (line.length + 1 > left) break;
    kept.push(line);
    left -= line.length + 1;
  }
  return kept.length === 0 ? all.slice(0, most - 1).toWellFormed() : [...kept, "…", last].join("\n");
}

const html = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

export const HTML: Dialect = {
  text: html,
  bold: (text) => `<b>${html(text)}</b>`,
  code: (text) => `<code>${html(text)}</code>`,
  link: (text, url) => `<a href="${html(url)}">${html(text)}</a>`,
};

const markdown = (text: string): string => text.replace(/[\\*_~`|>#[\]()@<-]/g, "\\$&");

export const MARKDOWN: Dialect = {
  text: markdown,
  bold: (text) => `**${markdown(text)}**`,
  // Nothing in code is a mark, but its end.
  code: (text) => `\`${text.replaceAll("`", "'")}\``,
  link: (text, url) => `[${markdown(text)}](<${url.replaceAll(">", "%3E")}>)`,
};

export const PLAIN: Dialect = {
  text: (text) => text,
  bold: (text) => text,
  code: (text) => text,
  link: (text, url) => `${text}: ${url}`,
};
