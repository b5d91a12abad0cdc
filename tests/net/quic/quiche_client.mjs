// A QUIC client that is not aioquic: quiche, as the npm package @matrixai/quic carries it.
//
//   node quiche_client.mjs NODE_MODULES HOST PORT ALPN CA_FILE [CERTIFICATE KEY]
//
// Lines on standard input are hexadecimal bytes for stream 0; "close" ends the connection with error 0. Standard output
// gets one JSON object a line: {"established": ALPN}, {"data": HEX}, {"closed": {app, code, reason, peer}}.

import dgram from 'node:dgram';
import fs from 'node:fs';
import path from 'node:path';
import readline from 'node:readline';
import { randomFillSync } from 'node:crypto';
import { pathToFileURL } from 'node:url';

const [modules, host, port, alpn, ca, certificate, key] = process.argv.slice(2);
const native = path.join(modules, '@matrixai', 'quic', 'dist', 'native', 'index.js');
const { quiche } = await import(pathToFileURL(native).href);

const say = (object) => process.stdout.write(JSON.stringify(object) + '\n');
const file = (name) => (name ? [fs.readFileSync(name)] : null);
const config = quiche.Config.withBoringSslCtx(true, false, fs.readFileSync(ca), file(key), file(certificate), null);
config.setApplicationProtos([alpn]);
config.setMaxIdleTimeout(60000);
config.setInitialMaxData(1 << 20);
config.setInitialMaxStreamDataBidiLocal(1 << 20);
config.setInitialMaxStreamsBidi(0);
config.setMaxSendUdpPayloadSize(1200);
config.setMaxRecvUdpPayloadSize(65527);

const socket = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4');
await new Promise((resolve) => socket.bind(0, host, resolve));
const local = { host: socket.address().address, port: socket.address().port };
const remote = { host, port: Number(port) };
const id = randomFillSync(Buffer.alloc(16));
const connection = quiche.Connection.connect('localhost', id, local, remote, config);

const buffer = Buffer.alloc(65536);
const waiting = [];
let established = false;
let timer = null;
let over = false;

function turn() {
  if (over) return;
  if (connection.isEstablished() && !established) {
    established = true;
    say({ established: Buffer.from(connection.applicationProto()).toString() });
  }
  if (established) {
    for (const stream of connection.readable()) {
      let read;
      while ((read = connection.streamRecv(stream, buffer)) !== null) {
        const [size, finished] = read;
        say({ data: buffer.subarray(0, size).toString('hex'), finished });
        if (finished) break;
      }
    }
    while (waiting.length) {
      const sent = connection.streamSend(0, waiting[0], false);
      if (sent === null) break;
      waiting[0] = waiting[0].subarray(sent);
      if (waiting[0].length) break;
      waiting.shift();
    }
  }
  let out;
  while ((out = connection.send(buffer)) !== null) {
    socket.send(Buffer.from(buffer.subarray(0, out[0])), remote.port, remote.host);
  }
  clearTimeout(timer);
  if (connection.isClosed() || connection.isDraining()) {
    const error = connection.peerError() ?? connection.localError();
    say({
      closed: {
        app: error?.isApp ?? null,
        code: error?.errorCode ?? null,
        reason: error ? Buffer.from(error.reason).toString() : '',
        peer: connection.peerError() !== null,
        timed_out: connection.isTimedOut(),
      },
    });
    over = true;
    // What was sent last is still on its way to the socket.
    setTimeout(() => process.exit(0), 100);
    return;
  }
  const timeout = connection.timeout();
  if (timeout !== null) timer = setTimeout(() => { connection.onTimeout(); turn(); }, timeout);
}

socket.on('message', (data, from) => {
  try {
    connection.recv(data, { to: local, from: { host: from.address, port: from.port } });
  } catch (error) {
    say({ problem: String(error.message ?? error) });
  }
  turn();
});
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  if (line === 'close') connection.close(true, 0, Buffer.alloc(0));
  else waiting.push(Buffer.from(line, 'hex'));
  turn();
});
turn();
