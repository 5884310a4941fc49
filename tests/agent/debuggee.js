// A small HTTP service to be debugged, on any port of the loopback; it prints that port and tells of itself.
'use strict';
const http = require('http');
const { Worker, isMainThread } = require('worker_threads');

function price(amount, rate) {
  let total = amount * rate;
  if (total < 0) total = 0;
  return total; // the tests break here
}

function work(rounds) {
  let total = 0;
  for (let number = 0; number < rounds; number += 1) total = (total + number * 7) % 1000003;
  return total;
}

const answers = {
  price: (amount) => ({ price: price(Number(amount), 3) }),
  speed: () => {
    const begun = process.cpuUsage().user;
    work(20000000);
    return { microseconds: process.cpuUsage().user - begun };
  },
  look: () => ({
    environment: Object.keys(process.env).sort(),
    names: Object.getOwnPropertyNames(globalThis).sort(),
    listeners: process.eventNames().map(String).sort(),
    inspector: require('inspector').url() || null,
  }),
  exit: () => setImmediate(() => process.exit(7)) && {},
  block: (seconds) => {
    const end = Date.now() + Number(seconds) * 1000;
    while (Date.now() < end) work(1000);
    return { blocked: true };
  },
};

if (isMainThread) {
  const server = http.createServer((request, response) => {
    const [, word, rest] = request.url.split('/');
    response.end(JSON.stringify(answers[word](rest)));
  });
  server.keepAliveTimeout = 1;
  const up = () => server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));
  if (process.argv.includes('workers')) new Worker(__filename).on('message', up);
  else up();
  if (process.argv.includes('busy')) setInterval(() => work(200000), 2);
} else {
  require('worker_threads').parentPort.postMessage('up');
  setInterval(() => work(10), 1000);
}
