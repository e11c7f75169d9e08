"""The built-in provider: it answers without network, plainly labelled, and fails when told to."""

from providers.sandbox.chat import Sandbox
from providers.sandbox.image import SandboxImages

provider = Sandbox()
images = SandboxImages()
