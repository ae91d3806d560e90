"""What ends the parts of a chain: a deadline, and a cancel from outside."""

from __future__ import annotations

import asyncio

import pytest

from redraft.revision.cancel import CancelToken, OutOfTime


def test_a_token_that_was_cancelled_before_lets_no_body_begin() -> None:
    async def main() -> None:
        token, begun = CancelToken(), []
        token.cancel()
        with pytest.raises(OutOfTime):
            async with token.until(None):
                begun.append(True)
        assert not begun

    asyncio.run(main())


def test_a_limit_holds_for_all_its_bodies() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with CancelToken().limit(loop.time() + 0.05) as limit:
            with limit:
                await asyncio.sleep(0)
            with pytest.raises(OutOfTime), limit:
                await asyncio.sleep(60)
            with pytest.raises(OutOfTime), limit:
                raise AssertionError("it began")

    asyncio.run(main())


def test_a_body_that_ended_is_not_cancelled_later() -> None:
    async def main() -> None:
        token = CancelToken()
        with token.limit(None) as limit:
            with limit:
                pass
            token.cancel()
            await asyncio.sleep(0.01)  # not in a body

    asyncio.run(main())


def test_a_cancellation_from_elsewhere_stays_one() -> None:
    async def main() -> None:
        token = CancelToken()

        async def work() -> None:
            async with token.until(None):
                await asyncio.sleep(60)

        working = asyncio.create_task(work())
        await asyncio.sleep(0)
        token.cancel()
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working

    asyncio.run(main())
