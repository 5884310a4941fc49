from envoy_filter.backoff import Backoff


def test_doubles_up_to_the_most() -> None:
    backoff = Backoff(most=0.3)
    assert [backoff.pause() for _ in range(6)] == [0.0, 0.05, 0.1, 0.2, 0.3, 0.3]
    backoff.reset()
    assert [backoff.pause() for _ in range(2)] == [0.0, 0.05]


def test_never_longer_than_the_most() -> None:
    backoff = Backoff(most=0.01)
    assert [backoff.pause() for _ in range(3)] == [0.0, 0.01, 0.01]
