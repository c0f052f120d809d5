// The part of PromQL that the money rules are written in: selectors, comparison of a figure with a number, another
// figure or a number of times it, `and` and `unless`. Read by Prometheus' own grammar, so that a rule means here what
// it means there; what lies outside the part is said, not guessed. Pure.
import type { SyntaxNode } from "@lezer/common";
import { parser } from "@prometheus-io/lezer-promql";

export type Labels = { readonly [name: string]: string };
/** One sample of a series; `name` is the metric's. */
export type Sample = { readonly name: string; readonly labels: Labels; readonly value: number };

/** How two sides find each other: by these labels only, or by all but these. Undefined: by all. */
type Matching = { readonly kind: "on" | "ignoring"; readonly labels: readonly string[] } | undefined;
type Matcher = { readonly label: string; readonly op: "=" | "!=" | "=~" | "!~"; readonly value: string };
const COMPARISONS = { Gtr: ">", Lss: "<", Gte: ">=", Lte: "<=", Eql: "==", Neq: "!=" } as const;
type Comparison = (typeof COMPARISONS)[keyof typeof COMPARISONS];

export type Expression =
  | { readonly type: "selector"; readonly name: string; readonly matchers: readonly Matcher[] }
  | { readonly type: "times"; readonly factor: number; readonly of: Expression }
  | { readonly type: "number"; readonly value: number }
  | {
      readonly type: "compare";
      readonly op: Comparison;
      readonly left: Expression;
      readonly right: Expression;
      readonly matching: Matching;
    }
  | {
      readonly type: "and" | "unless";
      readonly left: Expression;
      readonly right: Expression;
      readonly matching: Matching;
    };

/** Says which part of an expression is more than is understood here. */
export class NeedsPrometheus extends Error {
  override readonly name = "NeedsPrometheus";
}

/** Throws NeedsPrometheus for what is outside the part, and for what is no PromQL. */
export function parseExpression(text: string): Expression {
  const tree = parser.parse(text);
  tree.iterate({
    enter: ({ type, from, to }) => {
      if (type.isError) throw new NeedsPrometheus(`"${text.slice(from, to) || text}" is no PromQL`);
    },
  });
  const root = tree.topNode.firstChild;
  if (!root) throw new NeedsPrometheus("the expression is empty");
  return read(root, text);
}

/** The names of all metrics that an expression looks at. */
export function metricsIn(expression: Expression): string[] {
  switch (expression.type) {
    case "selector":
      return [expression.name];
    case "number":
      return [];
    case "times":
      return metricsIn(expression.of);
    case "compare":
    case "and":
    case "unless":
      return [...metricsIn(expression.left), ...metricsIn(expression.right)];
  }
}

/** What an expression holds for, as Prometheus answers it: samples without the metric's name. Throws an Error where two
 *  series of one side fit one of the other. */
export function evaluate(expression: Expression, samples: readonly Sample[]): Sample[] {
  switch (expression.type) {
    case "selector":
      return samples.filter(
        ({ name, labels }) =>
          name === expression.name &&
          expression.matchers.every((matcher) => fits(matcher, labels[matcher.label] ?? "")),
      );
    case "number":
      return [{ name: "", labels: {}, value: expression.value }];
    case "times":
      return evaluate(expression.of, samples).map((one) => ({ ...one, value: one.value * expression.factor }));
    case "compare": {
      const left = evaluate(expression.left, samples);
      if (expression.right.type === "number") {
        const { value } = expression.right;
        return left.filter((one) => compare(one.value, expression.op, value));
      }
      const { matching } = expression;
      const right = byKey(evaluate(expression.right, samples), matching, "the right side");
      byKey(left, matching, "the left side");
      return left
        .filter((one) => {
          const other = right.get(keyOf(one.labels, matching));
          return other !== undefined && compare(one.value, expression.op, other.value);
        })
        .map((one) => ({ ...one, labels: kept(one.labels, matching) }));
    }
    case "and":
    case "unless": {
      const keys = new Set(evaluate(expression.right, samples).map((one) => keyOf(one.labels, expression.matching)));
      return evaluate(expression.left, samples).filter(
        (one) => keys.has(keyOf(one.labels, expression.matching)) === (expression.type === "and"),
      );
    }
  }
}

