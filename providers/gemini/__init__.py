"""Google's Gemini, by its own API."""

from providers.gemini.chat import Gemini

provider = Gemini()
