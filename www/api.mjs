// The API report: what each entry of the npm package exports, from its types, as docs/api.md. A change of the API is a change
// of that file, which reviewers see.
//
//   node api.mjs [--check]      after the web build

import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";

import prettier from "prettier";
import ts from "typescript";

const WWW = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const DIST = process.env.HEADWATER_DIST ?? path.join(WWW, "dist");
const REPORT = path.join(WWW, "../docs/api.md");

const HEAD = `# API of the player

What the npm package \`headwater-player\` exports, made from its types by \`node www/api.mjs\`. The attributes and events of
\`<headwater-video>\` are in [www/player](../www/player/README.md).
`;

/** What is declared and is nobody's business. */
const isPrivate = (line) => /^\s*(private |#private;|\[x: `__#)/.test(line);

/** A declaration with its documentation, as the types have it. */
function textOf(declaration) {
  const statement = ts.isVariableDeclaration(declaration) ? declaration.parent.parent : declaration;
  const text = statement.getSourceFile().text.slice(statement.getFullStart(), statement.getEnd());
  const lines = text.split("\n").filter((line) => !isPrivate(line));
  return lines
    .join("\n")
    .replace(/^\s*\/\/.*\n/gm, "")
    .replace(/\bexport (default )?(declare )?/, "")
    .trim();
}

function sectionOf(checker, program, name, file) {
  const source = program.getSourceFile(file);
  if (!source) throw new Error(`${file} is missing: run \`cargo xtask web\``);
  const exported = checker.getExportsOfModule(checker.getSymbolAtLocation(source));
  const texts = exported
    .map((symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol))
    .toSorted((one, other) => (one.name < other.name ? -1 : 1))
    .flatMap((symbol) => (symbol.declarations ?? []).map(textOf));
  return `\n## \`${name}\`\n\n\`\`\`ts\n${texts.join("\n\n")}\n\`\`\`\n`;
}

async function report() {
  const { exports } = JSON.parse(await readFile(path.join(DIST, "package.json"), "utf8"));
  const entries = Object.entries(exports).filter(([name, entry]) => entry.types && name !== "./hls");
  const files = entries.map(([, { types }]) => path.join(DIST, types));
  const options = {
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    skipLibCheck: true,
  };
  const program = ts.createProgram(files, { ...options, noEmit: true, types: [] });
  const checker = program.getTypeChecker();
  const sections = entries.map(([name], at) =>
    sectionOf(checker, program, name.replace(/^\./, "headwater-player"), files[at]),
  );
  return await prettier.format(HEAD + sections.join(""), { parser: "markdown", printWidth: 120 });
}

const text = await report();
if (!process.argv.includes("--check")) await writeFile(REPORT, text);
else if ((await readFile(REPORT, "utf8").catch(() => "")) !== text) {
  console.error("the API has changed: run `node www/api.mjs` and look at the changes of docs/api.md");
  process.exitCode = 1;
}
