"""An event stream with one fault, which the generator must notice: `python faulty.py PORT skip|repeat|close|none`."""

import asyncio
import re
import sys
import time

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
AT = 150  # the event with the fault


async def main(port: int, fault: str) -> None:
    viewers: list[asyncio.StreamWriter] = []
    published = 0

    def publish() -> None:
        nonlocal published
        block = b"data: ^%019d.%07d x\n\n" % (time.monotonic_ns(), published)
        for viewer in viewers:
            viewer.write(block * (published != AT or {"skip": 0, "repeat": 2}.get(fault, 1)))
        if published == AT and fault == "close":
            viewers.pop().close()
        published += 1

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            viewers.append(writer)
            writer.write(HEAD)
        else:
            viewers[:] = [viewer for viewer in viewers if not viewer.is_closing()]
            while line := await reader.readline():
                if found := re.match(rb"upto (\d+)\.", line):
                    while published < int(found[1]):
                        publish()
        await reader.read()
        writer.close()
        viewers[:] = [viewer for viewer in viewers if viewer is not writer]

    async with await asyncio.start_server(connected, "127.0.0.1", port) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
