"""The simulator itself: time, turns, processes, streams, and that a seed says everything."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from omnirelay.errors import Unreachable
from omnirelay.failover.evidence import LeaseClaim
from omnirelay.ports.coordination import Put
from omnirelay.runtime.documents import LEASES
from omnirelay.testing.simulation.checkers import Facts
from omnirelay.testing.simulation.clock import VirtualClock
from omnirelay.testing.simulation.loop import Process, Stuck, VirtualLoop, current_process
from omnirelay.testing.simulation.network import GIVEN_UP_SECONDS, Network
from omnirelay.testing.simulation.scenario import load
from omnirelay.testing.simulation.store import SimulatedStore

SCENARIOS = Path(__file__).parent / "scenarios"


def play(work, seed=0):
    """Runs `work(loop)` to its end in virtual time."""
    loop = VirtualLoop(random.Random(seed))
    try:
        return loop.run_until_complete(work(loop))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.call_later(0.0, loop.stop)
        loop.run_forever()
        loop.close()


class TestLoop:
    def test_time_passes_only_when_nothing_is_left_to_do(self):
        async def work(loop):
            await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(60))
            return loop.time()

        assert play(work) == 3600

    def test_the_seed_decides_whose_turn_it_is_and_nothing_else_does(self):
        def order(seed):
            async def work(loop):
                seen = []

                async def speak(name):
                    for number in range(5):
                        seen.append((name, number))
                        await asyncio.sleep(0)

                await asyncio.gather(*(loop.spawn(Process(name), speak(name)) for name in "abc"))
                return seen

            return play(work, seed)

        assert order(1) == order(1)
        assert len({tuple(order(seed)) for seed in range(5)}) > 1
        assert [number for name, number in order(3) if name == "a"] == [0, 1, 2, 3, 4]

    def test_a_paused_process_stands_still_and_goes_on(self):
        async def work(loop):
            process, ticks = Process("p"), []

            async def tick():
                while True:
                    ticks.append(loop.time())
                    await asyncio.sleep(1)

            loop.spawn(process, tick())
            await asyncio.sleep(1.5)
            process.paused = True
            await asyncio.sleep(10)
            process.paused = False
            await asyncio.sleep(1)
            return ticks

        assert play(work) == [0.0, 1.0, 11.5, 12.5]

    def test_a_killed_process_runs_no_finaliser(self):
        ended = []

        async def work(loop):
            process = Process("p")

            async def hold():
                try:
                    await asyncio.sleep(5)
                finally:
                    ended.append(current_process().name)

            task = loop.spawn(process, hold())
            await asyncio.sleep(1)
            loop.kill(process)
            task.cancel()
            await asyncio.sleep(10)
            assert not ended
            loop.bury(process)

        play(work)
        assert ended == ["p"]

    def test_threads_are_served_at_once(self):
        async def work(loop):
            return await asyncio.to_thread(lambda: 42)

        assert play(work) == 42

    def test_a_loop_without_a_future_is_stuck(self):
        async def work(loop):
            await loop.create_future()

        with pytest.raises(Stuck):
            play(work)


class TestNetwork:
    @staticmethod
    async def echo(stream, caller):
        while (message := await stream.receive()) is not None:
            await stream.send((caller, message))

    def meet(self, work):
        async def both(loop):
            network = Network(loop, random.Random(1))
            network.listen("server", "echo", Process("server"), self.echo)
            return await work(loop, network, await network.dial("client", "server", "echo"))

        return play(both)

    def test_a_stream_is_in_order(self):
        async def work(loop, network, stream):
            for number in range(10):
                await stream.send(number)
            return [await stream.receive() for _ in range(10)]

        assert self.meet(work) == [("client", number) for number in range(10)]

    def test_a_cut_link_holds_back_until_it_heals(self):
        async def work(loop, network, stream):
            network.cut("client", "server")
            await stream.send("late")
            await asyncio.sleep(2)
            network.heal("client", "server")
            answer = await stream.receive()
            return answer, loop.time() > 2

        assert self.meet(work) == (("client", "late"), True)

    def test_a_cut_that_lasts_breaks_the_stream(self):
        async def work(loop, network, stream):
            network.cut("server", "client")
            await asyncio.sleep(2 * GIVEN_UP_SECONDS)
            with pytest.raises(Unreachable):
                await stream.receive()
            with pytest.raises(Unreachable):
                await network.dial("client", "server", "echo")

        self.meet(work)

    def test_a_slow_reader_holds_the_sender_up(self):
        async def work(loop, network, stream):
            sent = []

            async def pour():
                for number in range(1000):
                    await stream.send(number)
                    sent.append(number)

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pour(), 10)
            return len(sent)

        assert self.meet(work) < 100


class TestFacts:
    def test_the_lease_of_a_mark_on_anothers_claim_says_nothing_about_its_writers_own(self):
        """A cluster that had left two marks was taken for one whose lease had ended as soon as the marks had."""

        async def work(loop):
            store = SimulatedStore(VirtualClock(loop.time))
            client = store.connect(lambda: 0.0)
            cluster = SimpleNamespace(name="us", client=client)
            facts = Facts({"us": cluster}, store)

            async def put(namespace, claim):
                lease = await client.grant_lease(6.0)
                await client.transact([], [Put(LEASES.key(namespace), LEASES.encode(claim), lease)])
                for changes in facts.new_changes():
                    facts.take_changes(changes)
                return lease

            own = await put("orders", LeaseClaim("us", 2))
            for namespace in ("default", "audit"):
                await put(namespace, LeaseClaim("eu", 0, revoked=True))
            await asyncio.sleep(4)
            await client.keep_alive(own)
            await asyncio.sleep(4)
            marks_ended = facts.leases_stand(cluster)
            await put("default", LeaseClaim("eu", 0, revoked=True))
            await asyncio.sleep(4)
            return marks_ended, facts.leases_stand(cluster)

        assert play(work) == (True, False)


class TestScenarios:
    def test_an_unknown_fault_is_refused(self, tmp_path: Path):
        path = tmp_path / "odd.toml"
        path.write_text("[faults]\nearthquake = 1\n")
        with pytest.raises(ValueError, match="earthquake"):
            load(path)

    def test_a_seed_says_everything(self):
        """The same run, whatever the hashes of this process and its memory's addresses."""
        command = [sys.executable, "-m", "omnirelay.testing.simulation", str(SCENARIOS / "everything.toml")]
        command += ["--seed", "3", "--steps", "800"]
        said = {
            subprocess.run(
                command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
            ).stdout
            for seed in ("1", "2")
        }
        assert len(said) == 1
