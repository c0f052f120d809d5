-- additive
-- Tags of before may hold half a character, which Postgres reads in no JSON: U+FFFD is read for it. Whole characters are never
-- written as such an escape.
CREATE OR REPLACE FUNCTION usage.json_extract(document text, path text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
  RETURN (CASE WHEN document ~ '\\u[dD][89a-fA-F]' THEN regexp_replace(document, '\\u[dD][89a-fA-F][0-9a-fA-F]{2}', '\\ufffd', 'g')
    ELSE document END)::json ->> trim(BOTH '"' FROM substr(path, 3));
