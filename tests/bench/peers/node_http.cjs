// Node's own HTTP server, without a framework: a route that answers JSON, and a redirect that nobody counts.
const http = require("node:http");

const links = new Map([["a", "https://a.example"]]);
const server = http.createServer((request, response) => {
  if (request.url === "/hello") {
    const body = JSON.stringify({ message: "hello" });
    response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
    response.end(body);
    return;
  }
  const target = request.url.startsWith("/s/") ? links.get(request.url.slice(3)) : undefined;
  if (target === undefined) response.writeHead(404, { "content-length": 0 });
  else response.writeHead(302, { location: target, "cache-control": "private, no-store", "content-length": 0 });
  response.end();
});
server.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ port: server.address().port })));
