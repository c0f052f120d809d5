// All forms, by their names in addresses.
import { approveAsk, raiseBudget, refuseAsk, removeBudget, setBudget } from "./budgets.ts";
import type { Form } from "./form.ts";
import { makeKey, pauseKey, resumeKey, revokeKey, rotateKey } from "./keys.ts";

export const FORMS: ReadonlyMap<string, Form> = new Map(
  Object.entries({
    "make-key": makeKey,
    "pause-key": pauseKey,
    "resume-key": resumeKey,
    "revoke-key": revokeKey,
    "rotate-key": rotateKey,
    "set-budget": setBudget,
    "raise-budget": raiseBudget,
    "remove-budget": removeBudget,
    "approve-ask": approveAsk,
    "refuse-ask": refuseAsk,
  }),
);
