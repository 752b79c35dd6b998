"""`python -m publishing`, as setup/release runs it."""

import sys

from publishing.main import main

sys.exit(main())
