import os
import threading
import time

from aiia_pipelines.jobs import effort
from aiia_pipelines.jobs.counts import peak_memory
from aiia_pipelines.jobs.effort import Piece

MIB = 1 << 20


def work(seconds: float) -> None:
    """Use so much CPU on this thread."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_piece_has_the_cpu_of_its_thread_and_not_its_waiting() -> None:
    piece = Piece()
    work(0.05)
    time.sleep(0.1)
    piece.end()
    assert 0.05 <= piece.cpu < 0.1
    assert piece.busy >= 0.15


def test_of_pieces_inside_each_other_the_inner_one_has_the_cpu() -> None:
    before = time.thread_time()
    outer = Piece()
    work(0.02)
    inner = Piece()
    work(0.05)
    inner.end()
    work(0.02)
    outer.end()
    assert inner.cpu >= 0.05
    assert 0.04 <= outer.cpu < inner.cpu
    assert outer.cpu + inner.cpu <= time.thread_time() - before


def test_a_thread_accounts_for_one_that_worked_for_it() -> None:
    handed: list[float] = []

    def other() -> None:
        work(0.03)
        handed.append(effort.unlent())
        work(0.02)
        handed.append(effort.unlent())

    piece = Piece()
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    effort.lend(sum(handed))
    piece.end()
    assert handed[0] >= 0.03
    assert 0.02 <= handed[1] < 0.03
    assert 0.05 <= piece.cpu < 0.1


def test_who_is_alone_at_work_has_what_unknown_threads_used() -> None:
    piece, idle = Piece(), Piece()
    thread = threading.Thread(target=work, args=(0.05,))
    thread.start()
    thread.join()
    idle.end()
    piece.end(alone=True, besides=0.01)
    assert idle.cpu < 0.03
    assert piece.cpu >= 0.04


def test_a_piece_sees_the_memory_that_came_and_went() -> None:
    before = peak_memory()
    piece = Piece()
    held = bytearray(b"x") * (before + 64 * MIB)
    del held
    piece.end()
    assert before + 64 * MIB < piece.peak <= peak_memory() + MIB


def test_a_fork_counts_its_cpu_from_nothing_and_its_memory_from_what_it_shares() -> None:
    held = bytearray(b"x") * (64 * MIB)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        told = f"{effort.of_process()} {effort.claimed()} {peak_memory()}"
        os.write(write, told.encode())
        os._exit(0)
    os.waitpid(child, 0)
    cpu, claimed, peak = os.read(read, 200).decode().split()
    os.close(read)
    os.close(write)
    assert len(held) < int(peak) <= peak_memory()
    assert float(cpu) < 1.0
    assert float(claimed) == 0.0


def test_what_one_job_run_used_is_not_told_of_the_next_in_the_same_process() -> None:
    work(0.02)
    effort.claim()
    assert effort.of_process() - effort.claimed() < 0.02
