"""``python -m aiida_mlip_autopipe.worker``."""

import sys

from aiida_mlip_autopipe.worker import main

if __name__ == '__main__':
    sys.exit(main())
