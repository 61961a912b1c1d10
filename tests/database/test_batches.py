"""Batches have a bounded size and together all items."""

from longtake.database.batches import batches


def test_batches_have_all_items_in_order() -> None:
    assert list(batches(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batches(range(4), 2)) == [[0, 1], [2, 3]]
    assert list(batches([])) == []


def test_items_are_read_when_they_are_needed() -> None:
    items = iter(range(5))
    assert next(batches(items, 2)) == [0, 1]
    assert list(items) == [2, 3, 4]
