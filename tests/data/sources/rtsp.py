"""A server of one RTSP stream on this machine, for tests: as small as FFmpeg allows (RFC 2326, RFC 2250)."""

import socketserver
import struct
import threading
import time
from contextlib import contextmanager

import cv2
import numpy as np

PACKET = 188 * 7  # bytes of MPEG-TS in a packet of RTP, whose payload type for it is 33
DESCRIPTION = b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track1\r\n"
EXTRA = {
    "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
    "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n",
    "PLAY": "Session: 1\r\n",
}


def transport_stream(path, frames=50):
    """Return the bytes of an MPEG transport stream of grey frames of 64 x 48 px; ``path`` must end in ``.ts``."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 48))
    for number in range(frames):
        writer.write(np.full((48, 64, 3), number * 4 % 256, np.uint8))
    writer.release()
    return path.read_bytes()


@contextmanager
def serve_rtsp(content):
    """Within the block, give the address of a stream that sends ``content`` once a connection, and then ends."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self):
            while request := self.rfile.readline().decode():
                method, number = request.split()[0], "0"
                while header := self.rfile.readline().decode().strip():
                    name, _, value = header.partition(":")
                    number = value.strip() if name.lower() == "cseq" else number
                body = DESCRIPTION if method == "DESCRIBE" else b""
                kind = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n" if body else ""
                head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{EXTRA.get(method, '')}{kind}\r\n"
                self.wfile.write(head.encode() + body)
                if method == "PLAY":
                    return self.play()

        def play(self):
            for number, start in enumerate(range(0, len(content), PACKET)):
                rtp = struct.pack(">BBHII", 0x80, 33, number, number * 3000, 1) + content[start : start + PACKET]
                try:
                    self.wfile.write(b"$\0" + struct.pack(">H", len(rtp)) + rtp)
                except OSError:  # the client has left
                    return
                time.sleep(0.002)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"rtsp://127.0.0.1:{server.server_address[1]}/camera"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
