// A form as an object: its text fields are members, of a file its size is one.
import type { IncomingHttpHeaders } from "node:http";
import type { JsonObject } from "./dialects/json.ts";
import { Refused } from "./refusals.ts";

type ContentHeaders = Pick<IncomingHttpHeaders, "content-type">;

const MOST_FIELDS = 1_000;

/** The boundary among the parameters of a form's type. */
const BOUNDARY = /; *boundary=(?:"([\w'()+,./:=? -]{1,70})"|([\w'()+,./:=?-]{1,70})) *(?=;|$)/gi;

/** Reads the fields of a form, which is what routes of sound and pictures take: text as text, of a file its size, of a
 *  list (`image[]`) its items. A field that stands twice is refused, and so is a form whose parts two readers could cut
 *  differently. */
export async function readForm(headers: ContentHeaders, body: Buffer): Promise<JsonObject> {
  const type = headers["content-type"] ?? "";
  const boundaries = [...type.matchAll(BOUNDARY)];
  const [boundary] = boundaries;
  if (
    !/^multipart\/form-data *;/i.test(type) ||
    !boundary ||
    boundaries.length > 1 ||
    type.match(/boundary/gi)?.length !== 1
  )
    throw new Refused("bad_body", "the content-type of a form is multipart/form-data with one boundary");
  countParts(body, `--${boundary[1] ?? boundary[2] ?? ""}`);
  let form: FormData;
  try {
    form = await new Response(body as Uint8Array<ArrayBuffer>, { headers: { "content-type": type } }).formData();
  } catch {
    throw new Refused("bad_body", "the body is not the form that its content-type says; send multipart/form-data");
  }
  const fields: { [name: string]: unknown } = Object.create(null) as { [name: string]: unknown };
  for (const [name, value] of form) {
    const read = typeof value === "string" ? value : { bytes: value.size };
    if (name.endsWith("[]")) {
      const list = name.slice(0, -2);
      const known = fields[list];
      if (Array.isArray(known)) known.push(read);
      else if (known === undefined) fields[list] = [read];
      else throw twice(list);
      continue;
    }
    if (name in fields) throw twice(name);
    fields[name] = read;
  }
  return fields;
}

function twice(name: string): Refused {
  return new Refused("bad_body", `the field "${name.slice(0, 80)}" stands twice; which one counts would be a guess`);
}

/** Refuses a form of too many parts before it is cut into them. */
function countParts(body: Buffer, delimiter: string): void {
  let parts = 0;
  for (let at = body.indexOf(delimiter); at >= 0; at = body.indexOf(delimiter, at + delimiter.length))
    if (++parts > MOST_FIELDS + 1) throw new Refused("bad_body", `the form has more than ${MOST_FIELDS} fields`);
}

/** Whether a body is a form. */
export function isForm(headers: ContentHeaders): boolean {
  return /^multipart\/form-data *;/i.test(headers["content-type"] ?? "");
}
