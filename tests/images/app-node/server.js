// The classic web app: listens where APP_URLS says, and answers with what stands in the file beside it.
"use strict";
const fs = require("fs"), http = require("http");

const version = fs.readFileSync("version");
const port = Number(new URL(process.env.APP_URLS.replace("+", "any")).port) || 80;

http.createServer((request, answer) => answer.end(version)).listen(port, () => console.log("listens on port %d", port));
