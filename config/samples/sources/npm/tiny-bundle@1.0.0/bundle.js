#!/usr/bin/env node
// tiny-bundle IN OUT: leaves comments and empty lines out.
const fs = require("node:fs");
const path = require("node:path");

const [input, output] = process.argv.slice(2);
const lines = fs.readFileSync(input, "utf8").split("\n");
fs.mkdirSync(path.dirname(output), { recursive: true });
fs.writeFileSync(output, lines.filter((line) => line.trim() && !line.trim().startsWith("//")).join("\n") + "\n");
