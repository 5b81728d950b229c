"""Which node is asked next."""

from hypothesis import given
from hypothesis import strategies as st

from kvs.client.endpoints import PAUSE_MAX_S, Endpoints

A, B, C = "http://a", "http://b", "http://c"


def test_a_node_that_answers_is_asked_again() -> None:
    nodes = Endpoints([A, B, A])
    assert nodes.urls == (A, B)
    for now_s in range(5):
        assert nodes.choose(now_s) == (A, 0.0)
        nodes.answered(A)


def test_the_next_one_is_asked_when_it_fails_and_then_kept() -> None:
    nodes = Endpoints([A, B, C])
    nodes.failed(A, 0.0, 1.0)
    assert nodes.choose(0.0).url == B
    nodes.failed(B, 0.0, 1.0)
    assert nodes.choose(0.0).url == C
    nodes.answered(C)
    assert nodes.choose(100.0).url == C


def test_when_all_have_failed_the_shortest_pause_is_waited_for() -> None:
    nodes = Endpoints([A, B])
    nodes.failed(A, 0.0, 1.0, pause_s=3.0)
    nodes.failed(B, 0.0, 1.0, pause_s=2.0)
    assert nodes.choose(0.5) == (B, 1.5)
    nodes.failed(B, 2.0, 1.0, pause_s=2.0)
    assert nodes.choose(2.0) == (A, 1.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10), st.floats(0, 1)), max_size=50))
def test_pauses_grow_to_a_bound_and_end_with_an_answer(steps: list[tuple[bool, float, float]]) -> None:
    nodes, now_s = Endpoints([A]), 0.0
    for is_answer, pass_s, chance in steps:
        now_s += pass_s
        if is_answer:
            nodes.answered(A)
            assert nodes.choose(now_s).wait_s == 0
        else:
            nodes.failed(A, now_s, chance)
            assert 0 < nodes.choose(now_s).wait_s <= PAUSE_MAX_S
