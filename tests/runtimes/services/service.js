// A service of one function: GET /scaled?number=N answers {"answer": 2 N, "count": 1},
// the latter the time it was asked for N (below 1000).
//
// `service.js HOST:PORT [BUSY]`: with BUSY the event loop always has something to do.
// Says `service ready on http://HOST:PORT`.
'use strict';
const http = require('http');

const counts = new Array(1000).fill(0);

function scaled(number) {
  let factor = 2;
  return number * factor; // the tests break here
}

function work() {
  let total = 0;
  for (let number = 0; number < 20000; number++) total += number % 7;
  setTimeout(work, 1, total);
}

const [address, busy] = process.argv.slice(2);
const [host, port] = address.split(':');
if (Number(busy)) work();
const server = http.createServer((request, response) => {
  const number = Number(new URL(request.url, 'http://here').searchParams.get('number'));
  const count = ++counts[number % counts.length];
  response.end(JSON.stringify({ answer: scaled(number), count }));
});
server.listen(Number(port), host, () => {
  console.log(`service ready on http://${host}:${server.address().port}`);
});
