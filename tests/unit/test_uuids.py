"""The ids of versions: random UUIDs as RFC 9562 has them."""

from uuid import RFC_4122, UUID

from kvs.storage.record import UuidSource, derived_uuid, uuid_text

DRAWN = 1_000
"""More than one block of randomness holds."""


def test_every_one_is_a_random_uuid_and_its_own() -> None:
    draw = UuidSource()
    drawn = [draw() for _ in range(DRAWN)]
    assert len(set(drawn)) == DRAWN
    for raw in [*drawn, *(derived_uuid(raw, b"name") for raw in drawn)]:
        uuid = UUID(uuid_text(raw))
        assert (uuid.bytes, uuid.version, uuid.variant) == (raw, 4, RFC_4122)


def test_every_other_bit_is_drawn() -> None:
    draw = UuidSource()
    numbers = [int.from_bytes(draw()) for _ in range(DRAWN)]
    seen_set = seen_unset = 0
    for number in numbers:
        seen_set |= number
        seen_unset |= ~number
    fixed = UUID("00000000-0000-f000-c000-000000000000").int
    assert seen_set & seen_unset & (1 << 128) - 1 == (1 << 128) - 1 & ~fixed
