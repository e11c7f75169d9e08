"""Pictures that are drawn here: of the size asked for, and each says what it is."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from models.errors import JobCancelled
from models.image import Size
from net.call import Call
from providers import images
from providers.image import DrawRequest, DrawResult, Picture
from providers.sandbox import image as sandbox_images
from tests.upstream import ROOT

PROMPT = "A lion cooking pasta, wearing a hat of some sort."


def draw(
    folder: Path, count: int = 1, prompt: str = PROMPT, call: Call | None = None
) -> DrawResult:
    wanted = DrawRequest("sandbox/image", prompt, count, folder, {"size": "256x256"})
    return images["sandbox"].draw(wanted, "", call or Call(60), unexpected)


def unexpected(operation_id: str) -> None:
    pytest.fail("Nothing goes on after the answer.")


def files(drawn: DrawResult) -> list[bytes]:
    pictures = [picture for picture in drawn.pictures if isinstance(picture, Picture)]
    assert len(pictures) == len(drawn.pictures)
    return [picture.path.read_bytes() for picture in pictures]


def test_as_many_pictures_as_wanted_are_files_in_the_folder(tmp_path: Path) -> None:
    drawn = draw(tmp_path, 4)

    assert len(set(files(drawn))) == 4
    assert len(list(tmp_path.iterdir())) == 4
    assert all(isinstance(each, Picture) and not each.revised_prompt for each in drawn.pictures)
    assert drawn.usage is None


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        ({}, (1024, 1024)),
        ({"size": "256x256"}, (256, 256)),
        ({"size": "1536x640"}, (1536, 640)),
        ({"size": "64x2048"}, (64, 2048)),
    ],
)
def test_a_picture_is_a_png_of_the_size_asked_for(
    tmp_path: Path, sent: dict[str, str], size: tuple[int, int]
) -> None:
    wanted = DrawRequest("sandbox/image", PROMPT, 1, tmp_path, sent)
    drawn = images["sandbox"].draw(wanted, "", Call(60), unexpected)

    (picture,) = drawn.pictures
    assert isinstance(picture, Picture)
    with Image.open(picture.path) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", size)


def test_the_same_prompt_makes_the_same_pictures(tmp_path: Path) -> None:
    assert files(draw(tmp_path, 2)) == files(draw(tmp_path, 2))
    assert files(draw(tmp_path, 2)) != files(draw(tmp_path, 2, "Another."))


def test_the_label_the_number_and_the_prompt_are_on_it() -> None:
    size = Size(256, 256)
    whole = sandbox_images.paint(PROMPT, size, "1 of 2")

    assert sandbox_images.paint(PROMPT, size, "2 of 2").tobytes() != whole.tobytes()
    written = sandbox_images.paint(PROMPT, Size(1024, 1024), "1 of 2")
    assert sandbox_images.TEXT_COLOUR in {colour for _, colour in written.getcolors(2**20) or ()}
    # The label takes up most of the first quarter's width, in white.
    label = whole.crop((0, 0, 256, 80)).convert("L").point(lambda level: 255 * (level > 200))
    left, _, right, _ = label.getbbox() or (0, 0, 0, 0)
    assert right - left > 150


@given(st.text(max_size=300), st.integers(20, 400))
def test_lines_have_all_words_and_fit(text: str, width: int) -> None:
    font = ImageFont.load_default(12)

    found = list(sandbox_images.lines(text, font, width))

    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(font.getlength(line) <= width for line in found)


@given(st.text(max_size=200), st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_no_prompt_and_no_size_is_too_odd_to_draw(prompt: str, sides: tuple[int, int]) -> None:
    assert sandbox_images.paint(prompt, Size(*sides), "1 of 1").size == sides


def test_a_very_long_prompt_takes_no_longer(tmp_path: Path) -> None:
    longest = "word " * 6400

    assert files(draw(tmp_path, prompt=longest))


def test_an_aborted_call_draws_no_more(tmp_path: Path) -> None:
    reason = JobCancelled("The job was cancelled.")
    call = AbortedLater(reason, after=2)

    with pytest.raises(JobCancelled) as raised:
        draw(tmp_path, 4, call=call)

    assert raised.value is reason
    assert len(list(tmp_path.iterdir())) == 2


class AbortedLater(Call):
    """A call that is aborted when it was looked at so many times."""

    def __init__(self, reason: JobCancelled, after: int) -> None:
        super().__init__(60)
        self._why, self._left = reason, after

    def check(self) -> None:
        if self._left == 0:
            self.abort(self._why)
        self._left -= 1
        super().check()


def test_who_knows_the_providers_has_not_loaded_pillow() -> None:
    command = "import providers, sys; print('PIL' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout == "False\n"
