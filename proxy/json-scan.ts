// Reads the top-level fields of a JSON body as it passes, in any pieces and any size, holding only the fields asked
// for. Also of a JSON array of objects (Gemini streams without SSE): then each object's fields, one object after the
// other.

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COLON = 0x3a;
const COMMA = 0x2c;

/** A captured value longer than this is given up: no usage object is. */
const MOST_CAPTURED = 65_536;
const LONGEST_NAME = 128;

export type FieldScanner = {
  push(chunk: Uint8Array): void;
  /** The fields of the object in work, parsed. */
  fields(): { readonly [name: string]: unknown };
  /** Whether the root value is closed. */
  readonly complete: boolean;
  /** Whether the root is an array of objects. */
  readonly isArray: boolean;
};

/** `onObject` is called at the end of each object of an array root, with its fields. */
export function createFieldScanner(
  names: readonly string[],
  onObject?: (fields: { readonly [name: string]: unknown }) => void,
): FieldScanner {
  const wanted = new Set(names);
  let found = new Map<string, string>();
  let depth = 0;
  let base = 1;
  let isArray = false;
  let inString = false;
  let escaped = false;
  let expectsName = false;
  /** The name being read, the last name read, and the value being captured: latin1 text. */
  let name: string | undefined;
  let lastName = "";
  let capture: string | undefined;
  let complete = false;

  const endCapture = (): void => {
    if (capture !== undefined && capture.length <= MOST_CAPTURED) found.set(lastName, capture);
    capture = undefined;
  };

  return {
    get complete() {
      return complete;
    },
    get isArray() {
      return isArray;
    },
    fields: () => parsed(found),
    push(chunk) {
      const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      let captureFrom = 0;
      let nameFrom = 0;
      for (let i = 0; i < buffer.length; i++) {
        if (inString) {
          if (escaped) {
            escaped = false;
            continue;
          }
          const byte = buffer[i];
          if (byte === BACKSLASH) escaped = true;
          else if (byte === QUOTE) {
            inString = false;
            if (name !== undefined) {
              lastName = name + buffer.toString("latin1", nameFrom, i);
              name = undefined;
            }
          }
          continue;
        }
        switch (buffer[i]) {
          case QUOTE:
            inString = true;
            if (expectsName && depth === base) {
              name = "";
              nameFrom = i + 1;
            }
            break;
          case OPEN_BRACE:
          case OPEN_BRACKET:
            if (depth === 0 && buffer[i] === OPEN_BRACKET) {
              isArray = true;
              base = 2;
            }
            depth += 1;
            if (depth === base) {
              found = new Map();
              expectsName = true;
            }
            break;
          case COLON:
            if (depth === base && expectsName) {
              expectsName = false;
              if (wanted.has(lastName)) {
                capture = "";
                captureFrom = i + 1;
              }
            }
            break;
          case COMMA:
            if (depth === base) {
              if (capture !== undefined) {
                capture += buffer.toString("latin1", captureFrom, i);
                endCapture();
              }
              expectsName = true;
            }
            break;
          case CLOSE_BRACE:
          case CLOSE_BRACKET:
            if (depth === base && capture !== undefined) {
              capture += buffer.toString("latin1", captureFrom, i);
              endCapture();
            }
            if (depth === base && isArray) onObject?.(parsed(found));
            depth -= 1;
            if (depth === 0) complete = true;
            break;
          default:
            break;
        }
      }
      // What goes on in the next chunk.
      if (capture !== undefined && capture.length <= MOST_CAPTURED) capture += buffer.toString("latin1", captureFrom);
      if (name !== undefined && name.length <= LONGEST_NAME) name += buffer.toString("latin1", nameFrom);
    },
  };
}

function parsed(found: ReadonlyMap<string, string>): { [name: string]: unknown } {
  const fields: { [name: string]: unknown } = {};
  for (const [field, text] of found) {
    try {
      fields[field] = JSON.parse(text);
    } catch {
      // A value that is no JSON is treated as absent: the usage is then unknown, not wrong.
    }
  }
  return fields;
}
