// Where SDKs and agents are pointed: said at start, and to a browser that opens the address.

/** What points SDKs and agents here, to be pasted into a shell. */
export function exportsOf(base: string): string {
  return `  export OPENAI_BASE_URL=${base}/openai/v1
  export ANTHROPIC_BASE_URL=${base}/anthropic
  export GOOGLE_GEMINI_BASE_URL=${base}/google
  codex -c openai_base_url=${base}/openai/v1        Codex reads no variable
`;
}
