// How long things are kept.

/** No event that is younger leaves the books, whatever a setting says: bills, comparisons and windows still ask for it. */
export const LEAST_DAYS = 40;

/** How long what is no event is kept; undefined: for ever. */
export type KeptDays = {
  readonly rawUsageDays?: number | undefined;
  readonly refusalsDays?: number | undefined;
  readonly addressesDays?: number | undefined;
};
