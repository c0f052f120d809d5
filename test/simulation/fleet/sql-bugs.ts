// Mistakes that are put into the schema of Postgres, one at a time: what it answers beside the database in memory has to
// tell each.
import type { Bug } from "../bugs.ts";

const FILE = "migrations/postgres/0005-batches.sql";

export const SQL_BUGS: readonly Bug[] = [
  {
    what: "what was decided by an old register is booked",
    file: FILE,
    is: "IF its_version <> known.version THEN",
    becomes: "IF false THEN",
  },
  {
    what: "a batch that is sent again is no batch that is known",
    file: FILE,
    is: "IF batch = held.last_batch AND its_digest = held.work_digest THEN",
    becomes: "IF false THEN",
  },
  {
    what: "a batch that is sent again is answered without what it was granted",
    file: FILE,
    is: "answer = json_build_object('firsts', firsts, 'grants', given -> 'grants', 'vain', given -> 'vain'),",
    becomes: "answer = json_build_object('firsts', firsts, 'grants', '[]'::json, 'vain', given -> 'vain'),",
  },
  {
    what: "what others have settled is settled again",
    file: FILE,
    is: "IF missing IS NOT NULL THEN",
    becomes: "IF false THEN",
  },
  {
    what: "what others were granted is granted again",
    file: FILE,
    is: "SELECT COALESCE(SUM(granted_nano_usd), 0)::bigint AS granted,",
    becomes: "SELECT COALESCE(SUM(granted_nano_usd) FILTER (WHERE node = its_node), 0)::bigint AS granted,",
  },
  {
    what: "more money has no end",
    file: FILE,
    is: "'untilMs', until, 'settled'",
    becomes: "'untilMs', NULL, 'settled'",
  },
  {
    what: "what is given ahead is taken from those that wait",
    file: FILE,
    is: "CASE WHEN is_wanted[ask.at] OR ask.at - 1 = ANY(wanting) THEN 0 ELSE",
    becomes: "CASE WHEN false THEN 0 ELSE",
  },
  {
    what: "a part of what an attempt needs is given",
    file: FILE,
    is: "IF lacks IS NULL THEN",
    becomes: "IF true THEN",
  },
  {
    what: "work that goes on stays granted to its node",
    file: FILE,
    is: "    granted_nano_usd = kept.granted_nano_usd - more.held\n",
    becomes: "    granted_nano_usd = kept.granted_nano_usd\n",
  },
  {
    what: "work that another attempt stands for is first all the same",
    file: FILE,
    is: "ORDER BY provider, work_id ON CONFLICT DO NOTHING RETURNING attempt_id)",
    becomes:
      "ORDER BY provider, work_id ON CONFLICT (provider, name) DO UPDATE SET attempt_id = excluded.attempt_id RETURNING attempt_id)",
  },
  {
    what: "what is nobody's is added up before it is there",
    file: FILE,
    is: "FROM jsonb_populate_recordset(NULL::usage.escrow, rows) GROUP BY 1, 2, 3) AS more",
    becomes:
      "FROM jsonb_populate_recordset(NULL::usage.escrow, rows) WHERE settled_nano_usd = 0 GROUP BY 1, 2, 3) AS more",
  },
  {
    what: "who waits for nothing asks in vain",
    file: FILE,
    is: "SELECT NOT EXISTS (SELECT 1 FROM summed WHERE free > 0) AND NOT EXISTS (",
    becomes: "SELECT NOT EXISTS (",
  },
];
