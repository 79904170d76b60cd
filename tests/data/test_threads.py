import threading

import pytest

from reid_core.data.threads import map_in_threads


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_every_item_once_and_in_order_with_few_under_way(threads):
    started, lock = [], threading.Lock()

    def square(number):
        with lock:
            started.append(number)
        return number * number

    results = map_in_threads(square, range(1000), threads)
    assert next(results) == 0 and len(started) <= 256
    assert list(results) == [number * number for number in range(1, 1000)]
    assert sorted(started) == list(range(1000))


def test_an_error_ends_it():
    with pytest.raises(ZeroDivisionError):
        list(map_in_threads(lambda number: 1 // number, range(3, -1, -1), 2))
    assert list(map_in_threads(str, [])) == []
