"""Google's Gemini, through its own API."""

from providers.gemini.chat import Gemini

provider = Gemini()
