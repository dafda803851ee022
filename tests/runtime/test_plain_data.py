import pytest

from hatch_bpf.runtime.plain_data import PlainData


class Point(PlainData):
    x: int
    y: int
    name: str = "unnamed"


def test_values_by_position_and_by_name() -> None:
    assert vars(Point(1, y=2)) == {"x": 1, "y": 2}
    assert Point(1, 2).name == "unnamed"
    assert Point(1, 2, "origin").name == "origin"


@pytest.mark.parametrize(("values", "named"), [((1,), {}), ((1, 2, "a", 3), {}), ((1, 2), {"z": 3})])
def test_missing_or_unknown_values_are_an_error(values: tuple[int, ...], named: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point takes x, y, name"):
        Point(*values, **named)
