"""Iterators between threads: order, bound, errors, and an end when the consumer leaves."""

import threading
import time

import pytest

from fmcib_module.streams import prefetch


def test_items_come_out_in_order():
    assert [n for n, _ in prefetch(iter(range(100)), depth=3)] == list(range(100))


def test_the_producer_runs_at_most_depth_ahead():
    made = []

    def produce():
        for n in range(50):
            made.append(n)
            yield n

    for n, _ in prefetch(produce(), depth=4):
        time.sleep(0.002)
        assert len(made) <= n + 1 + 4 + 1  # what is out, the queue, and the one waiting for room


def test_an_error_is_raised_after_the_items_before_it():
    def produce():
        yield 1
        raise ValueError("broken")

    stream = prefetch(produce(), depth=2)
    assert next(stream)[0] == 1
    with pytest.raises(ValueError, match="broken"):
        next(stream)


def test_the_thread_ends_and_the_iterator_is_closed_when_the_consumer_leaves():
    closed = threading.Event()

    def produce():
        try:
            yield from range(1000)
        finally:
            closed.set()

    stream = prefetch(produce(), depth=2)
    assert next(stream)[0] == 0
    stream.close()
    assert closed.wait(2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_an_item_says_whether_the_next_one_is_there():
    go_on = threading.Event()

    def produce():
        yield "first"
        go_on.wait(5)
        yield "second"

    stream = prefetch(produce(), depth=2)
    assert next(stream) == ("first", False)
    go_on.set()
    assert next(stream)[0] == "second"
    quick = prefetch(iter("ab"), depth=2)
    item = next(quick)
    time.sleep(0.1)
    assert item[0] == "a"
    assert next(quick)[1] is True  # the end is there
