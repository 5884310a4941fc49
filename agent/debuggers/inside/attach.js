// Runs in a worker thread of the Node process that is debugged, so that it goes on while the main thread stands at a
// breakpoint. It opens nothing: it dials the agent, once for the control line and once for each client, and passes the
// inspector's messages on, a line of JSON each. When the control line ends, for whatever reason, so does the thread,
// and with it the debugger: the main thread runs on without breakpoints.
'use strict';
const { threadId, workerData } = require('worker_threads');
const inspector = require('inspector');
const net = require('net');
const { path, ticket } = workerData;
const LONGEST = 64 * 1024 * 1024; // bytes that may wait for a client that does not read

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

// A client that stopped this thread could never let it go again, nor the main thread.
function hide(session) {
  const own = new Set();
  return ({ method, params }) => {
    if (method === 'NodeWorker.attachedToWorker' && params.workerInfo.title.startsWith(`[worker ${threadId}]`)) {
      own.add(params.sessionId);
      session.post('NodeWorker.detach', { sessionId: params.sessionId }, () => {});
      return true;
    }
    return own.has(params && params.sessionId);
  };
}

let client;

function serve() {
  const socket = dial('client');
  let gathers = false;
  const say = (message) => {
    if (socket.destroyed) return;
    if (!gathers) {
      // What comes at once goes as one: a message for each script, when a client comes.
      gathers = true;
      socket.cork();
      setImmediate(() => {
        gathers = false;
        socket.uncork();
      });
    }
    socket.write(`${JSON.stringify(message)}\n`);
    if (socket.writableLength > LONGEST) socket.destroy();
  };
  let session; // made for the first that is said: who only asks where to connect says nothing here
  const begin = () => {
    session = new inspector.Session();
    session.connectToMainThread();
    const hidden = hide(session);
    session.on('inspectorNotification', (message) => hidden(message) || say(message));
    socket.on('close', () => session.disconnect());
  };
  eachLine(socket, (line) => {
    let id;
    try {
      const { id: number, method, params = {} } = JSON.parse(line);
      id = number;
      if (!session) begin();
      session.post(method, params || {}, (error, result) => say(error ? { id, error } : { id, result: result || {} }));
    } catch (error) {
      say({ id, error: { code: -32600, message: String(error && error.message) } });
    }
  });
  return socket;
}

function leave() {
  const leaving = client;
  client = undefined;
  // The session ends with its socket; only then has the main thread been let go.
  return new Promise((done) => {
    if (!leaving || leaving.gone) done();
    else leaving.on('close', done).destroy();
  });
}

const control = dial('control');
const orders = {
  async client() {
    await leave();
    client = serve();
    const serving = client;
    serving.on('close', () => {
      serving.gone = true;
    });
    // It is done when it has dialed: an order to leave that came before would end what somebody waits for.
    await new Promise((done) => serving.once('connect', done).once('close', done));
  },
  disconnect: leave,
  detach: leave,
};
control.on('close', () => process.exit());
control.write(`${JSON.stringify({ node: process.version })}\n`);
eachLine(control, async (line) => {
  const [order] = line.split(' ');
  if (orders[order]) await orders[order]();
  control.write(`${JSON.stringify({ done: order })}\n`);
});
