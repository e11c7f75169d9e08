"""What the vendors really said goes through the product and comes out the same."""

import json
from typing import Any

import pytest

from tests.conftest import Server
from tests.stack import Account, fetch
from tests.upstream import Upstream
