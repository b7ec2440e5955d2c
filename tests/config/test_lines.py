"""Line numbers of keys, whatever TOML they stand in."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from config.lines import Lines, key_lines

TEXT = '''\
a = 1            # 1
[t."quoted key"]
b = [
  "x = 1",       # no key
  2,
]
c = """
d = 2
"""
e = { f = 1, g = "h = 3" }
[[l]]
m = 1
  [[l.n]]
  o = 1
  [[l.n]]
  o = 2
[[l]]
m = 2
  [[l.n]]
  o = 3
'''


def test_keys_tables_and_arrays_have_their_lines() -> None:
    lines = key_lines(TEXT)
    assert lines[("a",)] == 1
    assert lines[("t", "quoted key", "b")] == 3
    assert lines[("t", "quoted key", "c")] == 7
    assert ("d",) not in lines
    assert lines[("t", "quoted key", "e", "f")] == 10
    assert lines[("l", 0, "m")] == 12
    assert lines[("l", 0, "n", 1, "o")] == 16
    assert lines[("l", 1, "n", 0, "o")] == 20
    assert Lines(TEXT).of(("l", 1, "n", 0, "missing")) == 19
    assert Lines(TEXT).of(("nothing",)) == 1


@given(st.text(alphabet="ab=[]{}\"'\n#.\\ 1", max_size=200))
def test_any_text_is_survived_and_top_level_keys_are_found(text: str) -> None:
    lines = key_lines(text)
    try:
        parsed = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    known = {path[0] for path in lines if path}
    assert {k for k in parsed if k} <= {str(k) for k in known}
