"""QUIC by aioquic: a server that sends streams back turned round, and a client that checks what comes.

    quic.py serve | quic.py ask HOST PORT BYTES
"""
import asyncio
import datetime
import hashlib
import os
import ssl
import sys

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ALPN = ["turn-round"]


def certificate():
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jar.test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - day).not_valid_after(now + day)
    return builder.sign(key, hashes.SHA256()), key


class TurnRound(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.streams = {}

    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived):
            data = self.streams.setdefault(event.stream_id, bytearray())
            data += event.data
            if event.end_stream:
                self._quic.send_stream_data(event.stream_id, bytes(reversed(data)), end_stream=True)
                self.transmit()


async def serving():
    config = QuicConfiguration(is_client=False, alpn_protocols=ALPN)
    config.certificate, config.private_key = certificate()
    await serve("::", 4433, configuration=config, create_protocol=TurnRound)
    print("serving", flush=True)
    await asyncio.Event().wait()


async def asking(host, port, size):
    config = QuicConfiguration(is_client=True, alpn_protocols=ALPN, verify_mode=ssl.CERT_NONE)
    async with connect(host, port, configuration=config) as client:
        async def one():
            data = os.urandom(size)
            reader, writer = await client.create_stream()
            writer.write(data)
            writer.write_eof()
            got = await reader.read()
            return hashlib.sha256(got).digest() == hashlib.sha256(data[::-1]).digest()
        print("right" if all(await asyncio.gather(*(one() for _ in range(3)))) else "WRONG", flush=True)


if sys.argv[1] == "serve":
    asyncio.run(serving())
else:
    asyncio.run(asyncio.wait_for(asking(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])), 60))
