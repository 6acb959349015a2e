"""A deposit whose spool file cannot be written, with real threads and a real full device."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from ekiden.base.envelope import Envelope, Origin
from ekiden.runtime.deposit import Deposit
from ekiden.runtime.frames import Accepted, Rejected, SpoolGrant
from ekiden.runtime.intake import Intake


class FullDevice:
    """An intake that grants files which take nothing."""

    inline = 1000

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.writers = ThreadPoolExecutor(max_workers=1)
        self.released: list[str] = []

    def request_spool(self, granted: Any) -> None:
        self.loop.call_soon(granted, SpoolGrant(1, "file"), os.open("/dev/full", os.O_RDWR | os.O_CLOEXEC))

    def release_spool(self, spool: str) -> None:
        self.released.append(spool)


@pytest.fixture
def no_collection() -> Any:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def refused(content: bytes, threads: bool = True) -> tuple[Accepted | Rejected, list[str]]:
    """The answer to a content that could not be written, and the files that were given back."""
    loop = asyncio.get_running_loop()
    intake = FullDevice(loop)
    if not threads:
        # From now on it raises what it raises where no thread can be made.
        intake.writers.shutdown()
    answered: asyncio.Future[Accepted | Rejected] = loop.create_future()
    deposit = Deposit(cast(Intake, intake), lambda: None)
    deposit.write(content)
    deposit.commit(Envelope(b"", []), Origin("smtp", 1, 2), answered.set_result)
    answer = await asyncio.wait_for(answered, 60)
    intake.writers.shutdown()
    return answer, intake.released


def test_what_a_full_device_refuses_is_not_kept_in_memory(no_collection: None) -> None:
    """Found by the soak: each refused content stayed in smtpd's memory, held by its own traceback."""
    content = os.urandom(20_000)
    answer, released = asyncio.run(refused(content))
    assert isinstance(answer, Rejected)
    assert (answer.code, answer.status) == (452, "4.3.1")
    assert released == ["file"]
    # The error's traceback would hold the calls, and they the content.
    assert not [one for one in gc.get_objects() if isinstance(one, OSError) and one.errno == errno.ENOSPC]


def test_a_content_that_no_thread_writes_is_refused() -> None:
    answer, released = asyncio.run(refused(bytes(20_000), threads=False))
    assert isinstance(answer, Rejected)
    assert (answer.code, answer.status) == (452, "4.3.1")
    assert released == ["file"]
