"""The index of waiting requests against a plain look at all of them."""

from hypothesis import given
from hypothesis import strategies as st

from coordinator.pending import OPEN, Pending
from squash import images
from squash.model import Trigger

IMAGES = st.sampled_from(["a", "a:latest", "docker.io/library/a", "a:1", "b", "sha256:" + "ab" * 32])
CHOICES = st.sampled_from([OPEN, "x", "y"])
Wish = tuple[str, str, str, str, Trigger]
WISHES = st.tuples(IMAGES, CHOICES, CHOICES, CHOICES, st.sampled_from(Trigger))


def fits(
    wish: Wish, image: str, others: set[str], debugger: str, process: str, namespace: str, trigger: Trigger
) -> bool:
    return (
        images.same(wish[0], image, others)
        and (OPEN in (wish[1], debugger) or wish[1] == debugger)
        and (OPEN in (wish[2], process) or wish[2] == process)
        and wish[3] in (OPEN, namespace)
        and wish[4] is trigger
    )


@given(
    st.lists(st.one_of(WISHES, st.integers(0, 30)), max_size=40),
    WISHES,
    st.sets(IMAGES, max_size=3),
    st.sets(st.integers(0, 30)),
)
def test_index_equals_a_scan(steps: list[Wish | int], ask: Wish, others: set[str], unusable: set[int]) -> None:
    pending, plain = Pending(), dict[str, Wish]()
    for number, step in enumerate(steps):
        if isinstance(step, int):
            pending.remove(str(step))
            plain.pop(str(step), None)
        else:
            pending.add(str(number), *step)
            plain[str(number)] = step
    usable = {name: wish for name, wish in plain.items() if int(name) not in unusable}
    expected = next((name for name, wish in usable.items() if fits(wish, ask[0], others, *ask[1:])), None)
    known_as = images.keys(ask[0], others)
    assert pending.oldest(known_as, *ask[1:3], usable=usable.__contains__, namespace=ask[3], trigger=ask[4]) == expected
    alike = [name for name, wish in plain.items() if images.same(wish[0], ask[0], others) and wish[4] is ask[4]]
    assert list(pending.of_image(known_as, ask[4])) == alike
    repository = images.repository(ask[0])
    near = [name for name, wish in plain.items() if images.repository(wish[0]) == repository and wish[4] is ask[4]]
    assert list(pending.of_repository(repository, ask[4])) == near
    assert len(pending) == len(plain)
    assert all(name in pending for name in plain)


def test_all_gone_leaves_nothing() -> None:
    pending = Pending()
    for number in range(100):
        pending.add(str(number), f"image{number}", "gdb", OPEN)
    for number in range(100):
        pending.remove(str(number))
    assert not pending._buckets
    assert not pending._of_repository
