"""The built-in provider: it needs no network, labels its answers, and fails on request."""

from providers.sandbox.chat import Sandbox
from providers.sandbox.image import SandboxImages

provider = Sandbox()
images = SandboxImages()
