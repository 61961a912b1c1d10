"""The shares of the senders of webhooks: what one key or host can use, and the pauses of receivers that hang."""

import pytest

from longtake.queue.shares import FIRST_PAUSE_S, LONGEST_PAUSE_S, Receiver, SenderShares


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shares(clock: Clock) -> SenderShares:
    return SenderShares(16, clock=clock)


def reserved(shares: SenderShares, *receivers: Receiver) -> int:
    """Reserves senders for the receivers in turn until none gets one, and returns how many were reserved."""
    count = 0
    while more := sum(shares.reserve(receiver) for receiver in receivers):
        count += more
    return count


def test_a_host_uses_a_third_and_a_key_half_of_the_senders(shares: SenderShares) -> None:
    assert reserved(shares, Receiver("one", "a")) == 6
    assert reserved(shares, Receiver("one", "b"), Receiver("one", "c")) == 2
    assert not shares.reserve(Receiver("two", "a")), "the host has its share, whoever sends to it"
    assert shares.reserve(Receiver("two", "d"))


def test_some_keys_with_many_hosts_leave_a_sender_for_the_next_key(shares: SenderShares) -> None:
    for number in range(4):
        reserved(shares, *(Receiver(f"key {number}", f"host {number}.{host}") for host in range(50)))
    assert shares.reserve(Receiver("another", "elsewhere"))


def test_a_released_sender_is_free_again(shares: SenderShares) -> None:
    receiver = Receiver("one", "a")
    for _ in range(reserved(shares, receiver)):
        shares.release(receiver)
    assert shares.free() == 16
    assert shares.busy().receivers == frozenset()
    assert reserved(shares, receiver) == 6


def test_a_receiver_that_hangs_is_paused_then_tried_with_one_webhook_until_it_answers(
    shares: SenderShares, clock: Clock
) -> None:
    hanging, other = Receiver("one", "a"), Receiver("two", "a")
    for _ in range(3):  # They hang at the same time, so they count once.
        shares.report(hanging, hung=True)
    assert shares.pause_s(hanging) == FIRST_PAUSE_S
    assert not shares.reserve(hanging)
    assert shares.reserve(other), "another key's webhooks to the host are not paused"
    clock.now += FIRST_PAUSE_S
    assert reserved(shares, hanging) == 1
    shares.release(hanging)
    shares.report(hanging, hung=True)
    assert shares.pause_s(hanging) == 2 * FIRST_PAUSE_S
    clock.now += 2 * FIRST_PAUSE_S
    shares.report(hanging, hung=False)
    assert reserved(shares, hanging) > 1


def test_pauses_grow_to_the_longest_one(shares: SenderShares, clock: Clock) -> None:
    receiver = Receiver("one", "a")
    for _ in range(2000):
        shares.report(receiver, hung=True)
        clock.now += LONGEST_PAUSE_S
    shares.report(receiver, hung=True)
    assert shares.pause_s(receiver) == LONGEST_PAUSE_S
