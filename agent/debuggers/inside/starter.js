// Is evaluated on the main thread of a Node process, maybe in the middle of anything that it does: so nothing may be
// thrown, and nothing is left behind. `require` is only there during the evaluation (includeCommandLineAPI).
({ path, ticket, source, close }) => {
  try {
    const find = (name) => (process.getBuiltinModule ? process.getBuiltinModule(name) : require(name));
    const [inspector, fs, soon, later] = [find('inspector'), find('fs'), setImmediate, setTimeout];
    const say = (problem) => {
      const socket = find('net').connect(path);
      socket.on('error', () => {});
      socket.end(`${ticket} control\n${JSON.stringify({ problem })}\n`);
      socket.unref();
    };
    const others = () => {
      // Connections to the inspector's port: a port that closes has the main thread wait for a client that stays.
      const port = Number(new URL(inspector.url()).port).toString(16).toUpperCase().padStart(4, '0');
      const seen = new RegExp(`:${port} [0-9A-F]+:[0-9A-F]{4} 01 `);
      const table = (name) => {
        try {
          return fs.readFileSync(`/proc/self/net/${name}`, 'latin1');
        } catch {
          return '';
        }
      };
      return seen.test(table('tcp') + table('tcp6'));
    };
    const shut = () => {
      try {
        if (!inspector.url()) return;
        if (others()) later(shut, 1000).unref();
        else inspector.close();
      } catch {}
    };
    // The one who asks has said already that it leaves.
    if (close === 'now') inspector.close();
    if (close !== 'no') {
      // A main thread that is busy hears of the signal twice: now, and when its loop turns, which opens the port again.
      // On a busy machine the thread that tells it of the signal may come to that late.
      soon(shut);
      for (const pause of [20, 500, 3000]) later(shut, pause).unref();
    }
    if (!source) return;
    try {
      // Before these, the whole process ended when a thread closed its session (nodejs/node#46942).
      const [major, minor] = process.versions.node.split('.').map(Number);
      if (major < 18 || major === 19 || (major === 18 && minor < 17)) {
        throw new Error(`Node ${process.versions.node} crashes when a debugger leaves; that takes 18.17, or 20 and newer`);
      }
      // Beyond its limits a worker ends alone; without limits of its own it would take the process with it.
      const resourceLimits = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 8 };
      const options = { eval: true, env: {}, execArgv: [], resourceLimits, workerData: { path, ticket } };
      const worker = new (find('worker_threads').Worker)(source, options);
      worker.on('error', () => {});
      worker.unref();
    } catch (error) {
      say(String(error && error.message));
    }
  } catch {}
}
