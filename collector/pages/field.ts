// A field of a form.
export type Field = {
  readonly name: string;
  readonly label: string;
  /** `fixed`: shown, and not to be changed here. */
  readonly kind: "text" | "usd" | "day" | "choice" | "fixed";
  readonly isRequired?: true;
  /** Below the field. */
  readonly note?: string;
  readonly options?: readonly { readonly value: string; readonly label: string }[];
  readonly fallback?: string;
};
