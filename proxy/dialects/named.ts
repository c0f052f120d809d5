// What a body names: models, and things at the provider.
import { NONE, textAt } from "./json.ts";

/** Models that a list of names, or of objects with a `model`, names. What names none is a model that nobody knows. */
export function modelsIn(value: unknown): readonly string[] {
  if (value === undefined || value === null) return NONE;
  if (!Array.isArray(value)) return [typeof value === "string" ? value : (textAt(value, "model") ?? "")];
  return value.flatMap(modelsIn);
}

/** The text of a reference: a name, or an object that has it as its id. */
export function idOf(value: unknown): readonly string[] {
  const id = typeof value === "object" ? textAt(value, "id") : value;
  return typeof id === "string" && id !== "" ? [id] : NONE;
}
