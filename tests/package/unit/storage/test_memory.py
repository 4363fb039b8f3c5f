"""A backlog lives on the disk: a million records cost no more memory than a thousand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BACKLOG = """
import asyncio, os, resource, sys
from pathlib import Path
from omnirelay.storage import SqliteLog
from omnirelay.testing.batches import Chain
from omnirelay.wire.codec import decode_header

async def main():
    log = await SqliteLog.open(Path(sys.argv[1]), cluster="us", decode_header=decode_header)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chain = Chain("us")
    for _ in range(125):
        await asyncio.gather(*(log.append(chain.next(count=1_000, records=os.urandom(120_000))) for _ in range(8)))
    after = records = 0
    while batches := await log.read("us", after, 1 << 20):
        after = batches[-1].header.last_sequence
        records += sum(batch.header.count for batch in batches)
    await log.close()
    print(records, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)

asyncio.run(main())
"""


def test_a_million_records_behind(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", BACKLOG, tmp_path], capture_output=True, text=True, check=True)
    records, grown_kib = map(int, ran.stdout.split())
    assert records == 1_000_000
    assert grown_kib < 64 * 1024, "16 MiB of tail, two page caches of 8 MiB, and what is on its way"
