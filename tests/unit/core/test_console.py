import errno

import pytest

from petct_uad.core.console import console, fail_cleanly
from petct_uad.core.errors import ParamsError


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As join_ranks makes every process of a training but the first."""
    monkeypatch.setattr(console, "quiet", True)


@pytest.mark.parametrize(
    "error", [ParamsError("model.cmpt is wrong"), OSError(errno.ENOSPC, "No space left on device")]
)
def test_a_silent_process_still_says_why_it_stops(
    error: Exception, silent: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit), fail_cleanly():
        raise error
    assert str(error) in capsys.readouterr().err


@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO],
    ids=errno.errorcode.get,
)
def test_what_the_machine_lacks_is_said_without_a_traceback(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^1$"), fail_cleanly():
        raise OSError(number, "of the machine")
    assert "of the machine" in capsys.readouterr().err


def test_an_interrupt_says_what_is_kept_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match=r"^130$"), fail_cleanly():
        raise KeyboardInterrupt
    assert "last checkpoint" in capsys.readouterr().err


def test_a_mistake_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(OSError, match="odd"), fail_cleanly():
        raise OSError(errno.EINVAL, "odd")