/** One text for one set of labels, whatever their order. */
export function labelKey(labels: Labels): string {
  return JSON.stringify(Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function read(node: SyntaxNode, text: string): Expression {
  const source = text.slice(node.from, node.to);
  switch (node.name) {
    case "ParenExpr":
      return read(childOf(node, 0, source), text);
    case "NumberDurationLiteral": {
      const value = Number(source);
      if (Number.isNaN(value)) throw new NeedsPrometheus(`"${source}" is no plain number`);
      return { type: "number", value };
    }
    case "VectorSelector": {
      const name = node.getChild("Identifier");
      if (!name) throw new NeedsPrometheus(`"${source}" names no metric`);
      const matchers = node.getChild("LabelMatchers")?.getChildren("UnquotedLabelMatcher") ?? [];
      return {
        type: "selector",
        name: text.slice(name.from, name.to),
        matchers: matchers.map((one) => matcherOf(one, text)),
      };
    }
    case "BinaryExpr":
      return readBinary(node, text);
    default:
      throw new NeedsPrometheus(`"${source}" (${node.name}) is more than is evaluated here`);
  }
}

function readBinary(node: SyntaxNode, text: string): Expression {
  const parts = childrenOf(node).filter(({ name }) => name !== "MatchingModifierClause" && name !== "BoolModifier");
  const [leftNode, op, rightNode] = parts;
  const source = text.slice(node.from, node.to);
  if (!leftNode || !op || !rightNode || node.getChild("BoolModifier"))
    throw new NeedsPrometheus(`"${source}" is more than is evaluated here`);
  const matching = matchingOf(node.getChild("MatchingModifierClause"), text);
  const left = read(leftNode, text);
  const right = read(rightNode, text);
  if (op.name === "And" || op.name === "Unless")
    return { type: op.name === "And" ? "and" : "unless", left, right, matching };
  if (op.name === "Mul" && left.type === "number" && right.type === "selector")
    return { type: "times", factor: left.value, of: right };
  const comparison = (COMPARISONS as { readonly [name: string]: Comparison | undefined })[op.name];
  if (comparison === undefined || left.type === "number")
    throw new NeedsPrometheus(`"${source}" is more than is evaluated here`);
  return { type: "compare", op: comparison, left, right, matching };
}

function matcherOf(node: SyntaxNode, text: string): Matcher {
  const [label, op, value] = childrenOf(node).map(({ from, to }) => text.slice(from, to));
  if (label === undefined || value === undefined || (op !== "=" && op !== "!=" && op !== "=~" && op !== "!~"))
    throw new NeedsPrometheus(`"${text.slice(node.from, node.to)}" is no matcher`);
  // Single quotes and backticks are rare enough to be written with double ones.
  if (!value.startsWith('"')) throw new NeedsPrometheus(`${value}: write it in double quotes`);
  return { label, op, value: JSON.parse(value) as string };
}

function matchingOf(node: SyntaxNode | null, text: string): Matching {
  if (!node) return undefined;
  if (node.getChild("GroupLeft") || node.getChild("GroupRight"))
    throw new NeedsPrometheus(`"${text.slice(node.from, node.to)}": many to one is more than is evaluated here`);
  const labels = node.getChild("GroupingLabels")?.getChildren("LabelName") ?? [];
  return {
    kind: node.getChild("On") ? "on" : "ignoring",
    labels: labels.map(({ from, to }) => text.slice(from, to)),
  };
}

function childrenOf(node: SyntaxNode): SyntaxNode[] {
  const children: SyntaxNode[] = [];
  for (let child = node.firstChild; child; child = child.nextSibling) children.push(child);
  return children;
}

function childOf(node: SyntaxNode, index: number, source: string): SyntaxNode {
  const child = childrenOf(node)[index];
  if (!child) throw new NeedsPrometheus(`"${source}" is empty`);
  return child;
}

function compare(a: number, op: Comparison, b: number): boolean {
  switch (op) {
    case ">":
      return a > b;
    case "<":
      return a < b;
    case ">=":
      return a >= b;
    case "<=":
      return a <= b;
    case "==":
      return a === b;
    case "!=":
      return a !== b;
  }
}

/** Prometheus anchors its patterns. */
function fits({ op, value }: Matcher, given: string): boolean {
  switch (op) {
    case "=":
      return given === value;
    case "!=":
      return given !== value;
    case "=~":
      return new RegExp(`^(?:${value})$`, "s").test(given);
    case "!~":
      return !new RegExp(`^(?:${value})$`, "s").test(given);
  }
}

/** Labels that a match is made by; an empty label is none. */
function kept(labels: Labels, matching: Matching): Labels {
  const isKept = (name: string): boolean =>
    matching === undefined || matching.labels.includes(name) === (matching.kind === "on");
  return Object.fromEntries(Object.entries(labels).filter(([name, value]) => value !== "" && isKept(name)));
}

function keyOf(labels: Labels, matching: Matching): string {
  return labelKey(kept(labels, matching));
}

function byKey(samples: readonly Sample[], matching: Matching, side: string): Map<string, Sample> {
  const found = new Map<string, Sample>();
  for (const sample of samples) {
    const key = keyOf(sample.labels, matching);
    if (found.has(key)) throw new Error(`${side} of a comparison has two series for ${key}`);
    found.set(key, sample);
  }
  return found;
}
