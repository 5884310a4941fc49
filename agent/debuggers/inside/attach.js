// Runs in a worker thread of the Node process that is debugged, so that it goes on while the main thread stands at a
// breakpoint. It opens nothing: it dials the agent, once for the control line and once for each client, and passes the
// inspector's messages on, a line of JSON each. When the control line ends, for whatever reason, so does the thread,
// and with it the debugger: the main thread runs on without breakpoints.
'use strict';
const { path, ticket } = require('worker_threads').workerData;
const inspector = require('inspector');
const net = require('net');

function dial(kind) {
  const socket = net.connect(path);
  socket.on('error', () => socket.destroy());
  socket.write(`${ticket} ${kind}\n`);
  return socket;
}

function eachLine(socket, take) {
  let begun = [];
  socket.setEncoding('utf8');
  socket.on('data', (text) => {
    const parts = text.split('\n');
    begun.push(parts.shift());
    for (const part of parts) {
      const line = begun.join('');
      begun = [part];
      take(line);
    }
  });
}

let client;

function serve() {
  const session = new inspector.Session();
  const socket = dial('client');
  const say = (message) => socket.destroyed || socket.write(`${JSON.stringify(message)}\n`);
  session.connectToMainThread();
  session.on('inspectorNotification', say);
  eachLine(socket, (line) => {
    const { id, method, params } = JSON.parse(line);
    session.post(method, params, (error, result) => say(error ? { id, error } : { id, result: result ?? {} }));
  });
  socket.on('close', () => session.disconnect());
  return socket;
}

function leave() {
  const leaving = client;
  client = undefined;
  // The session ends with its socket; only then has the main thread been let go.
  return new Promise((done) => (leaving && !leaving.closed ? leaving.on('close', done).destroy() : done()));
}

const control = dial('control');
const orders = {
  async client() {
    await leave();
    client = serve();
  },
  disconnect: leave,
  detach: leave,
};
control.on('close', () => process.exit());
control.write(`${JSON.stringify({ node: process.version })}\n`);
eachLine(control, async (line) => {
  const [order] = line.split(' ');
  await orders[order]?.();
  control.write(`${JSON.stringify({ done: order })}\n`);
});
