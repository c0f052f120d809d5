// Which program asks, and in which session: what coding agents say of themselves in headers, as tags. A closed list of
// programs; sessions and agents are whatever they call them, in the tags of an event and in no series.
// Source: their requests as they were sent, 2026-11-29 (test/clients), and code.claude.com's page on gateways.
import type { IncomingHttpHeaders } from "node:http";

/** By how the first product of a user agent begins. */
const PROGRAMS: readonly (readonly [RegExp, string])[] = [
  [/^claude-(cli|code)\b/i, "claude-code"],
  [/^codex[-_]/i, "codex"],
  [/^GeminiCLI\b/i, "gemini-cli"],
  [/^opencode\b/i, "opencode"],
  [/^QwenCode\b/i, "qwen-code"],
  [/^Cursor\b/i, "cursor"],
  [/^cline\b/i, "cline"],
  [/^roo-?code\b/i, "roo-code"],
  [/^kilo-?code\b/i, "kilo-code"],
  [/^aider\b/i, "aider"],
  [/^continue\b/i, "continue"],
  [/^goose\b/i, "goose"],
  [/^crush\b/i, "crush"],
  [/^zed\b/i, "zed"],
  [/^openclaw\b/i, "openclaw"],
  [/^open-?webui\b/i, "open-webui"],
  [/^librechat\b/i, "librechat"],
  [/^litellm\b/i, "litellm"],
];

/** Header by tag; the first that is there counts. */
const HEADERS: readonly (readonly [tag: string, header: string])[] = [
  ["session", "x-claude-code-session-id"],
  // Codex.
  ["session", "session-id"],
  ["session", "session_id"],
  // opencode.
  ["session", "x-session-id"],
  ["agent", "x-claude-code-agent-id"],
  ["parent_agent", "x-claude-code-parent-agent-id"],
];
const ID = /^[\w.:-]{4,128}$/;

/** Tags that a request has of itself: `client`, `session`, `agent`, `parent_agent`. */
export function readClient(headers: IncomingHttpHeaders): { readonly [tag: string]: string } {
  const userAgent = headers["user-agent"] ?? "";
  const client = PROGRAMS.find(([begins]) => begins.test(userAgent))?.[1];
  const tags: { [tag: string]: string } = client === undefined ? {} : { client };
  for (const [tag, header] of HEADERS) {
    const value = headers[header];
    if (typeof value === "string" && ID.test(value)) tags[tag] ??= value;
  }
  return tags;
}
