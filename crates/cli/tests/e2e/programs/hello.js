// A hello server as everybody writes it: no address given, so node asks for `::`.
require('http').createServer((req, res) => res.end('hello from node\n')).listen(3000, () => console.log('listening'));
