// Answers requests by path.
const http = require("node:http");

exports.serve = (port, routes) =>
  http
    .createServer((request, response) => {
      const route = routes[request.url];
      response.writeHead(route ? 200 : 404, { "content-type": "application/json" });
      response.end(JSON.stringify(route ? route() : { error: "not found" }) + "\n");
    })
    .listen(port);
