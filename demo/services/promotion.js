// Says what a customer's points are good for: GET /gift?points=300. A service of the demo, on Node's own modules.
'use strict';

const http = require('node:http');

// From so many points on.
const GIFTS = { 50: 'sticker', 100: 'mug', 250: 'bag', 1000: 'bicycle' };

// The best gift for this many points, or null.
function gift(points) {
  const reached = Object.keys(GIFTS).filter((threshold) => Number(threshold) <= points).sort();
  let best = reached[reached.length - 1];
  const name = GIFTS[best] ?? null;
  return name;
}

function pointsOf(text) {
  if (text === null) throw new RangeError('points is missing; try /gift?points=300');
  if (!/^\d{1,6}$/.test(text)) throw new RangeError(`points is a whole number from 0 to 999999, not '${text}'`);
  return Number(text);
}

function page(url) {
  if (url.pathname === '/healthz') return [200, { status: 'ok' }];
  if (url.pathname !== '/gift') return [404, { error: `no such page: ${url.pathname}; try /gift?points=300` }];
  try {
    const points = pointsOf(url.searchParams.get('points'));
    return [200, { points, gift: gift(points) }];
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return [400, { error: error.message }];
  }
}

function answer(request, response) {
  const [status, content] = page(new URL(request.url, 'http://promotion'));
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(content));
}

function fail(message) {
  process.stderr.write(`promotion: ${message}\n`);
  process.exit(2);
}

function main(argv) {
  if (argv.length && (argv.length !== 2 || argv[0] !== '--listen')) fail('usage: promotion [--listen HOST:PORT]');
  const text = argv[1] ?? '127.0.0.1:0';
  const [, host, port] = /^(.+):(\d{1,5})$/.exec(text) ?? fail(`--listen: expected HOST:PORT, not '${text}'`);
  if (Number(port) > 65535) fail(`--listen: expected HOST:PORT, not '${text}'`);
  const server = http.createServer(answer);
  server.on('error', (error) => fail(`--listen: ${error.message}`));
  server.listen(Number(port), host, () => {
    process.stdout.write(`promotion ready on http://${host}:${server.address().port}\n`);
  });
  for (const name of ['SIGTERM', 'SIGINT']) process.on(name, () => process.exit(0));
}

main(process.argv.slice(2));
