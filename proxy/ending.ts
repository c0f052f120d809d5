// How the provider's side of an exchange ended: what the books and the client's last bytes go by.

export type Ending = {
  /** `ended`: the body came to its end. `unreachable`: no byte was sent. `failed`: cut, timeout or nonsense after bytes
   *  were sent. `client_left`, `stopped`, `cut`, `capped`: we ended it, for the client had gone, this program stops,
   *  whoever runs it said so, or a budget had no more. */
  readonly how: "ended" | "unreachable" | "failed" | "client_left" | "stopped" | "cut" | "capped";
  readonly timedOut: boolean;
  /** Whether the request was, or may have been, written to the provider. */
  readonly sent: boolean;
  /** The provider's status, undefined when none came. */
  readonly status: number | undefined;
  readonly firstByteMs: number | undefined;
  readonly providerRequestId: string | undefined;
  /** Names and values of the answer's headers, as the client sees them. */
  readonly headers?: readonly string[] | undefined;
  /** A few words for the log and the client, without secrets. */
  readonly error: string | undefined;
};

/** An ending without an answer of the provider's, by an error of ours. */
export function withoutAnswer(how: Ending["how"], sent: boolean, error: string): Ending {
  return {
    how,
    timedOut: false,
    sent,
    status: undefined,
    firstByteMs: undefined,
    providerRequestId: undefined,
    error,
  };
}
