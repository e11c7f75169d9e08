"""What others asked Gemini, recorded, is what we ask it."""

import pytest

from net.call import Call
from providers.gemini.chat import Gemini
from providers.wire.image_room import Room
from tests import recordings
from tests.providers.gemini import recordings as gemini_recordings
from tests.providers.recorded_chats import Case, is_geminis
from tests.providers.requests_and_routes import chat, route


def recorded() -> list[Case]:
    return recordings.some(
        [
            Case(recording, exchange)
            for recording in recordings.load("gemini")
            for exchange in recording.exchanges
            if is_geminis(exchange) and gemini_recordings.request(exchange)
        ]
    )


def test_what_others_asked_gemini_is_what_we_ask(subtests: pytest.Subtests) -> None:
    for case in recorded():
        with subtests.test(str(case)):
            request = chat(**gemini_recordings.request(case.exchange) or {})
            way = route("gemini", model=case.recording.model)

            ours = Gemini().payload(request, way, None, Room(Call(5)))

            theirs = gemini_recordings.plain(case.exchange["request"]["body"])
            assert gemini_recordings.essence(ours) == gemini_recordings.essence(theirs)
