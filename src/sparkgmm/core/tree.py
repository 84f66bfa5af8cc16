"""The one order in which what many partitions say is added: a tree of fixed shape.

Neighbouring partitions are added in their order, ARITY of them at a time, then those groups in the
same way, up to one. The shape is that of the partitions' numbers alone, so the bits do not depend
on where a group is added: on the driver, or on the executors where it would be too much for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

# So many partitions and fewer are added in a row, as they were before there was a tree. A group's
# results are in the memory of one worker while it is added.
ARITY = 32


def groups(n: int) -> int:
    """Return how many groups so many neighbours make."""
    return -(-n // ARITY)


def group_of(number: int) -> int:
    """Return the group of a partition, or of a group, by its number."""
    return number // ARITY


def add_groups(
    results: Iterable[tuple[int, T]], combine: Callable[[Sequence[T]], T]
) -> Iterator[tuple[int, T]]:
    """Add the results of each group in the order of their numbers; they may come in any."""
    members: dict[int, list[tuple[int, T]]] = {}
    for number, result in results:
        members.setdefault(group_of(number), []).append((number, result))
    for group in sorted(members):
        ordered = sorted(members[group], key=lambda member: member[0])
        yield group, combine([result for _, result in ordered])


def add_in_tree(results: Iterable[tuple[int, T]], combine: Callable[[Sequence[T]], T]) -> T:
    """Add up numbered results, of at least one partition, or of groups that were added already.

    `combine` adds a sequence in its order, and returns the only one of a sequence as it is.
    """
    level = list(results)
    while len(level) > 1 or level[0][0] > 0:
        level = list(add_groups(level, combine))
    return level[0][1]
