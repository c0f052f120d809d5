/** The name under which our own rules speak; nobody else has it. */
export const OWN_SOURCE = "keymeter";
