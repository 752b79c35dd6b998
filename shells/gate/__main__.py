"""`python -m shells.gate`: what sshd runs for a key of the gate."""

import sys

from shells.gate.serve import main

sys.exit(main())
